//! A container's UDP socket talking to one remote address, joined to a socket of the host: one of its own, or that of a
//! published port.
//!
//! Datagrams are passed on one for one, and the host's "port unreachable" is told to the container. A flow ends when nothing
//! passed for [`IDLE`].
//!
//! Not here: queries to the container's nameserver (`dns.rs`).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use super::budget::Permit;
use super::link::{Outcome, Wire};
use super::packet::{self, Endpoints, Unreachable};
use super::poller::{Interest, Token};

/// As long as most routers keep one.
const IDLE: Duration = Duration::from_secs(60);
/// Datagrams passed on before others get their turn.
const BATCH: usize = 64;

#[derive(Debug)]
pub(super) struct UdpFlow {
    endpoints: Endpoints,
    far_end: FarEnd,
    last_used: Instant,
}

/// Where a flow's datagrams go on the host.
#[derive(Debug)]
enum FarEnd {
    /// To the address that the socket is connected to.
    Own { socket: OwnedFd, _permit: Permit },
    /// To who has sent to the socket of a published port.
    Peer { socket: Arc<OwnedFd>, peer: Peer },
}

/// Who sends to a published port: the number of that port in its link, and an address.
pub(super) type Peer = (u32, SocketAddr);

impl UdpFlow {
    /// Opens a socket to `target` for the datagrams between `endpoints`.
    pub(super) fn open(
        token: Token,
        endpoints: Endpoints,
        target: SocketAddr,
        wire: &Wire<'_>,
    ) -> Result<UdpFlow, Errno> {
        let permit = wire.budget.take().ok_or(Errno::MFILE)?;
        let socket = connect(target)?;
        wire.poller.add(&socket, token, Interest::Readable).map_err(|_| Errno::NOMEM)?;
        Ok(UdpFlow { endpoints, far_end: FarEnd::Own { socket, _permit: permit }, last_used: wire.now })
    }

    /// Joins `peer`, who has sent to the published `socket`, to the container between `endpoints`.
    pub(super) fn of_peer(endpoints: Endpoints, socket: Arc<OwnedFd>, peer: Peer, wire: &Wire<'_>) -> UdpFlow {
        UdpFlow { endpoints, far_end: FarEnd::Peer { socket, peer }, last_used: wire.now }
    }

    /// Returns who has sent to a published port, if this flow began there.
    pub(super) fn peer(&self) -> Option<&Peer> {
        match &self.far_end {
            FarEnd::Own { .. } => None,
            FarEnd::Peer { peer, .. } => Some(peer),
        }
    }

    pub(super) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(super) fn deadline(&self) -> Instant {
        self.last_used + IDLE
    }

    /// Sends a datagram of the container.
    pub(super) fn on_datagram(&mut self, payload: &[u8], wire: &Wire<'_>) {
        self.last_used = wire.now;
        match &self.far_end {
            // A refusal tells of an earlier datagram's fate, and this one was not sent. Otherwise datagrams may be lost.
            FarEnd::Own { socket, .. } => {
                if let Err(Errno::CONNREFUSED) = net::send(socket, payload, SendFlags::DONTWAIT) {
                    self.tell_unreachable(wire);
                    let _ = net::send(socket, payload, SendFlags::DONTWAIT);
                }
            }
            FarEnd::Peer { socket, peer: (_, address) } => {
                let _ = net::sendto(socket, payload, SendFlags::DONTWAIT, address);
            }
        }
    }

    /// Passes the first `size` bytes of `scratch` on to the container.
    pub(super) fn pass_in(&mut self, size: usize, wire: &Wire<'_>) {
        self.last_used = wire.now;
        if let Some(head) = packet::udp(&self.endpoints, size) {
            wire.device.send(&head, [&wire.scratch[..size], &[]]);
        }
    }

    /// Passes on what the socket received; one that is shared is read elsewhere.
    pub(super) fn on_readable(&mut self, wire: &mut Wire<'_>) -> Outcome {
        for _ in 0..BATCH {
            let FarEnd::Own { socket, .. } = &self.far_end else { break };
            match net::recv(socket, &mut *wire.scratch, RecvFlags::DONTWAIT) {
                Ok((size, _)) => self.pass_in(size, wire),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(Errno::CONNREFUSED) => self.tell_unreachable(wire),
                // Another ICMP error, told once: the socket goes on.
                Err(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::MSGSIZE) => {}
                Err(_) => return Outcome::Close,
            }
        }
        Outcome::Keep
    }

    fn tell_unreachable(&self, wire: &Wire<'_>) {
        let quote = packet::quote_udp(&self.endpoints);
        wire.device.send(&packet::unreachable(&quote, Unreachable::Port), [&[], &[]]);
    }
}

/// Opens a socket that exchanges datagrams with `target` only.
pub(super) fn connect(target: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    net::connect(&socket, &target)?;
    Ok(socket)
}
