//! `--publish` and `--publish-all`: which ports of the host lead to which of a container.
//!
//! | `-p` | listens on |
//! |---|---|
//! | `8080:80` | port 8080 of all addresses, IPv4 and IPv6 |
//! | `127.0.0.1:8080:80` | port 8080 of that address |
//! | `80`, `127.0.0.1::80` | a free port |
//! | `8000-8009:80` | the first of these that is free |
//! | `8000-8009:80-89` | each of these, for the one at its place |

use std::ops::RangeInclusive;

use dockerfile::{Ports, Protocol as PortProtocol};
use oci::ContainerConfig;
use runtime::network::{PortRequest, Protocol, PublishedPort};

use crate::ending::Ending;
use crate::network::Network;
use crate::output;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct PublishArgs {
    /// Let a port of this machine lead to one of the container
    #[arg(short = 'p', long = "publish", value_name = "[[IP:][HOSTPORT]:]PORT[/udp]")]
    ports: Vec<Ports>,
    /// Publish the ports that the image exposes on free ones
    #[arg(short = 'P', long = "publish-all")]
    all: bool,
}

impl PublishArgs {
    /// Listens on the ports for a container of `config` in `network`, and tells which free ones were chosen.
    ///
    /// As with docker, nothing is published in the network of the host, with a warning, and none in one without a way in.
    ///
    /// # Errors
    ///
    /// When a port cannot be published or is in use.
    pub(crate) fn bind(&self, config: &ContainerConfig, network: Network) -> anyhow::Result<Vec<PublishedPort>> {
        let requests = self.requests(config)?;
        if network != Network::Default {
            if network == Network::Host && !requests.is_empty() {
                output::notice("WARNING: Published ports are discarded when using host network mode");
            }
            return Ok(Vec::new());
        }
        let mut published = Vec::new();
        for request in requests {
            let ports = request.bind()?;
            if *request.host_ports.start() == 0 || request.host_ports.len() > 1 {
                let lines: Vec<String> = ports.iter().map(PublishedPort::to_string).collect();
                output::notice(&lines.join(", "));
            }
            published.extend(ports);
        }
        Ok(published)
    }

    fn requests(&self, config: &ContainerConfig) -> Result<Vec<PortRequest>, Ending> {
        let mut requests = Vec::new();
        for ports in &self.ports {
            requests.extend(requests_of(ports)?);
        }
        if self.all {
            // What is no port there could not be built here, and is nobody's to publish.
            for ports in config.exposed_ports.keys().filter_map(|key| key.parse::<Ports>().ok()) {
                let exposed = requests_of(&ports)?;
                let is_known = |exposed: &PortRequest| requests.iter().any(|known| is_same_port(known, exposed));
                let unknown: Vec<_> = exposed.into_iter().filter(|exposed| !is_known(exposed)).collect();
                requests.extend(unknown);
            }
        }
        Ok(requests)
    }
}

fn is_same_port(a: &PortRequest, b: &PortRequest) -> bool {
    (a.protocol, a.container_port) == (b.protocol, b.container_port)
}

/// Returns one request for each port of the container.
fn requests_of(ports: &Ports) -> Result<Vec<PortRequest>, Ending> {
    let protocol = match ports.protocol {
        PortProtocol::Tcp => Protocol::Tcp,
        PortProtocol::Udp => Protocol::Udp,
        PortProtocol::Sctp => {
            return Err(Ending::usage(format!("`{}/sctp` cannot be published: only tcp and udp can", ports.first)));
        }
    };
    if ports.first == 0 {
        return Err(Ending::usage("port 0 of a container cannot be published: nothing listens there"));
    }
    let requests = (ports.first..=ports.last).map(|container_port| {
        let host_ports = host_ports(ports, container_port);
        PortRequest { protocol, address: ports.host_address, host_ports, container_port }
    });
    Ok(requests.collect())
}

/// Returns the ports of the host to choose from for one of the container's.
fn host_ports(ports: &Ports, container_port: u16) -> RangeInclusive<u16> {
    match ports.host_ports {
        None => 0..=0,
        Some((first, last)) if ports.first == ports.last => first..=last,
        Some((first, _)) => {
            let port = first + (container_port - ports.first);
            port..=port
        }
    }
}

#[cfg(test)]
mod tests {
    use oci::Empty;

    use super::*;

    #[track_caller]
    fn check(given: &[&str], exposed: &[&str], all: bool, expected: &[&str]) {
        let args = PublishArgs { ports: given.iter().map(|text| text.parse().unwrap()).collect(), all };
        let exposed_ports = exposed.iter().map(|&port| (port.to_owned(), Empty {})).collect();
        let config = ContainerConfig { exposed_ports, ..ContainerConfig::default() };
        let shown: Vec<String> = match args.requests(&config) {
            Ok(requests) => requests.iter().map(shown).collect(),
            Err(error) => vec![error.to_string()],
        };
        assert_eq!(shown, expected);
    }

    fn shown(request: &PortRequest) -> String {
        let PortRequest { protocol, address, host_ports, container_port } = request;
        let address = address.map_or("*".to_owned(), |address| address.to_string());
        format!("{address} {}-{} {container_port}/{protocol}", host_ports.start(), host_ports.end())
    }

    #[test]
    fn ports_are_published_as_docker_does() {
        check(&["8080:80"], &[], false, &["* 8080-8080 80/tcp"]);
        check(&["80/UDP"], &[], false, &["* 0-0 80/udp"]);
        check(&["[::1]:8080:80"], &[], false, &["::1 8080-8080 80/tcp"]);
        check(&["127.0.0.1::80"], &[], false, &["127.0.0.1 0-0 80/tcp"]);
        check(&["8000-8010:80"], &[], false, &["* 8000-8010 80/tcp"]);
        check(&["65534-65535:80-81"], &[], false, &["* 65534-65534 80/tcp", "* 65535-65535 81/tcp"]);
        check(&["80/sctp"], &[], false, &["`80/sctp` cannot be published: only tcp and udp can"]);
        check(&["8080:0"], &[], false, &["port 0 of a container cannot be published: nothing listens there"]);
    }

    #[test]
    fn all_exposed_ports_are_published_but_those_that_are_already() {
        let exposed = ["53/udp", "80/tcp", "90/tcp"];
        check(&["8080:80"], &exposed, false, &["* 8080-8080 80/tcp"]);
        check(&["8080:80"], &exposed, true, &["* 8080-8080 80/tcp", "* 0-0 53/udp", "* 0-0 90/tcp"]);
    }
}
