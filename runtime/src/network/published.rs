//! Published ports: ports of the host that lead into a container.
//!
//! ```text
//! host's peer ─▶ listening socket of this process ─▶ link ─ from the gateway's address ─▶ the container's port
//! ```
//!
//! - The socket is bound before the container is there, so that a port in use is an error and not a surprise. Who connects
//!   early waits in the socket's queue.
//! - The container sees every peer as the gateway's address, with a port of its own for each connection or UDP peer.
//! - Nobody asks the container before a connection is accepted: where its port is closed, the peer is connected and then reset.
//! - Datagrams are answered from the address that the host routes to their peer: one that was sent to another address of a
//!   host with several gets its answer from the wrong one.
//!
//! Not here: what happens to a connection (`tcp_flow.rs`) or a datagram (`udp_flow.rs`).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, sockopt};

/// As long as the kernel allows (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// How often a free port is looked for that is free for both families.
const ATTEMPTS: u32 = 32;

/// What a published port carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Which port of the host is to lead to one of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    /// What it carries.
    pub protocol: Protocol,
    /// The address of the host to listen on; `None` is all of them, of IPv4 and, where the host has it, of IPv6.
    pub address: Option<IpAddr>,
    /// The ports of the host to choose from, the first that is free; port 0 stands for any.
    pub host_ports: RangeInclusive<u16>,
    /// The container's port.
    pub container_port: u16,
}

/// A socket of the host that leads to a port of a container, once it is [attached](super::Network::attach).
#[derive(Debug)]
pub struct PublishedPort {
    socket: Arc<OwnedFd>,
    address: SocketAddr,
    protocol: Protocol,
    container_port: u16,
}

/// Why a port could not be published.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}/{protocol}")]
pub struct PublishError {
    /// The address and port of the host.
    pub address: SocketAddr,
    /// What the port was to carry.
    pub protocol: Protocol,
    /// What the kernel said.
    pub source: io::Error,
}

impl PortRequest {
    /// Binds the sockets: one, or where `address` is `None` one for each family, on the same port.
    ///
    /// # Errors
    ///
    /// [`PublishError`] for the last port that was tried.
    pub fn bind(&self) -> Result<Vec<PublishedPort>, PublishError> {
        let mut ports = self.host_ports.clone();
        let mut attempts = ATTEMPTS;
        loop {
            // The end of a range is the one whose failure counts.
            let port = ports.next().unwrap_or(*self.host_ports.end());
            match self.bind_to(port) {
                Err(error) if error.source.kind() == io::ErrorKind::AddrInUse => {
                    let is_any = port == 0 && attempts > 0;
                    attempts = attempts.saturating_sub(1);
                    if ports.is_empty() && !is_any {
                        return Err(error);
                    }
                }
                bound => return bound,
            }
        }
    }

    fn bind_to(&self, port: u16) -> Result<Vec<PublishedPort>, PublishError> {
        if let Some(address) = self.address {
            return Ok(vec![self.listen(SocketAddr::new(address, port))?]);
        }
        let first = self.listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))?;
        let port = first.address.port();
        match self.listen(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)) {
            Ok(second) => Ok(vec![first, second]),
            Err(error) if is_without_ipv6(&error.source) => Ok(vec![first]),
            Err(error) => Err(error),
        }
    }

    fn listen(&self, address: SocketAddr) -> Result<PublishedPort, PublishError> {
        let protocol = self.protocol;
        let failed = |errno: Errno| PublishError { address, protocol, source: errno.into() };
        let socket = open(protocol, address).map_err(failed)?;
        let bound = net::getsockname(&socket).and_then(SocketAddr::try_from).map_err(failed)?;
        Ok(PublishedPort { socket: Arc::new(socket), address: bound, protocol, container_port: self.container_port })
    }
}

fn open(protocol: Protocol, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (kind, number) = match protocol {
        Protocol::Tcp => (SocketType::STREAM, ipproto::TCP),
        Protocol::Udp => (SocketType::DGRAM, ipproto::UDP),
    };
    let socket = net::socket_with(family, kind, flags, Some(number))?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier container that linger do not keep the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|errno| code == Some(errno.raw_os_error()))
}

impl PublishedPort {
    /// Returns the address and port of the host.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what it carries.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the container's port.
    pub fn container_port(&self) -> u16 {
        self.container_port
    }

    /// Returns the next connection that waits; `None` when there is none for now.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        loop {
            match net::accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(socket) => return Some(socket),
                // One that failed while it waited (accept(2)).
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                // Nothing, or no descriptors: then it is tried again.
                Err(_) => return None,
            }
        }
    }

    /// Returns the size and the sender of the next datagram that waits; `None` when there is none for now.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let (size, _, peer) = net::recvfrom(&self.socket, buffer, RecvFlags::DONTWAIT).ok()?;
        Some((size, SocketAddr::try_from(peer?).ok()?))
    }

    /// Returns the socket, to answer from.
    pub(super) fn socket(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.socket)
    }
}

impl AsFd for PublishedPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/{}", self.address, self.container_port, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(protocol: Protocol, address: Option<IpAddr>, host_ports: RangeInclusive<u16>) -> PortRequest {
        PortRequest { protocol, address, host_ports, container_port: 80 }
    }

    #[test]
    fn without_an_address_the_same_port_is_bound_for_both_families() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let bound = request(protocol, None, 0..=0).bind().unwrap();
            let port = bound[0].address().port();
            assert_eq!(bound[0].to_string(), format!("0.0.0.0:{port}->80/{protocol}"));
            assert!(bound[1..].iter().all(|v6| v6.to_string() == format!("[::]:{port}->80/{protocol}")), "{bound:?}");
        }
    }

    #[test]
    fn a_port_in_use_is_an_error_and_in_a_range_the_next_is_taken() {
        let loopback = Some(Ipv4Addr::LOCALHOST.into());
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let held = request(protocol, loopback, 0..=0).bind().unwrap();
            let port = held[0].address().port();
            let error = request(protocol, loopback, port..=port).bind().unwrap_err();
            assert_eq!(error.to_string(), format!("cannot listen on 127.0.0.1:{port}/{protocol}"));
            assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
            // Others may hold those after it, but not all of them.
            let next = request(protocol, loopback, port..=u16::MAX).bind().unwrap();
            assert!(next[0].address().port() > port);
        }
    }

    #[test]
    fn an_address_that_the_host_has_not_is_an_error() {
        let nowhere = Some(Ipv4Addr::new(192, 0, 2, 123).into());
        let error = request(Protocol::Tcp, nowhere, 0..=0).bind().unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
