//! One container's link: its device, and the flows that its packets belong to.
//!
//! ```text
//! device ─ packet ─▶ flow with these endpoints, or a new one to where `destination` says ─▶ a socket of the host
//! socket ─ event  ─▶ flow with this token ─ packets ─▶ device
//! published port ─ connection, or datagram of a new peer ─▶ a new flow from the gateway's address
//! ```
//!
//! - A flow is touched in one place at a time: all of this runs on the engine's thread.
//! - What is read from the device in one turn is acknowledged at its end, once for each flow.
//! - When a container's network ends, what its kernel has still to send is taken, as far as the host's sockets have room.
//! - The number of flows is bounded; a connection beyond it is refused, the longest unused UDP flow makes room for a new one.
//!
//! Not here: the thread (`engine.rs`).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::time::Instant;

use super::address::{self, Destination};
use super::budget::Budget;
use super::config::HostLoopback;
use super::device::{Device, Frame, RECEIVE_SIZE};
use super::dns::{DnsQuery, Nameservers};
use super::packet::{self, ACK, Endpoints, Incoming, RST, SYN, Segment, Transport, Unreachable};
use super::poller::{Event, Interest, Poller, Token};
use super::published::{Protocol, PublishedPort};
use super::tcp_flow::{TcpFlow, abandon};
use super::udp_flow::{Peer, UdpFlow};

/// Packets taken from the device, and connections or datagrams from a published port, before others get their turn.
const BATCH: usize = 64;
/// How many of these batches are taken when the container has ended, at most: its kernel has less than that to send.
const LAST_BATCHES: usize = 256;
const MAX_TCP_FLOWS: usize = 4096;
const MAX_UDP_FLOWS: usize = 512;
const MAX_DNS_QUERIES: usize = 512;
/// The gateway's ports that stand for peers of published ports, in turn: the container remembers old connections for a minute.
const FIRST_PEER_PORT: u16 = 1024;

/// What a flow works with while it has its turn.
#[derive(Debug)]
pub(super) struct Wire<'a> {
    pub device: &'a Device,
    pub poller: &'a Poller,
    pub budget: &'a Budget,
    /// For bytes on their way from a socket to the device.
    pub scratch: &'a mut [u8],
    pub now: Instant,
}

/// Whether a flow goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Outcome {
    Keep,
    Close,
}

/// What all links have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub poller: Poller,
    pub budget: Budget,
    pub nameservers: Nameservers,
    pub host_loopback: HostLoopback,
    pub scratch: Vec<u8>,
    pub now: Instant,
}

impl Shared {
    fn wire<'a>(&'a mut self, device: &'a Device) -> (Wire<'a>, &'a mut Nameservers) {
        let Shared { poller, budget, nameservers, scratch, now, .. } = self;
        (Wire { device, poller, budget, scratch, now: *now }, nameservers)
    }
}

/// A container's link.
#[derive(Debug)]
pub(super) struct Link {
    number: u32,
    device: Device,
    flows: Flows,
    published: HashMap<u32, PublishedPort>,
    last_flow: u32,
    next_peer_port: u16,
    /// No flow's deadline is before this.
    deadline: Option<Instant>,
}

#[derive(Debug, Default)]
struct Flows {
    tcp: HashMap<u32, TcpFlow>,
    tcp_by_endpoints: HashMap<Endpoints, u32>,
    udp: HashMap<u32, UdpFlow>,
    udp_by_endpoints: HashMap<Endpoints, u32>,
    udp_by_peer: HashMap<Peer, u32>,
    dns: HashMap<u32, DnsQuery>,
}

impl Link {
    pub(super) fn new(number: u32, device: Device) -> Link {
        Link {
            number,
            device,
            flows: Flows::default(),
            published: HashMap::new(),
            last_flow: 0,
            next_peer_port: FIRST_PEER_PORT,
            deadline: None,
        }
    }

