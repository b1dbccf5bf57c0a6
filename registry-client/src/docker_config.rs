//! Docker's `config.json`, read for credentials and changed by login and logout.
//!
//! | key of `auths` | stands for |
//! |---|---|
//! | `example.com`, `example.com:5000`, `https://example.com/`, `https://example.com/v2/` | the registry |
//! | `https://index.docker.io/v1/`, `docker.io`, `registry-1.docker.io` | Docker Hub |
//! | `example.com/team`, `example.com/team/app` (podman's) | the repositories below; the longest one that fits is used |
//!
//! A helper named in `credHelpers` for the registry, or in `credsStore` for all, is asked first. Then come the further files, in
//! which only `auths` and `credHelpers` are read. Unknown keys are kept; the file is replaced atomically, mode 0600.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::{Map, Value, json};

use crate::credentials::{CredentialError, CredentialSource, Credentials, FoundCredentials};
use crate::helper::{Helper, is_name};
use crate::origin::HUB;

const HUB_KEY: &str = "https://index.docker.io/v1/";
const HUB_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", HUB];
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_FILE: u64 = 16 << 20;

/// A `config.json`, and further files that are only read.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    path: PathBuf,
    further: Vec<PathBuf>,
    helper_directories: Vec<PathBuf>,
}

type Object = Map<String, Value>;

impl DockerConfig {
    /// Uses the file at `path`, which need not exist, and looks for credential helpers in `helper_directories` (the user's `PATH`).
    pub fn new(path: impl Into<PathBuf>, helper_directories: Vec<PathBuf>) -> Self {
        Self { path: path.into(), further: Vec::new(), helper_directories }
    }

    /// Also reads the file at `path` (podman's `auth.json`), after the ones before; it need not exist.
    #[must_use]
    pub fn and(mut self, path: impl Into<PathBuf>) -> Self {
        self.further.push(path.into());
        self
    }

    /// Tells whether others than its owner may read the file; not, when there is none.
    pub fn is_readable_by_others(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
    }

    /// Keeps credentials for `registry`, with the helper if one is configured; returns where they are now.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] naming the file or the helper.
    pub fn store(&self, registry: &str, credentials: &Credentials) -> Result<String, CredentialError> {
        let mut config = read(&self.path)?;
        if let Some(helper) = self.helper(&config, &self.path, registry)? {
            helper.store(key_of(registry), credentials)?;
            return Ok(helper.program().to_owned());
        }
        let auths = self.auths(&mut config)?;
        auths.retain(|key, _| !is_registry_key(key, registry));
        auths.insert(key_of(registry).to_owned(), entry_of(credentials));
        write(&self.path, &config)?;
        Ok(self.path.display().to_string())
    }

    /// Forgets the credentials for `registry`, in the helper as well; tells whether the file had some.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] naming the file or the helper.
    pub fn erase(&self, registry: &str) -> Result<bool, CredentialError> {
        let mut config = read(&self.path)?;
        if let Some(helper) = self.helper(&config, &self.path, registry)? {
            helper.erase(key_of(registry))?;
        }
        if !config.contains_key("auths") {
            return Ok(false);
        }
        let auths = self.auths(&mut config)?;
        let before = auths.len();
        auths.retain(|key, _| !is_registry_key(key, registry));
        let has_changed = auths.len() != before;
        if has_changed {
            write(&self.path, &config)?;
        }
        Ok(has_changed)
    }

