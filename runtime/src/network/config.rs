//! What a network gives its containers: where names are resolved, and whether the host's own loopback can be reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::address;

/// Where nameservers listen.
pub const DNS_PORT: u16 = 53;
/// As many as a resolver reads (resolv.conf(5), MAXNS).
const MAX_NAMESERVERS: usize = 3;

/// What a [`Network`](super::Network) is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Where queries of containers are forwarded, in order of preference; asked from the host's side, so a resolver on the
    /// host's loopback works.
    pub nameservers: Vec<SocketAddr>,
    /// Search domains of the containers' resolv.conf.
    pub search: Vec<String>,
    /// Options of the containers' resolv.conf.
    pub options: Vec<String>,
    /// Whether containers reach services on the host's loopback.
    pub host_loopback: HostLoopback,
}

/// Whether containers reach services that listen on the host's loopback only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostLoopback {
    /// Connections are refused.
    #[default]
    Blocked,
    /// The gateway's address, 10.0.2.2, stands for the host's 127.0.0.1.
    Reachable,
}

impl NetworkConfig {
    /// Takes nameservers, search domains and options from the text of the host's resolv.conf.
    ///
    /// Lines that are not understood are skipped, as resolvers do; so is a nameserver with an interface in its address. Without
    /// a nameserver it is 127.0.0.1, as resolv.conf(5) says. The host's loopback stays [`HostLoopback::Blocked`].
    pub fn from_resolv_conf(text: &str) -> NetworkConfig {
        let mut config = NetworkConfig {
            nameservers: Vec::new(),
            search: Vec::new(),
            options: Vec::new(),
            host_loopback: HostLoopback::Blocked,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => config.nameservers.extend(words.next().and_then(nameserver)),
                // The last of these lines counts (resolv.conf(5)).
                Some("search" | "domain") => config.search = words.map(str::to_owned).collect(),
                Some("options") => config.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        config.nameservers.truncate(MAX_NAMESERVERS);
        if config.nameservers.is_empty() {
            config.nameservers.push(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT));
        }
        config
    }

    /// Returns the resolv.conf of a container that is in the host's network, and asks the nameservers itself.
    ///
    /// It can only name nameservers on their usual port.
    pub fn direct_resolv_conf(&self) -> String {
        self.written(self.nameservers.iter().map(SocketAddr::ip))
    }

    /// Returns the resolv.conf of a container: its nameserver is the one this network answers for.
    pub(super) fn resolv_conf(&self) -> String {
        self.written([IpAddr::V4(address::NAMESERVER)])
    }

    fn written(&self, nameservers: impl IntoIterator<Item = IpAddr>) -> String {
        let mut text: String = nameservers.into_iter().map(|address| format!("nameserver {address}\n")).collect();
        for (keyword, words) in [("search", &self.search), ("options", &self.options)] {
            if !words.is_empty() {
                text += &format!("{keyword} {}\n", words.join(" "));
            }
        }
        text
    }
}

fn nameserver(word: &str) -> Option<SocketAddr> {
    let address: IpAddr = word.parse().ok()?;
    Some(SocketAddr::new(address, DNS_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(host: &str, nameservers: &[&str], container: &str) {
        let config = NetworkConfig::from_resolv_conf(host);
        let found: Vec<String> = config.nameservers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, nameservers);
        assert_eq!(config.resolv_conf(), container);
    }

    #[test]
    fn the_host_s_nameservers_are_asked_and_its_search_and_options_are_kept() {
        check(
            "# made by hand\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\nsearch example.com  corp.example\noptions ndots:2\noptions edns0\n",
            &["192.0.2.1:53", "[2001:db8::1]:53"],
            "nameserver 10.0.2.3\nsearch example.com corp.example\noptions ndots:2 edns0\n",
        );
    }

    #[test]
    fn without_a_nameserver_the_host_s_loopback_is_asked() {
        check("search a\nsearch b\n", &["127.0.0.1:53"], "nameserver 10.0.2.3\nsearch b\n");
        check("", &["127.0.0.1:53"], "nameserver 10.0.2.3\n");
    }

    #[test]
    fn lines_that_are_not_understood_are_skipped() {
        check(
            "nameserver\nnameserver resolver.example\nnameserver fe80::1%eth0\n;nameserver 192.0.2.9\nnameserver 127.0.0.53 # stub\n",
            &["127.0.0.53:53"],
            "nameserver 10.0.2.3\n",
        );
    }

    #[test]
    fn at_most_three_nameservers_are_kept() {
        check(
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n",
            &["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"],
            "nameserver 10.0.2.3\n",
        );
    }
}
