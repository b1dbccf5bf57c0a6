//! Credential helpers: programs named `docker-credential-<name>` that keep secrets elsewhere.
//!
//! The secret travels over standard input and output, never in an argument. The program is looked up in directories that the
//! caller names, by a name of lowercase letters, digits and `-` only.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use http_transport::shown;
use serde::{Deserialize, Serialize};

use crate::credentials::{CredentialError, Credentials};

const MAX_ANSWER: u64 = 1 << 20;
/// The user name that says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// One installed helper.
pub(crate) struct Helper {
    program: String,
    path: PathBuf,
    timeout: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

/// Tells whether `name` may be part of a program's name.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Helper {
    /// Finds the helper `name` in `directories`; the caller has checked the name.
    pub(crate) fn find(name: &str, directories: &[PathBuf], timeout: Duration) -> Result<Self, CredentialError> {
        let program = format!("docker-credential-{name}");
        let candidates = directories.iter().filter(|directory| directory.is_absolute());
        let path = candidates.map(|directory| directory.join(&program)).find(|path| is_executable(path));
        match path {
            Some(path) => Ok(Self { program, path, timeout }),
            None => Err(CredentialError::HelperMissing { program }),
        }
    }

    /// Returns the program's name.
    pub(crate) fn program(&self) -> &str {
        &self.program
    }

    /// Asks for the credentials of `server`; `None` when the helper has none.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credentials>, CredentialError> {
        let (status, output) = self.run("get", server.as_bytes())?;
        if !status.success() {
            let words = String::from_utf8_lossy(&output).into_owned();
            return if words.contains("credentials not found") { Ok(None) } else { Err(self.failed(&words)) };
        }
        let entry: Entry = serde_json::from_slice(&output)
            .map_err(|_| CredentialError::HelperAnswer { program: self.program.clone() })?;
        Ok(match (entry.username, entry.secret) {
            (username, secret) if username.is_empty() && secret.is_empty() => None,
            (username, token) if username == TOKEN_USER => Some(Credentials::IdentityToken { token }),
            (username, password) => Some(Credentials::Basic { username, password }),
        })
    }

    /// Gives the helper the credentials of `server` to keep.
    pub(crate) fn store(&self, server: &str, credentials: &Credentials) -> Result<(), CredentialError> {
        let (username, secret) = match credentials {
            Credentials::Basic { username, password } => (username.as_str(), password),
            Credentials::IdentityToken { token } => (TOKEN_USER, token),
        };
        let entry = Entry { server_url: server.to_owned(), username: username.to_owned(), secret: secret.clone() };
        let input = serde_json::to_vec(&entry).expect("an entry holds nothing but strings");
        self.run_checked("store", &input)
    }

    /// Makes the helper forget the credentials of `server`; none is no error.
    pub(crate) fn erase(&self, server: &str) -> Result<(), CredentialError> {
        match self.run_checked("erase", server.as_bytes()) {
            Err(CredentialError::HelperFailed { words, .. }) if words.contains("credentials not found") => Ok(()),
            other => other,
        }
    }

    fn run_checked(&self, action: &str, input: &[u8]) -> Result<(), CredentialError> {
        let (status, output) = self.run(action, input)?;
        if status.success() { Ok(()) } else { Err(self.failed(&String::from_utf8_lossy(&output))) }
    }

    fn failed(&self, words: &str) -> CredentialError {
        CredentialError::HelperFailed { program: self.program.clone(), words: shown(words) }
    }

    fn run(&self, action: &str, input: &[u8]) -> Result<(ExitStatus, Vec<u8>), CredentialError> {
        let start = |source| CredentialError::HelperStart { program: self.program.clone(), source };
        let mut command = Command::new(&self.path);
        command.arg(action).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(start)?;
        let deadline = Instant::now() + self.timeout;
        let output = self.exchange(&mut child, input.to_vec());
        let status = wait_until(&mut child, if output.is_some() { deadline } else { Instant::now() }).map_err(start)?;
        let timeout =
            || CredentialError::HelperTimeout { program: self.program.clone(), seconds: self.timeout.as_secs() };
        status.zip(output).ok_or_else(timeout)
    }

    /// Writes the input and reads the output on threads of their own; `None` when that takes too long.
    fn exchange(&self, child: &mut Child, input: Vec<u8>) -> Option<Vec<u8>> {
        let mut stdin = child.stdin.take()?;
        let stdout = child.stdout.take()?;
        // A helper that needs no input may have closed it.
        std::thread::spawn(move || drop(stdin.write_all(&input)));
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = Vec::new();
            drop(stdout.take(MAX_ANSWER).read_to_end(&mut output));
            drop(send.send(output));
        });
        receive.recv_timeout(self.timeout).ok()
    }
}

