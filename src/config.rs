//! Where things are and how to behave: the only reader of the environment and of the home directory.
//!
//! | what | from |
//! |---|---|
//! | the store | `--root`, `WHARF_ROOT`; else `/var/lib/wharf` as root, `$XDG_DATA_HOME/wharf` or `~/.local/share/wharf` |
//! | how layers become mountable | `--storage-driver`, `WHARF_STORAGE_DRIVER` |
//! | the limit of the build cache | `build --keep-storage`, `WHARF_KEEP_STORAGE` |
//! | credentials, read and written | `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json` |
//! | credentials, read only | `$REGISTRY_AUTH_FILE`, `$XDG_RUNTIME_DIR/containers/auth.json` |
//! | credential helpers | `PATH` |
//! | further trusted certificates | `SSL_CERT_FILE` |
//! | proxies | `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`, in capitals or not |
//! | colours | `NO_COLOR`, and whether standard error is a terminal |
//!
//! Who counts as root is decided before a user namespace is entered, where everybody is.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use http_transport::Proxies;
use layer_store::{DriverChoice, DriverNameError};

use crate::size;

/// How this command was set up by its user and machine.
#[derive(Debug)]
pub(crate) struct Config {
    /// The directory of the store.
    pub(crate) root: PathBuf,
    /// How its layers become mountable.
    pub(crate) driver: DriverChoice,
    /// Bytes that the build cache may take on disk when a build begins to write; `None` is no limit.
    pub(crate) keep_storage: Option<u64>,
    /// docker's `config.json`, which need not exist.
    pub(crate) docker_config: PathBuf,
    /// Further files of credentials, in the order in which they are asked.
    pub(crate) auth_files: Vec<PathBuf>,
    /// Directories with programs.
    pub(crate) path: Vec<PathBuf>,
    /// A bundle of certificates that are trusted beside the machine's.
    pub(crate) extra_ca: Option<PathBuf>,
    /// The proxies to registries.
    pub(crate) proxies: Proxies,
    /// Whether standard error takes colours and moving lines.
    pub(crate) stderr: Display,
    /// The same of standard output.
    pub(crate) stdout: Display,
}

/// What a stream can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    /// A file or a pipe: lines only.
    Plain,
    /// A terminal without colours, as its user wishes.
    Terminal,
    /// A terminal.
    ColourTerminal,
}

/// Why no configuration was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot tell where the store is: neither `HOME` nor `XDG_DATA_HOME` is set")]
    NoHome,
    #[error("`WHARF_STORAGE_DRIVER` cannot be followed")]
    Driver(#[source] DriverNameError),
    #[error("`WHARF_KEEP_STORAGE` is no size: {reason}")]
    KeepStorage { reason: String },
}

impl Config {
    /// Reads the environment; `root` and `driver` are the values of `--root` and `--storage-driver`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoHome`] when nothing says where the store is, [`ConfigError::Driver`] when a variable names no driver,
    /// [`ConfigError::KeepStorage`] for a limit that is no size.
    pub(crate) fn read(root: Option<PathBuf>, driver: Option<DriverChoice>) -> Result<Self, ConfigError> {
        let is_root = rustix::process::geteuid().is_root();
        let mut config = Self::from_variables(&variable_os, root, is_root)?;
        if let Some(driver) = driver {
            config.driver = driver;
        }
        let is_plain = variable_os("NO_COLOR").is_some() || variable_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = if is_plain { Display::Terminal } else { Display::ColourTerminal };
        if std::io::stderr().is_terminal() {
            config.stderr = terminal;
        }
        if std::io::stdout().is_terminal() {
            config.stdout = terminal;
        }
        Ok(config)
    }

    fn from_variables(
        variable: &dyn Fn(&str) -> Option<OsString>,
        root: Option<PathBuf>,
        is_root: bool,
    ) -> Result<Self, ConfigError> {
        let directory = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let text = |name: &str| variable(name).and_then(|value| value.into_string().ok());
        let either = |name: &str| text(name).or_else(|| text(&name.to_ascii_lowercase()));
        let home = directory("HOME").or_else(|| is_root.then(|| PathBuf::from("/root")));
        let data = directory("XDG_DATA_HOME").or_else(|| home.as_ref().map(|home| home.join(".local/share")));
        let own = if is_root { Some(PathBuf::from("/var/lib/wharf")) } else { data.map(|data| data.join("wharf")) };
        let root = root.or_else(|| variable("WHARF_ROOT").map(PathBuf::from)).or(own).ok_or(ConfigError::NoHome)?;
        let driver = text("WHARF_STORAGE_DRIVER").map(|name| name.parse()).transpose().map_err(ConfigError::Driver)?;
        let keep_storage = text("WHARF_KEEP_STORAGE").map(|size| size::binary(&size)).transpose();
        let keep_storage = keep_storage.map_err(|reason| ConfigError::KeepStorage { reason })?;
        let docker = variable("DOCKER_CONFIG").map(PathBuf::from);
        let docker = docker.unwrap_or_else(|| home.unwrap_or_else(|| PathBuf::from("/")).join(".docker"));
        let auth_files = [
            variable("REGISTRY_AUTH_FILE").map(PathBuf::from),
            directory("XDG_RUNTIME_DIR").map(|runtime| runtime.join("containers/auth.json")),
        ];
        Ok(Self {
            root,
            driver: driver.unwrap_or_default(),
            keep_storage,
            docker_config: docker.join("config.json"),
            auth_files: auth_files.into_iter().flatten().collect(),
            path: variable("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            extra_ca: variable("SSL_CERT_FILE").map(PathBuf::from),
            proxies: Proxies { http: either("HTTP_PROXY"), https: either("HTTPS_PROXY"), except: either("NO_PROXY") },
            stderr: Display::Plain,
            stdout: Display::Plain,
        })
    }
}

impl Display {
    /// Tells whether lines can be drawn over.
    pub(crate) fn is_terminal(self) -> bool {
        self != Self::Plain
    }

