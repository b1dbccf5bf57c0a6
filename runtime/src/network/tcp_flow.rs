//! A TCP connection of a container, joined to a socket of the host.
//!
//! ```text
//! SYN ─▶ connecting ─ the host's socket is connected ─▶ open ─ both ends done ─▶ closed
//!            └─ it cannot be: RST, or ICMP with the reason      └─ one end failed: RST to the other
//! accepted from a published port ─ SYN ─▶ open
//! ```
//!
//! - The container's SYN is answered only when the host's connection stands, so a refused port is refused.
//! - A side that sends faster than the other reads fills [`BUFFER`] bytes, and is then held up by its window.
//! - What the host's side sent before it failed is delivered before the reset.
//!
//! Not here: the protocol (`tcp.rs`).

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};

use super::budget::Permit;
use super::link::{Outcome, Wire};
use super::packet::{self, Endpoints, Head, Incoming, QUOTE, Segment, Unreachable};
use super::poller::{Interest, Token};
use super::tcp::{BUFFER, Connection, Received};

/// A container's connection and the host's socket it is joined to.
#[derive(Debug)]
pub(super) struct TcpFlow {
    token: Token,
    endpoints: Endpoints,
    socket: OwnedFd,
    _permit: Permit,
    connection: Connection,
    /// Until the socket is connected.
    connecting: Option<Box<Connecting>>,
    /// Bytes the socket did not take yet.
    to_host: VecDeque<u8>,
    sending: Sending,
    receiving: Receiving,
    /// What the socket last said; it reports changes only.
    is_readable: bool,
    is_writable: bool,
}

/// What is kept of the SYN until the host's socket is connected.
#[derive(Debug)]
struct Connecting {
    quote: [u8; QUOTE],
    refusal: Head,
    /// Where to connect next if this fails.
    others: VecDeque<SocketAddr>,
}

/// The direction from the container to the host's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Open,
    ShutDown,
    Failed,
}

/// The direction from the host's socket to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Open,
    Ended,
    Failed,
}

impl TcpFlow {
    /// Starts to connect the container's SYN `incoming` to the first of `targets` that can be reached.
    ///
    /// Returns `None` when that fails at once; the container has then been told.
    pub(super) fn connect(
        token: Token,
        incoming: &Incoming<'_>,
        syn: &Segment<'_>,
        mut targets: VecDeque<SocketAddr>,
        wire: &Wire<'_>,
    ) -> Option<TcpFlow> {
        let refusal = packet::refuse(&incoming.endpoints, syn)?;
        let Some(permit) = wire.budget.take() else {
            wire.device.send(&refusal, [&[], &[]]);
            return None;
        };
        let socket = match connect_to_one(&mut targets, token, wire) {
            Ok(socket) => socket,
            Err(errno) => {
                tell_failure(errno, &incoming.quote, &refusal, wire);
                return None;
            }
        };
        let mut flow = TcpFlow::new(token, incoming.endpoints, (socket, permit));
        flow.connection = Connection::answer(syn, initial_sequence());
        flow.connecting = Some(Box::new(Connecting { quote: incoming.quote, refusal, others: targets }));
        Some(flow)
    }

    /// Starts to connect `socket`, accepted from a published port, to the container between `endpoints`.
    ///
    /// Returns `None` when too many sockets are open; the peer is then reset.
    pub(super) fn accept(token: Token, endpoints: Endpoints, socket: OwnedFd, wire: &Wire<'_>) -> Option<TcpFlow> {
        // The peer has decided already what to send when. It fails only for a socket that was reset, which is found out.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let permit = wire.budget.take();
        if permit.is_none() || wire.poller.add(&socket, token, Interest::Changes).is_err() {
            abandon(&socket);
            return None;
        }
        Some(TcpFlow::new(token, endpoints, (socket, permit?)))
    }

