//! Who is asked: registries and their repositories as URLs.
//!
//! Plain http is only for loopback and for registries listed as insecure; everything else is TLS. Where a registry may send us
//! is `http_transport`'s rule.

use std::collections::BTreeSet;
use std::net::IpAddr;

use http_transport::{Origin, redirect_objection};
use oci::Reference;
use url::Url;

use crate::error::RequestError;

/// Docker Hub's name in references, its registry's host, and its key in `config.json`.
pub(crate) const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// One repository of a registry; an empty path is the registry itself.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    pub(crate) registry: String,
    pub(crate) path: String,
    base: Url,
}

impl Repository {
    /// Locates the repository of `name`; `insecure` lists the registries that are spoken to in plain http.
    pub(crate) fn of(name: &Reference, insecure: &BTreeSet<String>) -> Result<Self, RequestError> {
        Self::new(name.registry(), name.path(), insecure)
    }

    pub(crate) fn new(registry: &str, path: &str, insecure: &BTreeSet<String>) -> Result<Self, RequestError> {
        let host = if registry == HUB { HUB_HOST } else { registry };
        let scheme = if is_plain(host, insecure) { "http" } else { "https" };
        let slash = if path.is_empty() { "" } else { "/" };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{path}{slash}"))
            .map_err(|_| RequestError::Address { registry: registry.to_owned() })?;
        Ok(Self { registry: registry.to_owned(), path: path.to_owned(), base })
    }

    /// Returns the URL of `tail` below the repository.
    pub(crate) fn url(&self, tail: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{tail}", self.base.path()));
        url
    }

    pub(crate) fn origin(&self) -> Option<Origin> {
        Origin::of(&self.base)
    }

    /// Returns the registry's host as URLs name it.
    pub(crate) fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }

    /// Returns `repository:path:actions`.
    pub(crate) fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.path)
    }

    /// Says why `to` may not be visited on behalf of this registry, coming from `from`; `None` when it may.
    pub(crate) fn objection(&self, from: &Url, to: &Url) -> Option<&'static str> {
        redirect_objection(&self.base, from, to)
    }
}

fn is_plain(host: &str, insecure: &BTreeSet<String>) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    if insecure.contains(host) || insecure.contains(name) {
        return true;
    }
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    (name == "localhost" || address.is_ok_and(|address| address.is_loopback())) && port != Some("443")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str, insecure: &[&str]) -> Repository {
        let insecure = insecure.iter().map(|&name| name.to_owned()).collect();
        Repository::of(&name.parse().unwrap(), &insecure).unwrap()
    }

    #[test]
    fn only_loopback_and_listed_registries_are_plain() {
        let cases = [
            ("debian", "https://registry-1.docker.io/v2/library/debian/manifests/x"),
            ("ghcr.io/a/b", "https://ghcr.io/v2/a/b/manifests/x"),
            ("localhost:5000/a", "http://localhost:5000/v2/a/manifests/x"),
            ("localhost:443/a", "https://localhost/v2/a/manifests/x"),
            ("127.1.2.3:80/a", "http://127.1.2.3/v2/a/manifests/x"),
            ("[::1]:5000/a", "http://[::1]:5000/v2/a/manifests/x"),
            ("127.0.0.1.example.com/a", "https://127.0.0.1.example.com/v2/a/manifests/x"),
            ("10.0.0.1:5000/a", "https://10.0.0.1:5000/v2/a/manifests/x"),
            ("old.example.com:5000/a", "http://old.example.com:5000/v2/a/manifests/x"),
            ("old.example.com/a", "https://old.example.com/v2/a/manifests/x"),
        ];
        for (name, url) in cases {
            assert_eq!(repository(name, &["old.example.com:5000"]).url("manifests/x").as_str(), url);
        }
    }

    #[test]
    fn a_name_that_is_no_host_is_refused() {
        for name in ["example.com:99999/a", "999.999.999.999/a"] {
            assert!(Repository::of(&name.parse().unwrap(), &BTreeSet::new()).is_err(), "{name}");
        }
    }

    #[test]
    fn requests_are_not_sent_where_they_must_not_go() {
        let check = |name: &str, from: &str, to: &str, is_allowed: bool| {
            let objection = repository(name, &[]).objection(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
            assert_eq!(objection.is_none(), is_allowed, "{name} from {from} to {to}: {objection:?}");
        };
        check("ghcr.io/a", "https://ghcr.io/", "https://cdn.example.com/x", true);
        check("ghcr.io/a", "https://ghcr.io/", "http://cdn.example.com/x", false);
        check("ghcr.io/a", "https://ghcr.io/", "file:///etc/passwd", false);
        check("ghcr.io/a", "https://ghcr.io/", "https://169.254.169.254/latest", false);
        check("ghcr.io/a", "https://ghcr.io/", "https://[fe80::1]/", false);
        check("ghcr.io/a", "https://ghcr.io/", "https://[::ffff:169.254.169.254]/", false);
        check("ghcr.io/a", "https://ghcr.io/", "https://metadata.google.internal/", false);
        check("ghcr.io/a", "https://ghcr.io/", "https://10.1.2.3/", true);
        check("127.0.0.1:5000/a", "http://127.0.0.1:5000/", "http://169.254.1.1/", true);
    }
}
