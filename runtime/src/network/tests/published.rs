//! The contract of published ports, for both kinds of links: what a peer on the host and a server in the namespace see.

use std::sync::mpsc;

use super::*;

contract! {
    a_published_port_carries_much_in_both_directions,
    a_peer_is_seen_as_the_gateway_and_can_end_its_direction_first,
    a_hundred_peers_at_once_are_served,
    a_port_that_nobody_serves_is_reset,
    a_reset_of_the_server_arrives,
    a_reset_of_the_peer_arrives,
    a_server_inside_that_does_not_read_holds_its_peer_up,
    what_a_server_sent_before_its_container_ended_arrives,
    a_port_is_free_when_the_attachment_is_dropped,
    each_peer_of_a_published_udp_port_has_its_answers,
}

const CONTAINER_PORT: u16 = 80;

/// Publishes a free port of the host's loopback; returns its address there.
fn publish(kind: DeviceKind, protocol: Protocol) -> (Attachment, SocketAddr) {
    let address = Some(Ipv4Addr::LOCALHOST.into());
    let request = PortRequest { protocol, address, host_ports: 0..=0, container_port: CONTAINER_PORT };
    let ports = request.bind().unwrap();
    let address = ports[0].address();
    let config = config(HostLoopback::Blocked, &[]);
    (Network::start_with(&config, kind).unwrap().attach(ports).unwrap(), address)
}

/// Listens in the namespace; the listener stays there, whoever uses it.
fn listen(attachment: &Attachment) -> TcpListener {
    inside(attachment.namespace(), || TcpListener::bind((Ipv4Addr::UNSPECIFIED, CONTAINER_PORT)).unwrap())
}

/// Serves each connection to the container by `serve` on a thread.
fn serve_inside(attachment: &Attachment, serve: impl Fn(TcpStream) + Send + Clone + 'static) {
    let listener = listen(attachment);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (serve, connection) = (serve.clone(), connection.unwrap());
            thread::spawn(move || serve(connection));
        }
    });
}

fn reach(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn a_published_port_carries_much_in_both_directions(kind: DeviceKind) {
    let sent = bytes(11, 64 << 20);
    let (attachment, address) = publish(kind, Protocol::Tcp);
    serve_inside(&attachment, echo);
    let received = echoed(&reach(address), &sent);
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

fn a_peer_is_seen_as_the_gateway_and_can_end_its_direction_first(kind: DeviceKind) {
    let (attachment, address) = publish(kind, Protocol::Tcp);
    serve_inside(&attachment, |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        request.extend(stream.peer_addr().unwrap().ip().to_string().bytes());
        stream.write_all(&request).unwrap();
    });
    for _ in 0..20 {
        let mut stream = reach(address);
        stream.write_all(b"from ").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = String::new();
        stream.read_to_string(&mut received).unwrap();
        assert_eq!(received, "from 10.0.2.2");
    }
}

fn a_hundred_peers_at_once_are_served(kind: DeviceKind) {
    let (attachment, address) = publish(kind, Protocol::Tcp);
    serve_inside(&attachment, echo);
    let streams: Vec<TcpStream> = (0..100).map(|_| reach(address)).collect();
    thread::scope(|scope| {
        for (seed, mut stream) in (0..).zip(streams) {
            scope.spawn(move || {
                for part in bytes(seed, 256 << 10).chunks(64 << 10) {
                    stream.write_all(part).unwrap();
                    let mut received = vec![0; part.len()];
                    stream.read_exact(&mut received).unwrap();
                    assert!(received == part);
                }
            });
        }
    });
}

fn a_port_that_nobody_serves_is_reset(kind: DeviceKind) {
    let (_attachment, address) = publish(kind, Protocol::Tcp);
    let mut stream = reach(address);
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn a_reset_of_the_server_arrives(kind: DeviceKind) {
    let (attachment, address) = publish(kind, Protocol::Tcp);
    serve_inside(&attachment, |mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let mut stream = reach(address);
    stream.write_all(b"hello").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn a_reset_of_the_peer_arrives(kind: DeviceKind) {
    let (attachment, address) = publish(kind, Protocol::Tcp);
    let (told, hear) = mpsc::channel();
    serve_inside(&attachment, move |mut stream| {
        stream.write_all(b"hello").unwrap();
        told.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
    });
    let mut stream = reach(address);
    stream.read_exact(&mut [0; 5]).unwrap();
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
    assert_eq!(hear.recv().unwrap(), Err(ErrorKind::ConnectionReset));
}

fn a_server_inside_that_does_not_read_holds_its_peer_up(kind: DeviceKind) {
    const OFFERED: usize = 256 << 20;
    let (attachment, address) = publish(kind, Protocol::Tcp);
    let listener = listen(&attachment);
    let mut stream = reach(address);
    let (held, _) = listener.accept().unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let part = vec![0; 64 << 10];
    let taken = (0..OFFERED / part.len()).take_while(|_| stream.write(&part).is_ok()).count() * part.len();
    // The kernel's own buffers, and 256 KiB of ours.
    assert!(taken < 64 << 20, "{taken} bytes were taken for a server that reads none");
    drop(held);
}

fn what_a_server_sent_before_its_container_ended_arrives(kind: DeviceKind) {
    let sent = bytes(12, 200_000);
    for _ in 0..20 {
        let (attachment, address) = publish(kind, Protocol::Tcp);
        let listener = listen(&attachment);
        let mut stream = reach(address);
        let (mut served, _) = listener.accept().unwrap();
        served.write_all(&sent).unwrap();
        drop((served, listener));
        drop(attachment);
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
    }
}

fn a_port_is_free_when_the_attachment_is_dropped(kind: DeviceKind) {
    let (attachment, address) = publish(kind, Protocol::Tcp);
    serve_inside(&attachment, echo);
    let stream = reach(address);
    drop(attachment);
    assert_eq!((&stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    TcpListener::bind(address).unwrap();
}

fn each_peer_of_a_published_udp_port_has_its_answers(kind: DeviceKind) {
    let (attachment, address) = publish(kind, Protocol::Udp);
    let socket = inside(attachment.namespace(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CONTAINER_PORT)).unwrap());
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            assert_eq!(from.ip(), GATEWAY);
            socket.send_to(&buffer[..size], from).unwrap();
        }
    });
    let SocketAddr::V4(address) = address else { panic!("an IPv4 address was asked for") };
    let peers: Vec<UdpSocket> = (0..10)
        .map(|_| {
            let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            peer.connect(address).unwrap();
            peer
        })
        .collect();
    let mut buffer = vec![0; 1 << 16];
    for (size, at_once) in [(1, 10), (0, 10), (1473, 10), (65_000, 1), (2, 10)] {
        // That many before the first answer is taken: more of the large ones would not fit into a socket.
        for peers in peers.chunks(at_once) {
            for (seed, peer) in (0..).zip(peers) {
                peer.send(&bytes(seed, size)).unwrap();
            }
            for (seed, peer) in (0..).zip(peers) {
                let received = peer.recv(&mut buffer).unwrap();
                assert!(buffer[..received] == bytes(seed, size), "{received} of {size} bytes");
            }
        }
    }
}
