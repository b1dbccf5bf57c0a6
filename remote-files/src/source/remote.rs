//! A repository: what git is told to fetch from, without user and password, and who it is told that asks.

use std::fmt;

use http_transport::shown;
use url::{Host, Url};

use super::{SourceFault, parse_url, scheme_of};
use crate::authorization::HttpAuthorization;

/// Where a repository is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GitRemote {
    /// As git is given it, in an argument: without a password.
    url: String,
    /// `https://host:port/`, for http and https.
    origin: Option<String>,
    /// `host` or `host:port`.
    host: String,
    authorization: Option<HttpAuthorization>,
}

impl GitRemote {
    /// Reads a URL, or `user@host:path`, without query and fragment.
    pub(crate) fn parse(text: &str) -> Result<Self, SourceFault> {
        match scheme_of(text) {
            Some(scheme) => Self::parse_url(text, &scheme.to_ascii_lowercase()),
            None => Self::parse_scp_like(text),
        }
    }

    fn parse_url(text: &str, scheme: &str) -> Result<Self, SourceFault> {
        if !matches!(scheme, "git" | "ssh" | "http" | "https") {
            return Err(SourceFault::Scheme { scheme: scheme.to_owned() });
        }
        let mut url = parse_url(text)?;
        url.set_query(None);
        url.set_fragment(None);
        let is_http = matches!(scheme, "http" | "https");
        let authorization = if is_http { HttpAuthorization::take(&mut url) } else { None };
        // ssh takes no password, and git:// knows no users.
        let _ = url.set_password(None);
        let host_name = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| host_name.to_owned(), |port| format!("{host_name}:{port}"));
        check_words(url.username(), &host, url.path().trim_start_matches('/'))?;
        let origin = is_http.then(|| format!("{}/", url.origin().ascii_serialization()));
        Ok(Self { url: url.into(), origin, host, authorization })
    }

    fn parse_scp_like(text: &str) -> Result<Self, SourceFault> {
        let refuse = |reason: &str| SourceFault::Url { reason: reason.to_owned() };
        let (user, host, path) = split_scp_like(text).ok_or_else(|| refuse("it has neither a scheme nor a user"))?;
        if path.is_empty() || path.contains(char::is_control) {
            return Err(refuse("its path is none"));
        }
        check_words(user, host, path)?;
        Ok(Self { url: format!("{user}@{host}:{path}"), origin: None, host: host.to_owned(), authorization: None })
    }

    /// Finds the repository that a submodule of this one names: as git does, `./` and `../` are relative to this one's URL.
    pub(crate) fn submodule(&self, url: &str) -> Result<Self, SourceFault> {
        if !url.starts_with("./") && !url.starts_with("../") {
            return Self::parse(url);
        }
        let relative = Self::parse(&joined(&self.url, url))?;
        let is_same = relative.origin == self.origin;
        Ok(Self { authorization: self.authorization.clone().filter(|_| is_same), ..relative })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Tells whether nobody else can read what is said to the server: over TLS, or on this machine.
    pub(crate) fn is_private(&self) -> bool {
        let Ok(url) = Url::parse(&self.url) else { return false };
        let is_loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        url.scheme() == "https" || is_loopback
    }

    pub(crate) fn authorization(&self) -> Option<&HttpAuthorization> {
        self.authorization.as_ref()
    }

    /// Returns the last part of the path, without `.git`.
    pub(super) fn name(&self) -> &str {
        let name = self.url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
        name.strip_suffix(".git").unwrap_or(name)
    }
}

/// Refuses what ssh or git on the other side would take for options.
fn check_words(user: &str, host: &str, path: &str) -> Result<(), SourceFault> {
    for (name, word) in [("user", user), ("host", host), ("path", path)] {
        if super::decoded(word).starts_with('-') {
            return Err(SourceFault::Option { name });
        }
    }
    Ok(())
}

/// Tells whether `text` is `user@host:path`.
pub(super) fn is_scp_like(text: &str) -> bool {
    split_scp_like(text).is_some()
}

fn split_scp_like(text: &str) -> Option<(&str, &str, &str)> {
    let (authority, path) = text.split_once(':')?;
    let (user, host) = authority.split_once('@')?;
    let is_user = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let is_one = !user.is_empty() && !host.is_empty() && user.chars().all(is_user) && host.chars().all(is_host);
    is_one.then_some((user, host, path))
}

/// Resolves a relative URL as git does for submodules: by text, up to the `:` of `user@host:path`.
fn joined(base: &str, mut relative: &str) -> String {
    let mut base = base.trim_end_matches('/');
    let mut separator = '/';
    loop {
        if let Some(rest) = relative.strip_prefix("../") {
            relative = rest;
            match base.rfind(['/', ':']) {
                Some(end) => {
                    separator = if base[end..].starts_with(':') { ':' } else { '/' };
                    base = &base[..end];
                }
                None => break,
            }
        } else if let Some(rest) = relative.strip_prefix("./") {
            relative = rest;
        } else {
            break;
        }
    }
    format!("{base}{separator}{}", relative.trim_end_matches('/'))
}

impl fmt::Display for GitRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url))
    }
}

impl fmt::Debug for GitRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitRemote({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_submodule(remote: &str, url: &str, expected: Option<&str>) {
        let found = GitRemote::parse(remote).unwrap().submodule(url).ok();
        assert_eq!(found.as_ref().map(GitRemote::url), expected, "{url} of {remote}");
    }

    #[test]
    fn relative_submodules_are_found_as_git_finds_them() {
        check_submodule("https://a.com/x/y.git", "../z.git", Some("https://a.com/x/z.git"));
        check_submodule("https://a.com/x/y.git/", "./z.git/", Some("https://a.com/x/y.git/z.git"));
        check_submodule("https://a.com/x/y.git", "../../w/z", Some("https://a.com/w/z"));
        check_submodule("git@a.com:y.git", "../z.git", Some("git@a.com:z.git"));
        check_submodule("git@a.com:x/y.git", "../z.git", Some("git@a.com:x/z.git"));
        check_submodule("git@a.com:x/y.git", "../../z.git", Some("git@a.com:z.git"));
        check_submodule("ssh://git@a.com:22/x/y.git", "../z.git", Some("ssh://git@a.com:22/x/z.git"));
        check_submodule("https://a.com/y.git", "https://b.com/z", Some("https://b.com/z"));
    }

    #[test]
    fn a_submodule_cannot_leave_what_git_may_fetch() {
        for url in [
            "ext::sh -c touch% /tmp/pwned",
            "file:///etc",
            "/etc",
            "-u./x",
            "--upload-pack=touch x",
            "user@-oProxyCommand=x:y",
            "ssh://-oProxyCommand=x/y",
            "ssh://a.com/-x",
            "git@a.com:-x",
            "ftp://a.com/x",
            "../../../../../x",
            "",
        ] {
            check_submodule("https://a.com/x/y.git", url, None);
        }
    }

    #[test]
    fn a_password_goes_along_to_the_same_origin_only() {
        let remote = GitRemote::parse("https://ana:s3@a.com/x/y.git").unwrap();
        assert_eq!(remote.url(), "https://a.com/x/y.git");
        assert!(remote.submodule("../z.git").unwrap().authorization().is_some());
        assert!(remote.submodule("https://a.com/x/z.git").unwrap().authorization().is_none());
        let elsewhere = remote.submodule("../../../b.com/z");
        assert!(elsewhere.is_err() || elsewhere.unwrap().authorization().is_none());
    }
}