    /// Passes on what arrives at `port` from now on.
    pub(super) fn publish(&mut self, port: PublishedPort, poller: &Poller) -> io::Result<()> {
        let token = self.next_token();
        poller.add(&port, token, Interest::Readable)?;
        self.published.insert(token.flow, port);
        Ok(())
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// When [`on_tick`](Self::on_tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Takes what the container has sent last, and closes all sockets, those of unfinished connections with a reset.
    ///
    /// Returns the device, which is no longer reported.
    pub(super) fn detach(mut self, buffer: &mut [u8; RECEIVE_SIZE], shared: &mut Shared) -> Device {
        self.published.clear();
        // Each batch is acknowledged, and lets the container's kernel send the next.
        let _ = (0..LAST_BATCHES).find(|_| !self.on_packets(buffer, shared));
        self.flows.tcp.values().for_each(TcpFlow::on_detach);
        shared.poller.remove(&self.device);
        self.device
    }

    /// Takes what the poller reports for the socket of a flow.
    pub(super) fn on_socket(&mut self, event: &Event, shared: &mut Shared) {
        let number = event.token.flow;
        let (mut wire, nameservers) = shared.wire(&self.device);
        if let Some(flow) = self.flows.tcp.get_mut(&number) {
            let outcome = flow.on_event(event.is_readable, event.is_writable, &wire);
            self.finish_tcp(number, outcome, shared);
        } else if let Some(flow) = self.flows.udp.get_mut(&number) {
            if flow.on_readable(&mut wire) == Outcome::Close {
                self.flows.close_udp(number);
            }
        } else if let Some(query) = self.flows.dns.get_mut(&number) {
            let outcome = query.on_readable(nameservers, &mut wire);
            self.finish_dns(number, outcome);
        } else if let Some(port) = self.published.get(&number) {
            match port.protocol() {
                Protocol::Tcp => self.accept(number, shared),
                Protocol::Udp => self.on_published_datagrams(number, shared),
            }
        }
    }

    /// Takes the packets that wait on the device; `buffer` is for one of them. Returns whether there may be more.
    pub(super) fn on_packets(&mut self, buffer: &mut [u8; RECEIVE_SIZE], shared: &mut Shared) -> bool {
        let mut touched = Vec::new();
        let mut has_more = true;
        for _ in 0..BATCH {
            let (bytes, datagram_size) = match self.device.receive(buffer) {
                Frame::Packet { bytes, datagram_size } => (bytes, datagram_size),
                Frame::Useless => continue,
                Frame::Empty => {
                    has_more = false;
                    break;
                }
                Frame::Gone => {
                    shared.poller.remove(&self.device);
                    has_more = false;
                    break;
                }
            };
            let Some(incoming) = packet::parse(bytes) else { continue };
            match incoming.transport {
                Transport::Tcp(segment) => touched.extend(self.on_segment(&incoming, &segment, shared)),
                Transport::Udp(payload) => self.on_datagrams(&incoming, payload, datagram_size, shared),
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            self.finish_tcp(number, Outcome::Keep, shared);
        }
        has_more
    }

    /// Returns the flow that has something to do now.
    fn on_segment(&mut self, incoming: &Incoming<'_>, segment: &Segment<'_>, shared: &mut Shared) -> Option<u32> {
        if let Some(&number) = self.flows.tcp_by_endpoints.get(&incoming.endpoints) {
            let outcome = self.flows.tcp.get_mut(&number)?.on_segment(segment);
            if outcome == Outcome::Close {
                self.flows.close_tcp(number);
            }
            return (outcome == Outcome::Keep).then_some(number);
        }
        if segment.flags & (SYN | ACK | RST) != SYN || self.flows.tcp.len() >= MAX_TCP_FLOWS {
            return self.refuse(incoming, segment);
        }
        let targets = match address::destination(incoming.endpoints.remote, shared.host_loopback) {
            Destination::Refused => return self.refuse(incoming, segment),
            Destination::Nameservers => shared.nameservers.in_order().collect(),
            Destination::Host(address) => VecDeque::from([address]),
        };
        let token = self.next_token();
        let (wire, _) = shared.wire(&self.device);
        let flow = TcpFlow::connect(token, incoming, segment, targets, &wire)?;
        self.flows.open_tcp(token, flow);
        None
    }

    /// Takes connections that wait at a published port.
    fn accept(&mut self, number: u32, shared: &mut Shared) {
        for _ in 0..BATCH {
            let Some(port) = self.published.get(&number) else { return };
            let Some(socket) = port.accept() else { return };
            if self.flows.tcp.len() >= MAX_TCP_FLOWS {
                abandon(&socket);
                continue;
            }
            let container = SocketAddrV4::new(address::CONTAINER, port.container_port());
            let endpoints = self.peer_endpoints(container, Flows::has_tcp);
            let token = self.next_token();
            let (wire, _) = shared.wire(&self.device);
            if let Some(flow) = TcpFlow::accept(token, endpoints, socket, &wire) {
                self.flows.open_tcp(token, flow);
                self.finish_tcp(token.flow, Outcome::Keep, shared);
            }
        }
    }

    /// Returns endpoints that no flow has, for a peer of the container's port `container`.
    fn peer_endpoints(&mut self, container: SocketAddrV4, is_taken: impl Fn(&Flows, &Endpoints) -> bool) -> Endpoints {
        // There are more ports than flows, so one of them is free.
        loop {
            let remote = SocketAddrV4::new(address::GATEWAY, self.next_peer_port);
            self.next_peer_port = self.next_peer_port.checked_add(1).unwrap_or(FIRST_PEER_PORT);
            let endpoints = Endpoints { container, remote };
            if !is_taken(&self.flows, &endpoints) {
                return endpoints;
            }
        }
    }

    /// Passes on datagrams that wait at a published port.
    fn on_published_datagrams(&mut self, number: u32, shared: &mut Shared) {
        for _ in 0..BATCH {
            let Some(port) = self.published.get(&number) else { return };
            let Some((size, address)) = port.receive(&mut shared.scratch) else { return };
            let peer = (number, address);
            let known = self.flows.udp_by_peer.get(&peer).copied();
            let Some(flow) = known.or_else(|| self.open_udp_of(peer, shared)) else { return };
            let (wire, _) = shared.wire(&self.device);
            if let Some(flow) = self.flows.udp.get_mut(&flow) {
                flow.pass_in(size, &wire);
            }
        }
    }

    fn refuse(&self, incoming: &Incoming<'_>, segment: &Segment<'_>) -> Option<u32> {
        if let Some(refusal) = packet::refuse(&incoming.endpoints, segment) {
            self.device.send(&refusal, [&[], &[]]);
        }
        None
    }

    /// `datagram_size` is given where `payload` is several datagrams.
    fn on_datagrams(
        &mut self,
        incoming: &Incoming<'_>,
        payload: &[u8],
        datagram_size: Option<usize>,
        shared: &mut Shared,
    ) {
        match datagram_size {
            None => self.on_datagram(incoming, payload, shared),
            Some(size) => payload.chunks(size).for_each(|datagram| self.on_datagram(incoming, datagram, shared)),
        }
    }

    fn on_datagram(&mut self, incoming: &Incoming<'_>, payload: &[u8], shared: &mut Shared) {
        if let Some(flow) = self.flows.udp_by_endpoints.get(&incoming.endpoints) {
            let (wire, _) = shared.wire(&self.device);
            if let Some(flow) = self.flows.udp.get_mut(flow) {
                flow.on_datagram(payload, &wire);
            }
            return;
        }
        match address::destination(incoming.endpoints.remote, shared.host_loopback) {
            Destination::Refused => {
                self.device.send(&packet::unreachable(&incoming.quote, Unreachable::Prohibited), [&[], &[]])
            }
            Destination::Nameservers => self.ask(incoming.endpoints, payload, shared),
            Destination::Host(target) => self.open_udp(incoming.endpoints, target, payload, shared),
        }
    }

    fn ask(&mut self, endpoints: Endpoints, query: &[u8], shared: &mut Shared) {
        if self.flows.dns.len() >= MAX_DNS_QUERIES {
            return;
        }
        let token = self.next_token();
        let (wire, nameservers) = shared.wire(&self.device);
        if let Some(query) = DnsQuery::ask(token, endpoints, query, nameservers, &wire) {
            self.flows.dns.insert(token.flow, query);
            self.finish_dns(token.flow, Outcome::Keep);
        }
    }

    fn open_udp(&mut self, endpoints: Endpoints, target: SocketAddr, payload: &[u8], shared: &mut Shared) {
        if self.flows.udp.len() >= MAX_UDP_FLOWS {
            self.flows.close_oldest_udp();
        }
        let token = self.next_token();
        let (wire, _) = shared.wire(&self.device);
        // A datagram that cannot be sent is lost.
        let Ok(mut flow) = UdpFlow::open(token, endpoints, target, &wire) else { return };
        flow.on_datagram(payload, &wire);
        self.add_udp(token, flow);
    }

    fn open_udp_of(&mut self, peer: Peer, shared: &mut Shared) -> Option<u32> {
        let port = self.published.get(&peer.0)?;
        let (container, socket) = (SocketAddrV4::new(address::CONTAINER, port.container_port()), port.socket());
        if self.flows.udp.len() >= MAX_UDP_FLOWS {
            self.flows.close_oldest_udp();
        }
        let endpoints = self.peer_endpoints(container, Flows::has_udp);
        let token = self.next_token();
        let (wire, _) = shared.wire(&self.device);
        self.add_udp(token, UdpFlow::of_peer(endpoints, socket, peer, &wire));
        Some(token.flow)
    }

    fn add_udp(&mut self, token: Token, flow: UdpFlow) {
        let deadline = flow.deadline();
        self.flows.udp_by_endpoints.insert(*flow.endpoints(), token.flow);
        if let Some(&peer) = flow.peer() {
            self.flows.udp_by_peer.insert(peer, token.flow);
        }
        self.flows.udp.insert(token.flow, flow);
        self.note(Some(deadline));
    }

    /// Acts on the deadlines that have passed.
    pub(super) fn on_tick(&mut self, shared: &mut Shared) {
        let now = shared.now;
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let due: Vec<u32> =
            self.flows.tcp.iter().filter(|(_, flow)| is_due(flow.deadline())).map(|(&n, _)| n).collect();
        for number in due {
            if let Some(flow) = self.flows.tcp.get_mut(&number) {
                let outcome = flow.on_tick(now);
                self.finish_tcp(number, outcome, shared);
            }
        }
        let idle: Vec<u32> =
            self.flows.udp.iter().filter(|(_, flow)| flow.deadline() <= now).map(|(&n, _)| n).collect();
        idle.into_iter().for_each(|number| self.flows.close_udp(number));
        let (wire, _) = shared.wire(&self.device);
        self.flows.dns.retain(|_, query| query.on_tick(&wire) == Outcome::Keep);
        self.deadline = self.flows.deadline();
    }

    /// Lets a TCP flow move what it can, unless it is over.
    fn finish_tcp(&mut self, number: u32, outcome: Outcome, shared: &mut Shared) {
        let Some(flow) = self.flows.tcp.get_mut(&number) else { return };
        let (mut wire, _) = shared.wire(&self.device);
        if outcome == Outcome::Close || flow.pump(&mut wire) == Outcome::Close {
            self.flows.close_tcp(number);
            return;
        }
        let deadline = flow.deadline();
        self.note(deadline);
    }

    fn finish_dns(&mut self, number: u32, outcome: Outcome) {
        if outcome == Outcome::Close {
            self.flows.dns.remove(&number);
        }
        self.note(self.flows.dns.get(&number).map(DnsQuery::deadline));
    }

    fn note(&mut self, deadline: Option<Instant>) {
        self.deadline = self.deadline.into_iter().chain(deadline).min();
    }

    fn next_token(&mut self) -> Token {
        self.last_flow += 1;
        Token { link: self.number, flow: self.last_flow }
    }
}

impl Flows {
    fn open_tcp(&mut self, token: Token, flow: TcpFlow) {
        self.tcp_by_endpoints.insert(*flow.endpoints(), token.flow);
        self.tcp.insert(token.flow, flow);
    }

    fn has_tcp(&self, endpoints: &Endpoints) -> bool {
        self.tcp_by_endpoints.contains_key(endpoints)
    }

    fn has_udp(&self, endpoints: &Endpoints) -> bool {
        self.udp_by_endpoints.contains_key(endpoints)
    }

    fn close_tcp(&mut self, number: u32) {
        if let Some(flow) = self.tcp.remove(&number) {
            self.tcp_by_endpoints.remove(flow.endpoints());
        }
    }

    fn close_udp(&mut self, number: u32) {
        if let Some(flow) = self.udp.remove(&number) {
            self.udp_by_endpoints.remove(flow.endpoints());
            flow.peer().map(|peer| self.udp_by_peer.remove(peer));
        }
    }

    fn close_oldest_udp(&mut self) {
        let oldest = self.udp.iter().min_by_key(|(_, flow)| flow.deadline()).map(|(&number, _)| number);
        oldest.into_iter().for_each(|number| self.close_udp(number));
    }

    fn deadline(&self) -> Option<Instant> {
        let tcp = self.tcp.values().filter_map(TcpFlow::deadline);
        let udp = self.udp.values().map(UdpFlow::deadline);
        let dns = self.dns.values().map(DnsQuery::deadline);
        tcp.chain(udp).chain(dns).min()
    }
}

#[cfg(test)]
mod tests;