    /// Tells whether colours are wanted.
    pub(crate) fn has_colours(self) -> bool {
        self == Self::ColourTerminal
    }
}

/// Returns a variable of the caller's environment, as `-e NAME` and `--build-arg NAME` ask for it.
///
/// An empty value counts as one; `None` also for what is not UTF-8.
pub(crate) fn caller_variable(name: &str) -> Option<String> {
    let is_name = !name.is_empty() && !name.contains(['=', '\0']);
    is_name.then(|| raw_variable(name)).flatten().and_then(|value| value.into_string().ok())
}

/// Returns the path that a variable of the caller's environment holds, as `--ssh default` asks for it.
pub(crate) fn caller_path(name: &str) -> Option<PathBuf> {
    variable_os(name).map(PathBuf::from)
}

/// Returns the names and addresses of DNS servers as this machine knows them; empty when it does not.
pub(crate) fn host_resolv_conf() -> String {
    std::fs::read_to_string(Path::new("/etc/resolv.conf")).unwrap_or_default()
}

/// Returns the names and addresses of machines that this one knows by itself; empty when it knows none.
pub(crate) fn host_hosts() -> String {
    std::fs::read_to_string(Path::new("/etc/hosts")).unwrap_or_default()
}

/// Returns what this machine's system calls itself; empty when it does not.
pub(crate) fn host_system_name() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map(|name| name.trim_matches(['"', '\'']).to_owned()).unwrap_or_default()
}

fn variable_os(name: &str) -> Option<OsString> {
    raw_variable(name).filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "this file is the one that reads the environment")]
fn raw_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)], is_root: bool) -> Result<Config, ConfigError> {
        let find =
            |name: &str| variables.iter().find(|(held, _)| *held == name).map(|(_, value)| OsString::from(value));
        Config::from_variables(&find, None, is_root)
    }

    #[test]
    fn the_store_is_where_the_first_of_these_says() {
        let check = |variables: &[(&str, &str)], is_root, expected: &str| {
            assert_eq!(config(variables, is_root).unwrap().root, Path::new(expected));
        };
        check(&[("HOME", "/home/ana")], false, "/home/ana/.local/share/wharf");
        check(&[("HOME", "/home/ana"), ("XDG_DATA_HOME", "/data")], false, "/data/wharf");
        check(&[("HOME", "/home/ana"), ("XDG_DATA_HOME", "data")], false, "/home/ana/.local/share/wharf");
        check(&[("HOME", "/root"), ("XDG_DATA_HOME", "/data")], true, "/var/lib/wharf");
        check(&[("HOME", "/home/ana"), ("WHARF_ROOT", "/w")], false, "/w");
        assert!(config(&[], false).is_err());
    }

    #[test]
    fn the_storage_driver_is_one_that_there_is() {
        let read = |name| config(&[("HOME", "/h"), ("WHARF_STORAGE_DRIVER", name)], true).map(|config| config.driver);
        assert_eq!(read("tree").unwrap(), DriverChoice::Only(layer_store::Driver::Tree));
        assert!(read("overlay2").is_err());
    }

    #[test]
    fn the_limit_of_the_build_cache_is_a_size() {
        let limit =
            |text| config(&[("HOME", "/h"), ("WHARF_KEEP_STORAGE", text)], false).map(|config| config.keep_storage);
        assert_eq!(limit("10g").unwrap(), Some(10 << 30));
        let error = limit("lots").unwrap_err().to_string();
        assert_eq!(error, "`WHARF_KEEP_STORAGE` is no size: invalid size: 'lots'");
    }

    #[test]
    fn credentials_are_where_docker_and_podman_keep_them() {
        let config = config(&[("HOME", "/home/ana"), ("XDG_RUNTIME_DIR", "/run/user/7")], false).unwrap();
        assert_eq!(config.docker_config, Path::new("/home/ana/.docker/config.json"));
        assert_eq!(config.auth_files, [Path::new("/run/user/7/containers/auth.json")]);
    }

    #[test]
    fn proxies_are_read_in_either_case() {
        let config =
            config(&[("HOME", "/h"), ("https_proxy", "http://p:1"), ("NO_PROXY", "localhost")], false).unwrap();
        assert_eq!(config.proxies.https.as_deref(), Some("http://p:1"));
        assert_eq!(config.proxies.except.as_deref(), Some("localhost"));
        assert_eq!(config.proxies.http, None);
    }
}