    /// A connection that we ask the container for.
    fn new(token: Token, endpoints: Endpoints, (socket, permit): (OwnedFd, Permit)) -> TcpFlow {
        TcpFlow {
            token,
            endpoints,
            socket,
            _permit: permit,
            connection: Connection::ask(initial_sequence()),
            connecting: None,
            to_host: VecDeque::new(),
            sending: Sending::Open,
            receiving: Receiving::Open,
            is_readable: false,
            is_writable: false,
        }
    }

    pub(super) fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.connection.deadline()
    }

    /// Takes a segment from the container.
    pub(super) fn on_segment(&mut self, segment: &Segment<'_>) -> Outcome {
        if self.connecting.is_some() {
            // A SYN sent again needs nothing: the first one is being worked on.
            return if segment.flags & packet::RST == 0 { Outcome::Keep } else { Outcome::Close };
        }
        match self.connection.on_segment(segment, self.room()) {
            Received::Bytes(bytes) => {
                self.send_to_host(bytes);
                while let Some(bytes) = self.connection.next_early() {
                    self.send_to_host(&bytes);
                }
                Outcome::Keep
            }
            Received::Reset => {
                abandon(&self.socket);
                Outcome::Close
            }
        }
    }

    /// Takes what the socket reports.
    pub(super) fn on_event(&mut self, is_readable: bool, is_writable: bool, wire: &Wire<'_>) -> Outcome {
        if self.connecting.is_some() && is_writable {
            return self.on_connected(is_readable, wire);
        }
        self.is_readable |= is_readable;
        self.is_writable |= is_writable;
        Outcome::Keep
    }

    fn on_connected(&mut self, is_readable: bool, wire: &Wire<'_>) -> Outcome {
        let Some(mut connecting) = self.connecting.take() else { return Outcome::Keep };
        let Err(errno) = sockopt::socket_error(&self.socket).and_then(|result| result) else {
            self.is_readable = is_readable;
            self.is_writable = true;
            return Outcome::Keep;
        };
        let outcome = match connect_to_one(&mut connecting.others, self.token, wire) {
            Ok(socket) => {
                self.socket = socket;
                Outcome::Keep
            }
            Err(later) => {
                // Nobody else was left to try: it is the first failure that counts.
                let errno = if later == Errno::DESTADDRREQ { errno } else { later };
                tell_failure(errno, &connecting.quote, &connecting.refusal, wire);
                Outcome::Close
            }
        };
        self.connecting = Some(connecting);
        outcome
    }

    /// Acts on a deadline that has passed.
    pub(super) fn on_tick(&mut self, now: Instant) -> Outcome {
        if self.connection.on_tick(now) {
            return Outcome::Keep;
        }
        abandon(&self.socket);
        Outcome::Close
    }

    /// Moves what can be moved, in both directions.
    pub(super) fn pump(&mut self, wire: &mut Wire<'_>) -> Outcome {
        if self.connecting.is_some() {
            return Outcome::Keep;
        }
        self.flush_to_host();
        loop {
            let has_more = self.receive_from_host(wire.scratch);
            self.output(wire);
            if !has_more {
                break;
            }
        }
        if self.has_failed() && self.connection.is_drained() {
            wire.device.send(&packet::tcp(&self.endpoints, &self.connection.reset(), 0), [&[], &[]]);
            return Outcome::Close;
        }
        if self.connection.is_over() { Outcome::Close } else { Outcome::Keep }
    }

    fn output(&mut self, wire: &Wire<'_>) {
        let endpoints = self.endpoints;
        self.connection.output(self.room(), wire.now, &mut |header, payload| {
            let size = payload[0].len() + payload[1].len();
            wire.device.send(&packet::tcp(&endpoints, header, size), payload);
        });
    }

    /// How many bytes of the container can be taken.
    fn room(&self) -> usize {
        BUFFER.saturating_sub(self.to_host.len())
    }

    fn send_to_host(&mut self, bytes: &[u8]) {
        let sent = if self.to_host.is_empty() { self.send(bytes) } else { 0 };
        if self.sending == Sending::Open {
            self.to_host.extend(&bytes[sent..]);
        }
    }

    fn flush_to_host(&mut self) {
        let mut queue = mem::take(&mut self.to_host);
        while !queue.is_empty() && self.is_writable {
            let sent = self.send(queue.as_slices().0);
            queue.drain(..sent);
        }
        self.to_host = queue;
        if self.sending == Sending::Failed {
            self.to_host.clear();
        } else if self.sending == Sending::Open && self.connection.peer_has_ended() && self.to_host.is_empty() {
            // It fails only for a socket that was reset, which reading from it tells as well.
            let _ = net::shutdown(&self.socket, Shutdown::Write);
            self.sending = Sending::ShutDown;
        }
    }

    /// Returns how many of `bytes` the socket took.
    fn send(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while sent < bytes.len() && self.is_writable {
            match net::send(&self.socket, &bytes[sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(size) => sent += size,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.is_writable = false,
                Err(_) => {
                    self.is_writable = false;
                    self.sending = Sending::Failed;
                }
            }
        }
        sent
    }

    /// Reads once from the socket; returns whether there may be more to read.
    fn receive_from_host(&mut self, scratch: &mut [u8]) -> bool {
        let size = self.connection.space().min(scratch.len());
        if !self.is_readable || self.receiving != Receiving::Open || size == 0 {
            return false;
        }
        match net::recv(&self.socket, &mut scratch[..size], RecvFlags::DONTWAIT) {
            Ok((0, _)) if self.sending == Sending::Failed => self.receiving = Receiving::Failed,
            Ok((0, _)) => {
                self.receiving = Receiving::Ended;
                self.connection.finish();
            }
            Ok((received, _)) => {
                self.connection.enqueue(&scratch[..received]);
                return true;
            }
            Err(Errno::INTR) => return true,
            Err(Errno::AGAIN) => self.is_readable = false,
            Err(_) => self.receiving = Receiving::Failed,
        }
        false
    }

    /// Whether the host's side was reset. One that ended its direction first can still fail the other.
    fn has_failed(&self) -> bool {
        self.receiving == Receiving::Failed || (self.sending == Sending::Failed && self.receiving == Receiving::Ended)
    }

    /// Prepares for the socket to be closed because the container's network is taken down.
    pub(super) fn on_detach(&self) {
        if self.sending != Sending::ShutDown {
            abandon(&self.socket);
        }
    }
}