/// Waits for `child`; kills it and returns `None` when it has not ended by `deadline`.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            // It may have ended by itself in this moment.
            drop(child.kill());
            child.wait()?;
            return Ok(None);
        }
        // A helper ends right after its output: this is the tail of a wait on the pipe.
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::*;

    fn helper(script: &str, timeout: Duration) -> (TempDir, Helper) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let helper = Helper::find("test", &[dir.path().to_owned()], timeout).unwrap();
        (dir, helper)
    }

    const PATIENT: Duration = Duration::from_secs(30);

    #[test]
    fn a_helper_is_asked_over_its_standard_input() {
        let script =
            r#"read -r server; [ "$1" = get ] && printf '{"ServerURL":"%s","Username":"ana","Secret":"s3"}' "$server""#;
        let (_dir, helper) = helper(script, PATIENT);
        let expected = Credentials::Basic { username: "ana".to_owned(), password: "s3".to_owned() };
        assert_eq!(helper.get("example.com").unwrap(), Some(expected));
    }

    #[test]
    fn an_identity_token_has_a_user_name_of_its_own() {
        let (dir, helper) = helper(r#"cat > "$0.$1"; echo '{"Username":"<token>","Secret":"t"}'"#, PATIENT);
        let token = Credentials::IdentityToken { token: "t".to_owned() };
        assert_eq!(helper.get("example.com").unwrap(), Some(token.clone()));
        helper.store("example.com", &token).unwrap();
        let stored = fs::read_to_string(dir.path().join("docker-credential-test.store")).unwrap();
        assert_eq!(stored, r#"{"ServerURL":"example.com","Username":"<token>","Secret":"t"}"#);
        helper.erase("example.com").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("docker-credential-test.erase")).unwrap(), "example.com");
    }

    #[test]
    fn what_a_helper_does_not_have_is_none_and_what_it_says_is_an_error() {
        let (_dir, absent) = helper("echo 'credentials not found in native keychain'; exit 1", PATIENT);
        assert_eq!(absent.get("example.com").unwrap(), None);
        absent.erase("example.com").unwrap();
        let (_dir, locked) = helper("echo 'keychain is locked'; exit 1", PATIENT);
        let error = locked.get("example.com").unwrap_err().to_string();
        assert_eq!(error, "credential helper `docker-credential-test` failed: keychain is locked");
        let (_dir, babbling) = helper("echo hello", PATIENT);
        assert!(matches!(babbling.get("example.com"), Err(CredentialError::HelperAnswer { .. })));
    }

    #[test]
    fn a_helper_that_hangs_is_killed() {
        for script in ["exec cat /dev/zero > /dev/null", "exec tail -f /dev/null"] {
            let (_dir, helper) = helper(script, Duration::from_millis(50));
            assert!(matches!(helper.get("example.com"), Err(CredentialError::HelperTimeout { .. })), "{script}");
        }
    }

    #[test]
    fn only_named_absolute_directories_are_searched() {
        let (dir, _helper) = helper("exit 0", PATIENT);
        let find = |directory: &str| Helper::find("test", &[PathBuf::from(directory)], PATIENT);
        assert!(matches!(find("."), Err(CredentialError::HelperMissing { .. })));
        assert!(find(dir.path().to_str().unwrap()).is_ok());
        fs::set_permissions(dir.path().join("docker-credential-test"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(find(dir.path().to_str().unwrap()).is_err());
        for name in ["", "a/b", "..", "A", "a b", "a;b"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("secretservice") && is_name("ecr-login"));
    }
}