    fn auths<'a>(&self, config: &'a mut Object) -> Result<&'a mut Object, CredentialError> {
        let auths = config.entry("auths").or_insert_with(|| json!({}));
        if auths.is_null() {
            *auths = json!({});
        }
        auths.as_object_mut().ok_or_else(|| not_docker(&self.path, "`auths` is not an object"))
    }

    /// Finds the helper that keeps the credentials of `registry`.
    fn helper(&self, config: &Object, path: &Path, registry: &str) -> Result<Option<Helper>, CredentialError> {
        let helpers = config.get("credHelpers").and_then(Value::as_object);
        let own = helpers.and_then(|helpers| {
            let entry = helpers.iter().find(|(key, _)| is_registry_key(key, registry));
            entry.and_then(|(_, name)| name.as_str())
        });
        let general = config.get("credsStore").and_then(Value::as_str).filter(|_| path == self.path);
        let Some(name) = own.or(general).filter(|name| !name.is_empty()) else { return Ok(None) };
        if !is_name(name) {
            return Err(CredentialError::HelperName { path: path.to_owned(), name: name.to_owned() });
        }
        Helper::find(name, &self.helper_directories, HELPER_TIMEOUT).map(Some)
    }

    fn find_in(&self, file: &Path, registry: &str, path: &str) -> Result<Option<FoundCredentials>, CredentialError> {
        let config = read(file)?;
        if let Some(helper) = self.helper(&config, file, registry)?
            && let Some(credentials) = helper.get(key_of(registry))?
        {
            return Ok(Some(FoundCredentials { credentials, source: helper.program().to_owned() }));
        }
        let Some(auths) = config.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let mut fitting: Vec<_> =
            auths.iter().filter_map(|(key, value)| Some((fit(key, registry, path)?, key, value))).collect();
        fitting.sort_by_key(|(length, ..)| std::cmp::Reverse(*length));
        for (_, key, value) in fitting {
            if let Some(credentials) = credentials_of(file, key, value)? {
                return Ok(Some(FoundCredentials { credentials, source: file.display().to_string() }));
            }
        }
        Ok(None)
    }
}

impl CredentialSource for DockerConfig {
    fn credentials(&self, registry: &str, path: &str) -> Result<Option<FoundCredentials>, CredentialError> {
        for file in std::iter::once(&self.path).chain(&self.further) {
            if let Some(found) = self.find_in(file, registry, path)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// Returns the key that docker uses for a registry.
fn key_of(registry: &str) -> &str {
    if registry == HUB { HUB_KEY } else { registry }
}

/// Splits a key into registry and path.
fn split_key(key: &str) -> (&str, &str) {
    let without_scheme = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let rest = without_scheme.unwrap_or(key).trim_end_matches('/');
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let registry = if HUB_NAMES.contains(&host) { HUB } else { host };
    (registry, if matches!(path, "v1" | "v2") { "" } else { path })
}

fn is_registry_key(key: &str, registry: &str) -> bool {
    split_key(key) == (registry, "")
}

/// Returns how long the path of a fitting key is; `None` when the key is for something else.
fn fit(key: &str, registry: &str, path: &str) -> Option<usize> {
    let (key_registry, key_path) = split_key(key);
    let rest = path.strip_prefix(key_path)?;
    let is_whole = key_path.is_empty() || rest.is_empty() || rest.starts_with('/');
    (key_registry == registry && is_whole).then_some(key_path.len())
}

fn credentials_of(file: &Path, key: &str, entry: &Value) -> Result<Option<Credentials>, CredentialError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Credentials::IdentityToken { token: token.to_owned() }));
    }
    if let Some(auth) = text("auth") {
        let bad = || CredentialError::Auth { path: file.to_owned(), key: key.to_owned() };
        let decoded =
            STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(bad)?;
        let (username, password) = decoded.split_once(':').ok_or_else(bad)?;
        // Docker pads passwords with NUL.
        let password = password.trim_end_matches('\0').to_owned();
        return Ok(Some(Credentials::Basic { username: username.to_owned(), password }));
    }
    let plain = text("username").zip(text("password"));
    Ok(plain.map(|(user, password)| Credentials::Basic { username: user.to_owned(), password: password.to_owned() }))
}

fn entry_of(credentials: &Credentials) -> Value {
    match credentials {
        Credentials::Basic { username, password } => {
            json!({ "auth": STANDARD.encode(format!("{username}:{password}")) })
        }
        Credentials::IdentityToken { token } => json!({ "identitytoken": token }),
    }
}

/// Reads a file; one that is missing or empty is an empty object.
fn read(path: &Path) -> Result<Object, CredentialError> {
    let fail = |source| CredentialError::Read { path: path.to_owned(), source };
    // Opening a FIFO would wait for its writer.
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Object::new()),
        Err(error) => return Err(fail(error)),
        Ok(metadata) if !metadata.is_file() => return Err(fail(io::Error::other("it is not a file"))),
        Ok(metadata) if metadata.len() > MAX_FILE => return Err(fail(io::ErrorKind::FileTooLarge.into())),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(fail)?;
    if bytes.trim_ascii().is_empty() {
        return Ok(Object::new());
    }
    serde_json::from_slice(&bytes).map_err(|source| CredentialError::Json { path: path.to_owned(), source })
}

