//! Ports: one word of EXPOSE after expansion, or of `docker run --publish`.
//!
//! ```text
//! [[address:]host-port:]port[-port][/protocol]
//! ```
//!
//! For EXPOSE only the container's side counts. Docker still accepts the host's side there, and checks it.
//!
//! Not here: expansion (`word.rs`), the order of several words (`Expose::ports`).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The ports that a word names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port; never below the first.
    pub last: u16,
    /// The protocol; TCP when none was written.
    pub protocol: Protocol,
    /// Whether the protocol was written otherwise than in lower case, which docker's rule `ExposeProtoCasing` tells.
    pub has_protocol_in_other_case: bool,
    /// The address of the host.
    pub host_address: Option<IpAddr>,
    /// The first and the last port of the host: as many as the container's, or any number for a single one of those.
    pub host_ports: Option<(u16, u16)>,
}

/// What a port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// Why a word of EXPOSE names no ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum PortError {
    #[error("there is no port in it")]
    NoPort,
    #[error("`{text}` is not one of the protocols tcp, udp and sctp")]
    Protocol { text: String },
    #[error("`{text}` is not a port from 0 to 65535")]
    Port { text: String },
    #[error("the range `{text}` ends before it begins")]
    Range { text: String },
    #[error("`{text}` is not an IP address")]
    Address { text: String },
    #[error("the ranges `{host}` and `{container}` are not of the same length")]
    Lengths { host: String, container: String },
}

impl Ports {
    /// Tells whether an address or a port of the host was written, which docker's rule `ExposeInvalidFormat` tells.
    pub fn has_host(self) -> bool {
        self.host_address.is_some() || self.host_ports.is_some()
    }

    /// Returns the ports as an image config has them, in ascending order: `80/tcp`.
    pub fn names(self) -> impl Iterator<Item = String> {
        (self.first..=self.last).map(move |port| format!("{port}/{}", self.protocol))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Ports {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (host, container) = match text.rsplit_once(':') {
            Some((host, container)) => (host, container),
            None => ("", text),
        };
        let (ports, protocol_text) = container.split_once('/').unwrap_or((container, ""));
        if ports.is_empty() {
            return Err(PortError::NoPort);
        }
        let protocol = protocol(protocol_text)?;
        let (address, host_ports) = host.rsplit_once(':').unwrap_or(("", host));
        let host_address = host_address(address)?;
        let (first, last) = range(ports)?;
        let host_ports = host_range(host_ports, ports, last - first)?;
        let has_protocol_in_other_case = protocol_text.chars().any(|c| !c.is_ascii_lowercase());
        Ok(Self { first, last, protocol, has_protocol_in_other_case, host_address, host_ports })
    }
}

fn protocol(text: &str) -> Result<Protocol, PortError> {
    match text.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        "sctp" => Ok(Protocol::Sctp),
        _ => Err(PortError::Protocol { text: text.to_owned() }),
    }
}

fn host_address(text: &str) -> Result<Option<IpAddr>, PortError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(Some).map_err(|_| PortError::Address { text: text.to_owned() })
}

/// A single port of the container may stand for a range of the host's; `length` is the distance of the container's ends.
fn host_range(text: &str, container: &str, length: u16) -> Result<Option<(u16, u16)>, PortError> {
    if text.is_empty() {
        return Ok(None);
    }
    let (first, last) = range(text)?;
    if length == 0 || last - first == length {
        return Ok(Some((first, last)));
    }
    Err(PortError::Lengths { host: text.to_owned(), container: container.to_owned() })
}

fn range(text: &str) -> Result<(u16, u16), PortError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first <= last { Ok((first, last)) } else { Err(PortError::Range { text: text.to_owned() }) }
}

/// Reads a port; a sign is accepted, as docker does.
fn number(text: &str) -> Result<u16, PortError> {
    text.parse::<u16>().map_err(|_| PortError::Port { text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown = match text.parse::<Ports>() {
            Ok(ports) => {
                let mut words: Vec<_> = ports.names().collect();
                words.extend(ports.has_protocol_in_other_case.then(|| "case".to_owned()));
                words.extend(ports.has_host().then(|| "host".to_owned()));
                words.join(" ")
            }
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(shown, expected, "{text}");
    }

    #[test]
    fn ports_are_normalised_and_ranges_written_out() {
        check("80", "80/tcp");
        check("0080/udp", "80/udp");
        check("5000/sctp", "5000/sctp");
        check("80/", "80/tcp");
        check("+80", "80/tcp");
        check("0", "0/tcp");
        check("65535", "65535/tcp");
        check("8000-8002", "8000/tcp 8001/tcp 8002/tcp");
        check("7-7/udp", "7/udp");
    }

    #[test]
    fn a_protocol_in_other_case_is_told() {
        check("53/UDP", "53/udp case");
        check("80/Tcp", "80/tcp case");
    }

    #[test]
    fn the_host_s_side_is_told_and_does_not_count() {
        check("80:8080", "8080/tcp host");
        check("127.0.0.1:80:8080/TCP", "8080/tcp case host");
        check("127.0.0.1::8080", "8080/tcp host");
        check("[::1]:80:8080", "8080/tcp host");
        check("::1:80:8080", "8080/tcp host");
        check("8000-8010:80", "80/tcp host");
        check("8000-8001:90-91", "90/tcp 91/tcp host");
        check(":80", "80/tcp");
    }

    #[test]
    fn the_host_s_side_is_kept_for_who_publishes() {
        let read = |text: &str| {
            let ports: Ports = text.parse().unwrap();
            (ports.host_address.map(|address| address.to_string()), ports.host_ports)
        };
        assert_eq!(read("80"), (None, None));
        assert_eq!(read("8000-8010:80"), (None, Some((8000, 8010))));
        assert_eq!(read("127.0.0.1::80"), (Some("127.0.0.1".to_owned()), None));
        assert_eq!(read("[::1]:8:80-80"), (Some("::1".to_owned()), Some((8, 8))));
    }

    #[test]
    fn what_is_no_port_is_named() {
        check("", "error: there is no port in it");
        check("/tcp", "error: there is no port in it");
        check("80:", "error: there is no port in it");
        check("80/icmp", "error: `icmp` is not one of the protocols tcp, udp and sctp");
        check("80/tcp/udp", "error: `tcp/udp` is not one of the protocols tcp, udp and sctp");
        check("http", "error: `http` is not a port from 0 to 65535");
        check("65536", "error: `65536` is not a port from 0 to 65535");
        check("80-", "error: `` is not a port from 0 to 65535");
        check("-80", "error: `` is not a port from 0 to 65535");
        check("1-2-3", "error: `2-3` is not a port from 0 to 65535");
        check("9-8", "error: the range `9-8` ends before it begins");
        check("80/tcp:90", "error: `80/tcp` is not a port from 0 to 65535");
        check("localhost:80:90", "error: `localhost` is not an IP address");
        check("[::1]:90", "error: `[:` is not an IP address");
        check("8000-8001:90-99", "error: the ranges `8000-8001` and `90-99` are not of the same length");
    }
}
