//! The addresses of a container's network, and where each destination leads on the host.
//!
//! ```text
//! container 10.0.2.100/24 ─▶ 10.0.2.2    gateway: refused, or the host's 127.0.0.1 (HostLoopback::Reachable)
//!                            10.0.2.3    port 53: the host's nameservers; otherwise refused
//!                            10.0.2.0/24, 0/8, 127/8, 169.254/16, 224/3      refused
//!                            all others  reached from the host, as the process itself would
//! ```
//!
//! Every container has the same addresses: each is alone in its network namespace. What connects to a container's published
//! ports comes from the gateway's address, which it can answer but not call.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};

use super::config::{DNS_PORT, HostLoopback};

/// The container's own address.
pub const CONTAINER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// The default route.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The nameserver of the container's resolv.conf.
pub(super) const NAMESERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// Bits of the network part of all of these.
pub(super) const PREFIX: u8 = 24;
/// Bytes of the largest packet on a container's link. No packet leaves the host in this form, so it is as large as IPv4 allows
/// (rounded down to whole words): one system call moves 64 KiB.
pub(super) const MTU: u16 = 65_520;

/// Where packets for an address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// Nowhere: the container is told at once.
    Refused,
    /// To the host's nameservers.
    Nameservers,
    /// To this address, from a socket of the host.
    Host(SocketAddr),
}

/// Returns where packets to `address` go.
pub(super) fn destination(address: SocketAddrV4, host_loopback: HostLoopback) -> Destination {
    let ip = *address.ip();
    if ip == NAMESERVER && address.port() == DNS_PORT {
        return Destination::Nameservers;
    }
    if ip == GATEWAY && host_loopback == HostLoopback::Reachable {
        return Destination::Host(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()));
    }
    if is_of_the_link(ip) || is_never_remote(ip) || address.port() == 0 {
        return Destination::Refused;
    }
    Destination::Host(SocketAddr::V4(address))
}

fn is_of_the_link(ip: Ipv4Addr) -> bool {
    let mask = u32::MAX << (u32::BITS - u32::from(PREFIX));
    ip.to_bits() & mask == GATEWAY.to_bits() & mask
}

/// Whether the address means the host itself (Linux connects 0.0.0.0/8 to the local host), its link (cloud metadata services
/// answer on 169.254.169.254), or no single host.
fn is_never_remote(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [0 | 127, ..] | [169, 254, ..] | [224..=255, ..])
}

fn is_reached(address: Ipv4Addr) -> bool {
    matches!(destination(SocketAddrV4::new(address, DNS_PORT), HostLoopback::Blocked), Destination::Host(_))
}

/// Returns the address of the host's way out: an attached container reaches services there that listen on all addresses.
///
/// # Errors
///
/// `NetworkUnreachable` when the host has no route to elsewhere.
pub fn host_address() -> io::Result<Ipv4Addr> {
    // Nothing is sent: connecting a UDP socket asks the kernel which address would be sent from. The other address stands for
    // all that are elsewhere (TEST-NET-1, RFC 5737).
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), DNS_PORT))?;
    match socket.local_addr()?.ip() {
        IpAddr::V4(address) if is_reached(address) => Ok(address),
        _ => Err(io::ErrorKind::NetworkUnreachable.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_address_is_one_that_containers_reach() {
        // A machine without a route has none.
        if let Ok(address) = host_address() {
            check(HostLoopback::Blocked, &format!("{address}:80"), host(&format!("{address}:80")));
        }
    }

    #[track_caller]
    fn check(host_loopback: HostLoopback, address: &str, expected: Destination) {
        assert_eq!(destination(address.parse().unwrap(), host_loopback), expected, "{address}");
    }

    fn host(address: &str) -> Destination {
        Destination::Host(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_the_host_s_own_loopback_and_link_are_refused() {
        for address in [
            "127.0.0.1:80",
            "127.9.9.9:53",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "10.0.2.2:80",
            "10.0.2.3:80",
            "10.0.2.100:80",
            "10.0.2.255:53",
            "224.0.0.251:5353",
            "255.255.255.255:67",
            "240.0.0.1:1",
            "192.0.2.1:0",
        ] {
            check(HostLoopback::Blocked, address, Destination::Refused);
        }
    }

    #[test]
    fn the_gateway_stands_for_the_host_s_loopback_only_when_it_is_reachable() {
        check(HostLoopback::Reachable, "10.0.2.2:8080", host("127.0.0.1:8080"));
        check(HostLoopback::Reachable, "127.0.0.1:8080", Destination::Refused);
        check(HostLoopback::Reachable, "169.254.169.254:80", Destination::Refused);
    }

    #[test]
    fn other_addresses_are_reached_and_names_are_asked_of_the_host_s_nameservers() {
        check(HostLoopback::Blocked, "192.0.2.7:443", host("192.0.2.7:443"));
        check(HostLoopback::Blocked, "10.0.3.1:443", host("10.0.3.1:443"));
        check(HostLoopback::Blocked, "10.0.2.3:53", Destination::Nameservers);
    }
}