/// Replaces a file atomically.
fn write(path: &Path, config: &Object) -> Result<(), CredentialError> {
    // A link to the file (of those who keep their settings elsewhere) stays one.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let fail = |source| CredentialError::Write { path: path.clone(), source };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(fail)?;
    let random = RandomState::new().build_hasher().finish();
    let temporary = directory.join(format!(".config.json.{random:016x}"));
    let written = write_new(&temporary, &pretty(config)).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        // The error that matters is the first.
        drop(fs::remove_file(&temporary));
        return Err(fail(error));
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(fail)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Writes JSON as docker does: indented by tabs.
fn pretty(config: &Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    config.serialize(&mut serializer).expect("JSON values can be written to memory");
    bytes
}

fn not_docker(path: &Path, what: &str) -> CredentialError {
    let source = <serde_json::Error as serde::de::Error>::custom(what);
    CredentialError::Json { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn config(json: &str) -> (TempDir, DockerConfig) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker/config.json");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, json).unwrap();
        let config = DockerConfig::new(path, vec![dir.path().to_owned()]);
        (dir, config)
    }

    fn basic(username: &str, password: &str) -> Credentials {
        Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
    }

    fn user(config: &DockerConfig, registry: &str, path: &str) -> Option<String> {
        match config.credentials(registry, path).unwrap()?.credentials {
            Credentials::Basic { username, .. } => Some(username),
            Credentials::IdentityToken { token } => Some(format!("token {token}")),
        }
    }

    fn auths(users: &[(&str, &str)]) -> String {
        let entries: Object =
            users.iter().map(|(key, user)| ((*key).to_owned(), entry_of(&basic(user, "p")))).collect();
        json!({ "auths": entries }).to_string()
    }

    fn install_helper(dir: &TempDir, name: &str, script: &str) {
        let path = dir.path().join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_longest_key_that_fits_is_used() {
        let keys = [
            ("https://index.docker.io/v1/", "hub"),
            ("example.com", "all"),
            ("example.com/team", "team"),
            ("example.com/team/app", "app"),
            ("https://old.example.com/v2/", "old"),
            ("http://other.example.com:5000", "other"),
        ];
        let (_dir, config) = config(&auths(&keys));
        let check = |registry: &str, path: &str, expected: Option<&str>| {
            assert_eq!(user(&config, registry, path).as_deref(), expected, "{registry}/{path}");
        };
        check("docker.io", "library/debian", Some("hub"));
        check("example.com", "x", Some("all"));
        check("example.com", "team", Some("team"));
        check("example.com", "team/other", Some("team"));
        check("example.com", "teamwork", Some("all"));
        check("example.com", "team/app/part", Some("app"));
        check("old.example.com", "v2/x", Some("old"));
        check("other.example.com:5000", "x", Some("other"));
        check("other.example.com", "x", None);
        check("ample.com", "x", None);
    }

    #[test]
    fn every_form_of_an_entry_is_read() {
        let (_dir, config) = config(
            r#"{"auths":{"a":{"auth":"YW5hOnA6cQ=="},"b":{"identitytoken":"t","auth":"YW5hOg=="},
                "c":{"username":"u","password":"p"},"d":{},"e":null}}"#,
        );
        assert_eq!(config.credentials("a", "").unwrap().unwrap().credentials, basic("ana", "p:q"));
        assert_eq!(user(&config, "b", "").as_deref(), Some("token t"));
        assert_eq!(user(&config, "c", "").as_deref(), Some("u"));
        assert_eq!(user(&config, "d", ""), None);
        assert_eq!(user(&config, "e", ""), None);
    }

    #[test]
    fn a_broken_file_is_an_error_and_a_missing_one_is_not() {
        let (dir, config) = config("{\"auths\":{\"a\":{\"auth\":\"!\"}}}");
        assert!(matches!(config.credentials("a", ""), Err(CredentialError::Auth { key, .. }) if key == "a"));
        fs::write(&config.path, "[]").unwrap();
        assert!(matches!(config.credentials("a", ""), Err(CredentialError::Json { .. })));
        fs::write(&config.path, " ").unwrap();
        assert_eq!(user(&config, "a", ""), None);
        let missing = DockerConfig::new(dir.path().join("missing/config.json"), Vec::new());
        assert_eq!(user(&missing, "a", ""), None);
        assert!(!missing.erase("a").unwrap());
        let directory = DockerConfig::new(dir.path(), Vec::new());
        assert!(matches!(directory.credentials("a", ""), Err(CredentialError::Read { .. })));
    }

    #[test]
    fn further_files_are_read_after_the_first() {
        let (dir, config) = config(&auths(&[("a", "first")]));
        let further = dir.path().join("auth.json");
        fs::write(&further, auths(&[("a", "second"), ("b", "second")])).unwrap();
        let config = config.and(further).and(dir.path().join("missing.json"));
        assert_eq!(user(&config, "a", "").as_deref(), Some("first"));
        assert_eq!(user(&config, "b", "").as_deref(), Some("second"));
    }

    #[test]
    fn storing_keeps_what_it_does_not_know_and_replaces_other_spellings() {
        let (_dir, config) = config(
            r#"{"auths":{"https://example.com/":{"auth":"eDp5"},"other":{"auth":"eDp5","x":1}},"detachKeys":"ctrl-e","n":{"m":[1]}}"#,
        );
        fs::set_permissions(&config.path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(config.is_readable_by_others());
        config.store("example.com", &basic("ana", "secret")).unwrap();
        config.store("docker.io", &Credentials::IdentityToken { token: "t".to_owned() }).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&config.path).unwrap()).unwrap();
        let expected = json!({
            "auths": {
                "example.com": { "auth": "YW5hOnNlY3JldA==" },
                "https://index.docker.io/v1/": { "identitytoken": "t" },
                "other": { "auth": "eDp5", "x": 1 },
            },
            "detachKeys": "ctrl-e",
            "n": { "m": [1] },
        });
        assert_eq!(written, expected);
        assert_eq!(fs::metadata(&config.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!config.is_readable_by_others());
        assert!(config.erase("example.com").unwrap() && !config.erase("example.com").unwrap());
        assert_eq!(user(&config, "example.com", ""), None);
        assert_eq!(fs::read_dir(config.path.parent().unwrap()).unwrap().count(), 1, "temporary files are left");
    }

    #[test]
    fn the_first_login_makes_directory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let config = DockerConfig::new(dir.path().join("a/b/config.json"), Vec::new());
        config.store("localhost:5000", &basic("ana", "secret")).unwrap();
        assert_eq!(user(&config, "localhost:5000", "x").as_deref(), Some("ana"));
        assert_eq!(fs::metadata(dir.path().join("a/b")).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_to_the_file_stays_a_link() {
        let (dir, config) = config("{}");
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&config.path, &link).unwrap();
        DockerConfig::new(&link, Vec::new()).store("a", &basic("ana", "p")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(user(&config, "a", "").as_deref(), Some("ana"));
    }

    #[test]
    fn helpers_are_asked_before_the_file() {
        let (dir, config) = config(
            r#"{"auths":{"c":{"auth":"Zjpw"}},"credsStore":"all","credHelpers":{"b":"one","d":"../x","e":"gone"}}"#,
        );
        install_helper(
            &dir,
            "all",
            r#"read -r s; [ "$s" = a ] || { echo "credentials not found"; exit 1; }; echo '{"Username":"all","Secret":"p"}'"#,
        );
        install_helper(&dir, "one", r#"cat > "$0.$1"; echo '{"Username":"one","Secret":"p"}'"#);
        assert_eq!(user(&config, "a", "").as_deref(), Some("all"));
        assert_eq!(user(&config, "b", "").as_deref(), Some("one"));
        assert_eq!(user(&config, "c", "").as_deref(), Some("f"));
        assert!(matches!(config.credentials("d", ""), Err(CredentialError::HelperName { .. })));
        assert!(matches!(config.credentials("e", ""), Err(CredentialError::HelperMissing { .. })));
        let before = fs::read(&config.path).unwrap();
        assert_eq!(config.store("b", &basic("ana", "secret")).unwrap(), "docker-credential-one");
        config.erase("b").unwrap();
        assert_eq!(fs::read(&config.path).unwrap(), before, "the secret went to the helper only");
        let stored = fs::read_to_string(dir.path().join("docker-credential-one.store")).unwrap();
        assert!(stored.contains("secret"));
    }
}
