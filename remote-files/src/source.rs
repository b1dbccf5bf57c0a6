//! What a text names, if it is not a local path: a file by HTTP or a tree by git.
//!
//! | text | names |
//! |---|---|
//! | `git://…`, `ssh://…`, `user@host:path` | a tree by git |
//! | `http://…`, `https://…` whose path ends in `.git` | a tree by git |
//! | any other `http://…`, `https://…` | a file |
//! | `github.com/…` | a tree by git, but only as a build context |
//! | any other `scheme://…` | nothing that can be used |
//! | all else | a local path |
//!
//! The rules are BuildKit's: `util/gitutil` and `frontend/dockerfile/dfgitutil`, version 0.25.

mod git_source;
mod ref_name;
mod remote;

use std::borrow::Cow;
use std::fmt;

use http_transport::{is_link_local_host, shown, shown_url};
use url::Url;

use crate::authorization::HttpAuthorization;

pub(crate) use git_source::is_commit_id;
pub use git_source::{GitDir, GitSource, Submodules};
pub(crate) use remote::GitRemote;

/// What a source names, if it is not a local path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteSource {
    /// A file.
    Http(HttpSource),
    /// A tree of a git repository.
    Git(GitSource),
}

/// A file that an HTTP server has.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpSource {
    url: Url,
    authorization: Option<HttpAuthorization>,
}

/// Where the text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// As a source of ADD.
    Add,
    /// As a build context: here `github.com/…` is a repository.
    BuildContext,
}

/// Why a text that looks remote cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` cannot be fetched")]
pub struct RemoteSourceError {
    /// The text without user, password, query and fragment, safe to show.
    pub url: String,
    /// What is wrong with it.
    pub source: SourceFault,
}

/// What is wrong with a text that looks remote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SourceFault {
    #[error("files come by http or https, trees by git, ssh, http or https, but nothing by `{scheme}`")]
    Scheme { scheme: String },
    #[error("it is not a URL: {reason}")]
    Url { reason: String },
    #[error("its {name} begins with `-`, which programs take for an option")]
    Option { name: &'static str },
    #[error("`{name}` is not the name of a git ref")]
    RefName { name: String },
    #[error("`{text}` is not the id of a commit, nor its first 7 or more digits")]
    CommitId { text: String },
    #[error("the query has an unknown key `{key}`")]
    UnknownKey { key: String },
    #[error("the query has `{key}` more than once")]
    RepeatedKey { key: String },
    #[error("the query gives `{key}` no value")]
    NoValue { key: String },
    #[error("the query gives `{key}` the value `{value}` (want {wanted})")]
    Value { key: String, value: String, wanted: &'static str },
    #[error("`{one}` and `{other}` are two different {what}")]
    Conflict { what: &'static str, one: String, other: String },
    #[error("its address is link-local: clouds keep secrets of their machines there")]
    LinkLocal,
    #[error("`fetch-by-commit` needs the whole id of the commit as `checksum`")]
    NoCommitToFetch,
}

impl RemoteSource {
    /// Reads a source as a Dockerfile or a command line names it; pure.
    ///
    /// `None` is a local path; an error looks remote and cannot be used.
    pub fn parse(text: &str, used: Use) -> Option<Result<Self, RemoteSourceError>> {
        let parsed = Self::parse_parts(text, used)?;
        Some(parsed.map_err(|source| RemoteSourceError { url: without_secrets(text), source }))
    }

    fn parse_parts(text: &str, used: Use) -> Option<Result<Self, SourceFault>> {
        if let Some(scheme) = scheme_of(text) {
            return Some(Self::parse_url(text, scheme));
        }
        if used == Use::BuildContext && text.starts_with("github.com/") {
            return Some(GitSource::parse(&format!("https://{text}")).map(Self::Git));
        }
        remote::is_scp_like(text).then(|| GitSource::parse(text).map(Self::Git))
    }

    fn parse_url(text: &str, scheme: &str) -> Result<Self, SourceFault> {
        match scheme.to_ascii_lowercase().as_str() {
            "git" | "ssh" => GitSource::parse(text).map(Self::Git),
            "http" | "https" => {
                let url = parse_url(text)?;
                if is_link_local_host(&url) {
                    return Err(SourceFault::LinkLocal);
                }
                if decoded(url.path()).ends_with(".git") {
                    return GitSource::parse(text).map(Self::Git);
                }
                Ok(Self::Http(HttpSource::new(url)))
            }
            scheme => Err(SourceFault::Scheme { scheme: scheme.to_owned() }),
        }
    }
}

impl HttpSource {
    fn new(mut url: Url) -> Self {
        url.set_fragment(None);
        let authorization = HttpAuthorization::take(&mut url);
        Self { url, authorization }
    }

    /// Returns the URL without user and password. Its query may hold a secret: show the source itself instead.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// Returns host and port of the URL; no port is the usual one.
    pub fn host(&self) -> (&str, Option<u16>) {
        (self.url.host_str().unwrap_or_default(), self.url.port())
    }

    pub(crate) fn parsed_url(&self) -> &Url {
        &self.url
    }

    /// Returns user and password of the URL, if it has them.
    pub(crate) fn authorization(&self) -> Option<&HttpAuthorization> {
        self.authorization.as_ref()
    }
}

/// Returns what stands before `://`, if that can be a scheme.
fn scheme_of(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then_some(scheme)
}

/// Parses a URL as it stands: the parser would drop line breaks and tabs.
fn parse_url(text: &str) -> Result<Url, SourceFault> {
    let refuse = |reason: &str| SourceFault::Url { reason: reason.to_owned() };
    if text.contains(char::is_control) {
        return Err(refuse("it has a control character"));
    }
    let url = Url::parse(text).map_err(|error| refuse(&error.to_string()))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(refuse("it has no host"));
    }
    Ok(url)
}

/// Decodes `%41`; what is no UTF-8 then is replaced.
pub(crate) fn decoded(text: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy()
}

/// Cuts query, fragment, user and password out of something that need not be a URL.
///
/// What is none may have a `/`, `?` or `#` in its password: there everything before the last `@` is cut.
pub(crate) fn without_secrets(text: &str) -> String {
    if let Some(url) = Url::parse(text).ok().filter(Url::has_host) {
        return shown_url(&url);
    }
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    let place = place.split(['?', '#']).next().unwrap_or_default();
    match (scheme, user) {
        ("", user) if !user.is_empty() && !user.contains(':') => shown(&format!("{user}@{place}")),
        ("", _) => shown(place),
        (scheme, _) => shown(&format!("{scheme}://{place}")),
    }
}

impl fmt::Display for RemoteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(source) => source.fmt(f),
            Self::Git(source) => source.fmt(f),
        }
    }
}

impl fmt::Display for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(&self.url))
    }
}

impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpSource({self})")
    }
}

#[cfg(test)]
mod tests;
