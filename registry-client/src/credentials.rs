//! Credentials, where they come from, and what was tried with them.

use std::fmt;
use std::path::PathBuf;

/// What an account is proved with.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Credentials {
    /// A user name and its password or access token.
    Basic { username: String, password: String },
    /// A refresh token for the registry's token service.
    IdentityToken { token: String },
}

/// Credentials and where they were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundCredentials {
    /// The credentials.
    pub credentials: Credentials,
    /// Where they were found, for messages: a file, a helper program.
    pub source: String,
}

/// A place that knows credentials.
pub trait CredentialSource: Send + Sync {
    /// Returns the credentials for the repository `path` of `registry`; `None` when there are none. An empty `path` is the whole
    /// registry.
    ///
    /// It may block: files are read, helper programs run.
    ///
    /// # Errors
    ///
    /// [`CredentialError`] when there may be credentials, but they cannot be read.
    fn credentials(&self, registry: &str, path: &str) -> Result<Option<FoundCredentials>, CredentialError>;
}

/// Knows no credentials.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn credentials(&self, _: &str, _: &str) -> Result<Option<FoundCredentials>, CredentialError> {
        Ok(None)
    }
}

/// Why credentials cannot be read or kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum CredentialError {
    #[error("cannot read `{}`", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write `{}`", .path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not a JSON object of docker's form", .path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("`{}` has an `auth` for `{key}` that is not base64 of `user:password`", .path.display())]
    Auth { path: PathBuf, key: String },
    #[error("`{}` names the credential helper `{name}`, which is not a name (lowercase letters, digits and `-`)", .path.display())]
    HelperName { path: PathBuf, name: String },
    #[error("credential helper `{program}` is not installed")]
    HelperMissing { program: String },
    #[error("cannot run credential helper `{program}`")]
    HelperStart { program: String, source: std::io::Error },
    #[error("credential helper `{program}` did not end within {seconds} s")]
    HelperTimeout { program: String, seconds: u64 },
    #[error("credential helper `{program}` failed: {words}")]
    HelperFailed { program: String, words: String },
    #[error("credential helper `{program}` did not answer with JSON of its protocol")]
    HelperAnswer { program: String },
}

/// What was tried to be let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Whose credentials were sent: a user name, or `identity token`; `None` when none were.
    pub account: Option<String>,
    /// Where those were found.
    pub source: Option<String>,
    /// The scopes that a token was asked for.
    pub scopes: Vec<String>,
}

impl Tried {
    pub(crate) fn new(found: Option<&FoundCredentials>, scopes: &[String]) -> Self {
        let account = found.map(|found| match &found.credentials {
            Credentials::Basic { username, .. } => format!("user `{username}`"),
            Credentials::IdentityToken { .. } => "identity token".to_owned(),
        });
        Self { account, source: found.map(|found| found.source.clone()), scopes: scopes.to_vec() }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.account.as_deref().unwrap_or("no credentials"))?;
        if let Some(source) = &self.source {
            write!(f, " from {source}")?;
        }
        self.scopes.iter().try_for_each(|scope| write!(f, ", scope `{scope}`"))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { username, .. } => f.debug_struct("Basic").field("username", username).finish_non_exhaustive(),
            Self::IdentityToken { .. } => f.debug_struct("IdentityToken").finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_shows_no_secret() {
        let basic = Credentials::Basic { username: "ana".to_owned(), password: "secret".to_owned() };
        let token = Credentials::IdentityToken { token: "secret".to_owned() };
        let shown = format!("{basic:?} {token:?}");
        assert!(shown.contains("ana") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_was_tried_is_one_line() {
        let credentials = Credentials::Basic { username: "ci-bot".to_owned(), password: "secret".to_owned() };
        let found = FoundCredentials { credentials, source: "/home/ci/.docker/config.json".to_owned() };
        let tried = Tried::new(Some(&found), &["repository:team/app:pull,push".to_owned()]);
        let expected = "user `ci-bot` from /home/ci/.docker/config.json, scope `repository:team/app:pull,push`";
        assert_eq!(tried.to_string(), expected);
        assert_eq!(Tried::default().to_string(), "no credentials");
    }
}
