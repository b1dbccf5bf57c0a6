//! A link whose container is played by the test, packet by packet, and whose time passes when told.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::super::address::GATEWAY;
use super::super::device::DeviceKind;
use super::super::published::PortRequest;
use super::*;

/// A link, and the container's end of it.
struct Pair {
    link: Link,
    shared: Shared,
    container: UnixDatagram,
}

impl Pair {
    fn new(budget: Budget) -> Pair {
        let (ours, container) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let shared = Shared {
            poller: Poller::new().unwrap().0,
            budget,
            nameservers: Nameservers::new(Vec::new()),
            host_loopback: HostLoopback::Reachable,
            scratch: vec![0; 1024],
            now: Instant::now(),
        };
        Pair { link: Link::new(1, Device::new(DeviceKind::Tun, ours.into())), shared, container }
    }

    /// Publishes port 80 of the container; returns the host's address.
    fn publish(&mut self, protocol: Protocol) -> SocketAddr {
        let address = Some(Ipv4Addr::LOCALHOST.into());
        let request = PortRequest { protocol, address, host_ports: 0..=0, container_port: 80 };
        let port = request.bind().unwrap().remove(0);
        let address = port.address();
        self.link.publish(port, &self.shared.poller).unwrap();
        address
    }

    fn send(&mut self, packet: &[u8]) {
        self.container.send(packet).unwrap();
        self.link.on_packets(&mut Box::new([0; RECEIVE_SIZE]), &mut self.shared);
    }

    /// Waits until a socket has something to say, and takes it.
    fn take_events(&mut self) {
        let mut events = Vec::new();
        self.shared.poller.wait(Some(Duration::from_secs(20)), &mut events).unwrap();
        assert!(!events.is_empty());
        events.iter().for_each(|event| self.link.on_socket(event, &mut self.shared));
    }

    /// Lets time pass until something is due.
    fn expire(&mut self) {
        self.shared.now = self.link.deadline().unwrap();
        self.link.on_tick(&mut self.shared);
    }
}

/// A datagram from `port` of the container as a tun device gives it.
fn datagram(port: u16, to: u16) -> Vec<u8> {
    // Turned around: the packets of this module go to the container.
    let endpoints =
        Endpoints { container: SocketAddrV4::new(GATEWAY, to), remote: SocketAddrV4::new(address::CONTAINER, port) };
    let head = packet::udp(&endpoints, 2).unwrap();
    [&[0; 10], head.bytes(), b"hi"].concat()
}

#[test]
fn a_udp_flow_ends_when_it_has_been_idle_for_its_time() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut pair = Pair::new(Budget::of_the_process());
    pair.send(&datagram(1000, port));
    pair.shared.now += Duration::from_secs(30);
    pair.send(&datagram(2000, port));
    assert_eq!(pair.link.flows.udp.len(), 2);
    pair.expire();
    assert_eq!(pair.link.flows.udp.len(), 1, "the one used later goes on");
    pair.expire();
    assert_eq!(pair.link.flows.udp.len(), 0);
    assert_eq!(pair.link.flows.udp_by_endpoints.len(), 0);
    assert_eq!(pair.link.deadline(), None);
}

#[test]
fn a_peer_of_a_published_udp_port_is_one_flow_until_it_has_been_idle() {
    let mut pair = Pair::new(Budget::of_the_process());
    let address = pair.publish(Protocol::Udp);
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..2 {
        peer.send_to(b"hi", address).unwrap();
        pair.take_events();
        assert_eq!(pair.link.flows.udp.len(), 1);
    }
    pair.send(&datagram(80, FIRST_PEER_PORT));
    let mut buffer = [0; 9];
    assert_eq!(peer.recv_from(&mut buffer).unwrap(), (2, address));

    pair.expire();
    let flows = &pair.link.flows;
    assert_eq!((flows.udp.len(), flows.udp_by_endpoints.len(), flows.udp_by_peer.len()), (0, 0, 0));
    peer.send_to(b"hi", address).unwrap();
    pair.take_events();
    let remotes: Vec<u16> = pair.link.flows.udp_by_endpoints.keys().map(|known| known.remote.port()).collect();
    assert_eq!(remotes, [FIRST_PEER_PORT + 1], "a new flow has a new port");
}

#[test]
fn connections_beyond_the_budget_are_reset() {
    let mut pair = Pair::new(Budget::new(1));
    let address = pair.publish(Protocol::Tcp);
    let _first = TcpStream::connect(address).unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    second.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    pair.take_events();
    assert_eq!(second.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(pair.link.flows.tcp.len(), 1);
}

#[test]
fn a_port_that_stands_for_a_peer_is_not_used_for_another_at_the_same_time() {
    let mut pair = Pair::new(Budget::of_the_process());
    let address = pair.publish(Protocol::Tcp);
    pair.link.next_peer_port = u16::MAX;
    let mut peers = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..3 {
        peers.push(TcpStream::connect(address).unwrap());
        pair.take_events();
        // As if all ports had been used since.
        pair.link.next_peer_port = u16::MAX;
        ports = pair.link.flows.tcp_by_endpoints.keys().map(|known| known.remote.port()).collect();
    }
    ports.sort_unstable();
    assert_eq!(ports, [FIRST_PEER_PORT, FIRST_PEER_PORT + 1, u16::MAX]);
}
