//! Who may be visited: origins, and the rules for going elsewhere.
//!
//! | rule | why |
//! |---|---|
//! | only http and https; never from https to http; user and password in a URL are dropped | downgrade, smuggled credentials |
//! | a link-local address is visited only for a server that is itself on this machine or a private address | cloud metadata services |
//!
//! An [`Origin`] is what credentials belong to: they are attached when a request is sent, by comparing origins.

use std::net::IpAddr;

use url::{Host, Url};

/// Scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of `url`; `None` unless it is http or https.
    pub fn of(url: &Url) -> Option<Self> {
        let is_http = matches!(url.scheme(), "http" | "https");
        let (host, port) = (url.host_str()?, url.port_or_known_default()?);
        is_http.then(|| Self { scheme: url.scheme().to_owned(), host: host.to_owned(), port })
    }
}

/// Says why a server that was `asked` may not lead to `to`, coming from `from`; `None` when it may.
pub fn redirect_objection(asked: &Url, from: &Url, to: &Url) -> Option<&'static str> {
    if !matches!(to.scheme(), "http" | "https") {
        return Some("it is neither http nor https");
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Some("it would leave TLS");
    }
    if is_link_local_host(to) && !is_private(asked) {
        return Some("it is a link-local address");
    }
    None
}

/// Tells whether a server is named by a loopback, private or link-local address.
fn is_private(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Some(Host::Ipv6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        None => false,
    }
}

/// Tells whether a URL names a link-local address, where clouds keep what their machines may know.
pub fn is_link_local_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_link_local(address.into()),
        Some(Host::Ipv6(address)) => is_link_local(address.into()),
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "metadata.google.internal",
        None => false,
    }
}

/// Tells whether `address` is link-local or a cloud's metadata service.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.octets() == [100, 100, 100, 200],
        IpAddr::V6(address) => {
            address.is_unicast_link_local() || address.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    }
}

/// Returns `url` without user, password and fragment.
pub fn stripped(mut url: Url) -> Url {
    // Both only fail for URLs without a host, which have neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_schemes_make_origins_differ() {
        let origin = |url: &str| Origin::of(&Url::parse(url).unwrap());
        assert_eq!(origin("https://a.com/x"), origin("https://A.com:443/y?z"));
        assert_ne!(origin("https://a.com/"), origin("https://a.com:444/"));
        assert_ne!(origin("https://a.com/"), origin("http://a.com/"));
        assert_eq!(origin("ftp://a.com/"), None);
    }
}
