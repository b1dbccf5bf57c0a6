//! A container's query to its nameserver, asked of the host's nameservers one after the other.
//!
//! ```text
//! query ─▶ first nameserver ─ answer ─▶ container
//!              │ unreachable, silent for PATIENCE, or it failed (SERVFAIL, NOTIMP, REFUSED)
//!              ▼
//!          next nameserver …        after the last: the last failure it told, or silence
//! ```
//!
//! The container knows one nameserver only, so what its resolver would try with several is tried here. The nameserver that last
//! answered is asked first.
//!
//! Not here: queries over TCP, which are a TCP flow to the first nameserver that can be connected to (`link.rs`).

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::budget::Permit;
use super::link::{Outcome, Wire};
use super::packet::{self, Endpoints};
use super::poller::{Interest, Token};
use super::udp_flow;

/// How long a nameserver is waited for. Resolvers give up after five seconds; the next one should have its turn before.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// The last one is waited for as long as a resolver may.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

const HEADER: usize = 12;
const SERVFAIL: u8 = 2;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;

/// The nameservers of the host, and which of them is asked first.
#[derive(Debug)]
pub(super) struct Nameservers {
    addresses: Vec<SocketAddr>,
    first: usize,
}

impl Nameservers {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Nameservers {
        Nameservers { addresses, first: 0 }
    }

    /// Returns them in the order in which they are asked.
    pub(super) fn in_order(&self) -> impl Iterator<Item = SocketAddr> {
        (0..self.addresses.len()).filter_map(|turn| self.at(turn))
    }

    fn at(&self, turn: usize) -> Option<SocketAddr> {
        let index = (self.first + turn) % self.addresses.len().max(1);
        self.addresses.get(index).copied().filter(|_| turn < self.addresses.len())
    }

    fn prefer(&mut self, address: SocketAddr) {
        if let Some(index) = self.addresses.iter().position(|&known| known == address) {
            self.first = index;
        }
    }
}

/// A query that has not been answered.
#[derive(Debug)]
pub(super) struct DnsQuery {
    token: Token,
    endpoints: Endpoints,
    query: Vec<u8>,
    _permit: Permit,
    /// Who is asked now, and who after that if there is no answer.
    asked: Option<(SocketAddr, OwnedFd)>,
    others: Vec<SocketAddr>,
    deadline: Instant,
    /// What a nameserver said that could not answer.
    failure: Option<Vec<u8>>,
}

impl DnsQuery {
    /// Asks the first nameserver that can be asked; `None` when there is none.
    pub(super) fn ask(
        token: Token,
        endpoints: Endpoints,
        query: &[u8],
        nameservers: &Nameservers,
        wire: &Wire<'_>,
    ) -> Option<DnsQuery> {
        if query.len() < HEADER {
            return None;
        }
        let mut others: Vec<SocketAddr> = nameservers.in_order().collect();
        others.reverse();
        let mut query = DnsQuery {
            token,
            endpoints,
            query: query.to_vec(),
            _permit: wire.budget.take()?,
            asked: None,
            others,
            deadline: wire.now,
            failure: None,
        };
        matches!(query.ask_next(wire), Outcome::Keep).then_some(query)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes what the nameserver sent.
    pub(super) fn on_readable(&mut self, nameservers: &mut Nameservers, wire: &mut Wire<'_>) -> Outcome {
        let Some((nameserver, socket)) = &self.asked else { return Outcome::Close };
        let size = match net::recv(socket, &mut *wire.scratch, RecvFlags::DONTWAIT) {
            Ok((size, _)) => size,
            Err(Errno::AGAIN | Errno::INTR) => return Outcome::Keep,
            Err(_) => return self.ask_next(wire),
        };
        let answer = &wire.scratch[..size];
        if answer.len() < HEADER || answer[..2] != self.query[..2] {
            return Outcome::Keep;
        }
        if matches!(answer[3] & 0x0f, SERVFAIL | NOTIMP | REFUSED) {
            self.failure = Some(answer.to_vec());
            return self.ask_next(wire);
        }
        nameservers.prefer(*nameserver);
        self.answer(answer, wire);
        Outcome::Close
    }

    /// Acts on a deadline that has passed.
    pub(super) fn on_tick(&mut self, wire: &Wire<'_>) -> Outcome {
        if self.deadline > wire.now { Outcome::Keep } else { self.ask_next(wire) }
    }

    fn ask_next(&mut self, wire: &Wire<'_>) -> Outcome {
        while let Some(nameserver) = self.others.pop() {
            let Ok(socket) = udp_flow::connect(nameserver) else { continue };
            let is_sent = net::send(&socket, &self.query, SendFlags::DONTWAIT).is_ok();
            if is_sent && wire.poller.add(&socket, self.token, Interest::Readable).is_ok() {
                self.deadline = wire.now + if self.others.is_empty() { LAST_PATIENCE } else { PATIENCE };
                self.asked = Some((nameserver, socket));
                return Outcome::Keep;
            }
        }
        if let Some(failure) = self.failure.take() {
            self.answer(&failure, wire);
        }
        Outcome::Close
    }

    fn answer(&self, answer: &[u8], wire: &Wire<'_>) {
        if let Some(head) = packet::udp(&self.endpoints, answer.len()) {
            wire.device.send(&head, [answer, &[]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
    use std::os::unix::net::UnixDatagram;

    use super::super::address::{CONTAINER, NAMESERVER};
    use super::super::budget::Budget;
    use super::super::device::{Device, DeviceKind};
    use super::super::poller::Poller;
    use super::*;

    const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x03abc\0\0\x01\0\x01";

    fn nameserver() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_silent_nameserver_is_followed_by_the_next_when_its_time_is_over() {
        let ((first, first_address), (second, second_address)) = (nameserver(), nameserver());
        let nameservers = Nameservers::new(vec![first_address, second_address]);
        let (link, _container) = UnixDatagram::pair().unwrap();
        let (device, poller) = (Device::new(DeviceKind::Tun, link.into()), Poller::new().unwrap().0);
        let (budget, mut scratch) = (Budget::of_the_process(), [0; 512]);
        let mut wire =
            Wire { device: &device, poller: &poller, budget: &budget, scratch: &mut scratch, now: Instant::now() };
        let endpoints =
            Endpoints { container: SocketAddrV4::new(CONTAINER, 40_000), remote: SocketAddrV4::new(NAMESERVER, 53) };
        let token = Token { link: 1, flow: 1 };

        let mut query = DnsQuery::ask(token, endpoints, QUERY, &nameservers, &wire).unwrap();
        let mut buffer = [0; 512];
        assert_eq!(first.recv(&mut buffer).unwrap(), QUERY.len());
        wire.now = query.deadline() - Duration::from_millis(1);
        assert_eq!(query.on_tick(&wire), Outcome::Keep);
        assert!(second.recv(&mut buffer).is_err(), "asked too early");
        wire.now = query.deadline();
        assert_eq!(query.on_tick(&wire), Outcome::Keep);
        let size = second.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..size], QUERY);
        wire.now = query.deadline();
        assert_eq!(query.on_tick(&wire), Outcome::Close);
    }
}
