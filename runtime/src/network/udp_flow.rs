//! A container's UDP socket talking to one remote address, joined to a socket of the host.
//!
//! Datagrams are passed on one for one, and the host's "port unreachable" is told to the container. A flow ends when nothing
//! passed for [`IDLE`].
//!
//! Not here: queries to the container's nameserver (`dns.rs`).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
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
    socket: OwnedFd,
    _permit: Permit,
    last_used: Instant,
}

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
        Ok(UdpFlow { endpoints, socket, _permit: permit, last_used: wire.now })
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
        // A refusal tells of an earlier datagram's fate, and this one was not sent. Otherwise datagrams may be lost.
        if let Err(Errno::CONNREFUSED) = net::send(&self.socket, payload, SendFlags::DONTWAIT) {
            self.tell_unreachable(wire);
            let _ = net::send(&self.socket, payload, SendFlags::DONTWAIT);
        }
    }

    /// Passes on what the socket received.
    pub(super) fn on_readable(&mut self, wire: &mut Wire<'_>) -> Outcome {
        for _ in 0..BATCH {
            match net::recv(&self.socket, &mut *wire.scratch, RecvFlags::DONTWAIT) {
                Ok((size, _)) => {
                    self.last_used = wire.now;
                    if let Some(head) = packet::udp(&self.endpoints, size) {
                        wire.device.send(&head, [&wire.scratch[..size], &[]]);
                    }
                }
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
