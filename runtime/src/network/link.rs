//! One container's link: its device, and the flows that its packets belong to.
//!
//! ```text
//! device ─ packet ─▶ flow with these endpoints, or a new one to where `destination` says ─▶ a socket of the host
//! socket ─ event  ─▶ flow with this token ─ packets ─▶ device
//! ```
//!
//! - A flow is touched in one place at a time: all of this runs on the engine's thread.
//! - What is read from the device in one turn is acknowledged at its end, once for each flow.
//! - The number of flows is bounded; a connection beyond it is refused, the longest unused UDP flow makes room for a new one.
//!
//! Not here: the thread (`engine.rs`).

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use super::address::{self, Destination};
use super::budget::Budget;
use super::config::HostLoopback;
use super::device::{Device, Frame, RECEIVE_SIZE};
use super::dns::{DnsQuery, Nameservers};
use super::packet::{self, ACK, Endpoints, Incoming, RST, SYN, Segment, Transport, Unreachable};
use super::poller::{Event, Poller, Token};
use super::tcp_flow::TcpFlow;
use super::udp_flow::UdpFlow;

/// Packets taken from the device before others get their turn.
const BATCH: usize = 64;
const MAX_TCP_FLOWS: usize = 4096;
const MAX_UDP_FLOWS: usize = 512;
const MAX_DNS_QUERIES: usize = 512;

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
    last_flow: u32,
    /// No flow's deadline is before this.
    deadline: Option<Instant>,
}

#[derive(Debug, Default)]
struct Flows {
    tcp: HashMap<u32, TcpFlow>,
    tcp_by_endpoints: HashMap<Endpoints, u32>,
    udp: HashMap<u32, UdpFlow>,
    udp_by_endpoints: HashMap<Endpoints, u32>,
    dns: HashMap<u32, DnsQuery>,
}

impl Link {
    pub(super) fn new(number: u32, device: Device) -> Link {
        Link { number, device, flows: Flows::default(), last_flow: 0, deadline: None }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// When [`on_tick`](Self::on_tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Closes all sockets, those of unfinished connections with a reset; returns the device, which is no longer reported.
    pub(super) fn detach(self, shared: &Shared) -> Device {
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
        }
    }

    /// Takes the packets that wait on the device; `buffer` is for one of them.
    pub(super) fn on_packets(&mut self, buffer: &mut [u8; RECEIVE_SIZE], shared: &mut Shared) {
        let mut touched = Vec::new();
        for _ in 0..BATCH {
            let (bytes, datagram_size) = match self.device.receive(buffer) {
                Frame::Packet { bytes, datagram_size } => (bytes, datagram_size),
                Frame::Useless => continue,
                Frame::Empty => break,
                Frame::Gone => {
                    shared.poller.remove(&self.device);
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
        self.flows.tcp_by_endpoints.insert(incoming.endpoints, token.flow);
        self.flows.tcp.insert(token.flow, flow);
        None
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
        let deadline = flow.deadline();
        self.flows.udp_by_endpoints.insert(endpoints, token.flow);
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
    fn close_tcp(&mut self, number: u32) {
        if let Some(flow) = self.tcp.remove(&number) {
            self.tcp_by_endpoints.remove(flow.endpoints());
        }
    }

    fn close_udp(&mut self, number: u32) {
        if let Some(flow) = self.udp.remove(&number) {
            self.udp_by_endpoints.remove(flow.endpoints());
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
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::super::address::GATEWAY;
    use super::super::device::DeviceKind;
    use super::*;

    /// A datagram from `port` of the container as a tun device gives it.
    fn datagram(port: u16, to: u16) -> Vec<u8> {
        // Turned around: the packets of this module go to the container.
        let endpoints = Endpoints {
            container: SocketAddrV4::new(GATEWAY, to),
            remote: SocketAddrV4::new(address::CONTAINER, port),
        };
        let head = packet::udp(&endpoints, 2).unwrap();
        [&[0; 10], head.bytes(), b"hi"].concat()
    }

    #[test]
    fn a_udp_flow_ends_when_it_has_been_idle_for_its_time() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let (ours, container) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut link = Link::new(1, Device::new(DeviceKind::Tun, ours.into()));
        let mut shared = Shared {
            poller: Poller::new().unwrap().0,
            budget: Budget::of_the_process(),
            nameservers: Nameservers::new(Vec::new()),
            host_loopback: HostLoopback::Reachable,
            scratch: vec![0; 1024],
            now: Instant::now(),
        };
        let mut buffer = Box::new([0; RECEIVE_SIZE]);

        container.send(&datagram(1000, port)).unwrap();
        link.on_packets(&mut buffer, &mut shared);
        shared.now += Duration::from_secs(30);
        container.send(&datagram(2000, port)).unwrap();
        link.on_packets(&mut buffer, &mut shared);
        assert_eq!(link.flows.udp.len(), 2);

        shared.now = link.deadline().unwrap();
        link.on_tick(&mut shared);
        assert_eq!(link.flows.udp.len(), 1, "the one used later goes on");
        shared.now = link.deadline().unwrap();
        link.on_tick(&mut shared);
        assert_eq!(link.flows.udp.len(), 0);
        assert_eq!(link.flows.udp_by_endpoints.len(), 0);
        assert_eq!(link.deadline(), None);
    }
}
