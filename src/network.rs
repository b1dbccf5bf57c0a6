//! The flags about networks: which one a container is in, and what its files say about names.
//!
//! Not here: the ports that lead to it (`published.rs`).

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::Context;
use builder::{Entitlement, HostEntry, RunNetwork};
use runtime::network::{DNS_PORT, NetworkConfig, host_address};

use crate::ending::Ending;
use crate::published::PublishArgs;
use crate::shown::shown;

/// Flags of `wharf run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunNetworkArgs {
    /// Network: its own with a way out, the host's, or loopback only
    #[arg(long, alias = "net", value_enum, default_value_t = Network::Default)]
    pub(crate) network: Network,
    #[command(flatten)]
    pub(crate) publish: PublishArgs,
    /// Further line of /etc/hosts; `host-gateway` as the address is this machine's
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub(crate) extra_hosts: Vec<ExtraHost>,
    #[command(flatten)]
    pub(crate) dns: DnsArgs,
}

/// Flags of `wharf build`.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildNetworkArgs {
    /// Network of RUN instructions
    #[arg(long, value_enum, default_value_t = Network::Default)]
    pub(crate) network: Network,
    /// Further line of /etc/hosts in RUN instructions; `host-gateway` as the address is this machine's
    #[arg(long = "add-host", value_name = "NAME:IP")]
    pub(crate) extra_hosts: Vec<ExtraHost>,
    /// Allow the Dockerfile what needs a word of yours: `network.host`, `security.insecure`
    #[arg(long, value_name = "ENTITLEMENT")]
    pub(crate) allow: Vec<Entitlement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Network {
    #[value(alias = "bridge")]
    Default,
    Host,
    None,
}

impl From<Network> for RunNetwork {
    fn from(network: Network) -> Self {
        match network {
            Network::Default => Self::Default,
            Network::Host => Self::Host,
            Network::None => Self::None,
        }
    }
}

/// Who is asked for names, instead of what the host's resolv.conf says.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct DnsArgs {
    /// Nameserver to ask, from this machine, instead of its own
    #[arg(long = "dns", value_name = "IP")]
    nameservers: Vec<IpAddr>,
    /// Domain to look names up in; `.` for none
    #[arg(long = "dns-search", value_name = "DOMAIN", value_parser = word)]
    search: Vec<String>,
    /// Option of resolv.conf
    #[arg(long = "dns-option", alias = "dns-opt", value_name = "OPTION", value_parser = word)]
    options: Vec<String>,
}

impl DnsArgs {
    /// Tells whether the host's resolv.conf stays as it is.
    pub(crate) fn is_empty(&self) -> bool {
        self.nameservers.is_empty() && self.search.is_empty() && self.options.is_empty()
    }

    /// Replaces what was given.
    pub(crate) fn apply(&self, config: &mut NetworkConfig) {
        if !self.nameservers.is_empty() {
            config.nameservers = self.nameservers.iter().map(|&ip| SocketAddr::new(ip, DNS_PORT)).collect();
        }
        if !self.search.is_empty() {
            config.search = self.search.iter().filter(|domain| *domain != ".").cloned().collect();
        }
        if !self.options.is_empty() {
            config.options.clone_from(&self.options);
        }
    }
}

/// Reads a word that can stand in a line of resolv.conf.
fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("it has to be one word".to_owned());
    }
    Ok(text.to_owned())
}

/// What `--add-host` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    name: String,
    /// `None` is `host-gateway`.
    address: Option<IpAddr>,
}

impl FromStr for ExtraHost {
    type Err = String;

    /// Reads `NAME=IP` or `NAME:IP`, as docker does.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            return Err("it is not NAME:IP".to_owned());
        };
        if name.is_empty() || name.contains(|c: char| c == ':' || c == '#' || c.is_whitespace() || c.is_control()) {
            return Err(format!("`{}` is not a name of a host", shown(name)));
        }
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "host-gateway" => None,
            ip => Some(ip.parse().map_err(|_| format!("`{}` is neither an IP address nor `host-gateway`", shown(ip)))?),
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

/// Returns the lines for /etc/hosts of containers in `network`.
///
/// # Errors
///
/// When `host-gateway` stands for nothing that they could reach.
pub(crate) fn host_entries(given: &[ExtraHost], network: Network) -> anyhow::Result<Vec<HostEntry>> {
    given.iter().map(|host| host_entry(host, network)).collect()
}

fn host_entry(host: &ExtraHost, network: Network) -> anyhow::Result<HostEntry> {
    let address = match host.address {
        Some(address) => address,
        None if network == Network::None => {
            return Err(Ending::usage("`host-gateway` leads nowhere with `--network none`").into());
        }
        None => {
            let no_way = "`host-gateway` stands for nothing: this machine has no address that a container could reach";
            host_address().context(no_way)?.into()
        }
    };
    Ok(HostEntry { name: host.name.clone(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_host(text: &str, expected: &str) {
        let shown = match text.parse::<ExtraHost>() {
            Ok(host) => format!("{} {}", host.name, host.address.map_or("gateway".to_owned(), |ip| ip.to_string())),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        check_host("db:192.0.2.7", "db 192.0.2.7");
        check_host("db=192.0.2.7", "db 192.0.2.7");
        check_host("db:2001:db8::1", "db 2001:db8::1");
        check_host("db=[2001:db8::1]", "db 2001:db8::1");
        check_host("db:host-gateway", "db gateway");
        check_host("db", "error: it is not NAME:IP");
        check_host(":192.0.2.7", "error: `` is not a name of a host");
        check_host("a b:192.0.2.7", "error: `a b` is not a name of a host");
        check_host("a:b=192.0.2.7", "error: `a:b` is not a name of a host");
        check_host("db:192.0.2", "error: `192.0.2` is neither an IP address nor `host-gateway`");
        check_host("db:", "error: `` is neither an IP address nor `host-gateway`");
    }

    #[test]
    fn the_gateway_needs_a_network() {
        let gateway: ExtraHost = "host:host-gateway".parse().unwrap();
        assert!(host_entry(&gateway, Network::None).is_err());
        let plain: ExtraHost = "host:192.0.2.1".parse().unwrap();
        assert_eq!(host_entry(&plain, Network::None).unwrap().address.to_string(), "192.0.2.1");
    }

    #[test]
    fn each_dns_flag_replaces_only_what_it_is_about() {
        let host = "nameserver 192.0.2.1\nsearch corp.example\noptions ndots:2\n";
        let applied = |args: &DnsArgs| {
            let mut config = NetworkConfig::from_resolv_conf(host);
            args.apply(&mut config);
            config.direct_resolv_conf()
        };
        assert_eq!(applied(&DnsArgs::default()), host);
        let nameservers = vec!["192.0.2.9".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let args = DnsArgs { nameservers, ..DnsArgs::default() };
        let expected = "nameserver 192.0.2.9\nnameserver 2001:db8::1\nsearch corp.example\noptions ndots:2\n";
        assert_eq!(applied(&args), expected);
        let args = DnsArgs { search: vec![".".to_owned()], options: vec!["edns0".to_owned()], ..DnsArgs::default() };
        assert_eq!(applied(&args), "nameserver 192.0.2.1\noptions edns0\n");
        assert!(word("a b").is_err() && word("a\nb").is_err() && word("").is_err());
    }
}