/// Makes the host's side see a reset, not an end, when the socket is closed.
pub(super) fn abandon(socket: &OwnedFd) {
    // Without it the other side sees an end it may take for a complete message; nothing else depends on it.
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Starts to connect to the first of `targets` that does not fail at once, and takes it and those before it out.
///
/// Fails as the last of them did; with DESTADDRREQ if there was none.
fn connect_to_one(targets: &mut VecDeque<SocketAddr>, token: Token, wire: &Wire<'_>) -> Result<OwnedFd, Errno> {
    let mut failure = Errno::DESTADDRREQ;
    while let Some(target) = targets.pop_front() {
        match start_connecting(target, token, wire) {
            Ok(socket) => return Ok(socket),
            Err(errno) => failure = errno,
        }
    }
    Err(failure)
}

fn start_connecting(target: SocketAddr, token: Token, wire: &Wire<'_>) -> Result<OwnedFd, Errno> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    // The container's kernel has decided already what to send when.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    wire.poller.add(&socket, token, Interest::Changes).map_err(|_| Errno::NOMEM)?;
    Ok(socket)
}

/// Tells the container why its connection was not made.
fn tell_failure(errno: Errno, quote: &[u8; QUOTE], refusal: &Head, wire: &Wire<'_>) {
    let why = match errno {
        Errno::NETUNREACH => Unreachable::Network,
        Errno::HOSTUNREACH | Errno::TIMEDOUT => Unreachable::Host,
        _ => return wire.device.send(refusal, [&[], &[]]),
    };
    wire.device.send(&packet::unreachable(quote, why), [&[], &[]]);
}

/// A first sequence number that cannot be guessed; only the container itself could make use of it.
fn initial_sequence() -> u32 {
    let mut bytes = [0; 4];
    // Without entropy (only early at boot) any number does.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u32::from_ne_bytes(bytes)
}
