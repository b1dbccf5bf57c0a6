//! The contract of a container's network, for both kinds of links: what a process in the namespace can and cannot do.
//!
//! Every test makes its own network and servers on the host's loopback, which the gateway's address stands for.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::address::{GATEWAY, NAMESERVER};
use super::*;

/// Makes each of these functions a test for each kind of link.
macro_rules! contract {
    ($($name:ident,)*) => {
        mod tun {
            $(#[test] fn $name() { super::$name(super::DeviceKind::Tun); })*
        }
        mod packet {
            $(#[test] fn $name() { super::$name(super::DeviceKind::Packet); })*
        }
    };
}

mod published;

contract! {
    a_large_transfer_arrives_unchanged_in_both_directions,
    an_end_of_one_direction_leaves_the_other_open,
    a_hundred_connections_at_once_are_served,
    a_refused_port_is_refused,
    the_host_s_loopback_and_link_are_closed_by_default,
    a_reset_of_the_host_s_side_arrives_after_the_data_before_it,
    a_reset_of_the_container_s_side_arrives,
    a_server_that_does_not_read_holds_the_container_up,
    dropping_an_attachment_resets_its_connections,
    datagrams_of_any_size_come_back_one_for_one,
    a_batch_of_datagrams_is_cut_up,
    a_datagram_to_a_closed_port_is_told_to_be_refused,
    a_query_is_answered_by_the_host_s_nameserver,
    a_nameserver_that_fails_is_followed_by_the_next,
    the_last_failure_of_all_nameservers_is_told,
    a_query_over_tcp_reaches_the_first_nameserver_that_listens,
    the_namespace_has_one_interface_without_ipv6,
    several_threads_attach_at_once,
}

fn config(host_loopback: HostLoopback, nameservers: &[SocketAddr]) -> NetworkConfig {
    NetworkConfig { nameservers: nameservers.to_vec(), search: Vec::new(), options: Vec::new(), host_loopback }
}

fn attach(kind: DeviceKind) -> Attachment {
    attach_with(kind, &config(HostLoopback::Reachable, &[]))
}

fn attach_with(kind: DeviceKind, config: &NetworkConfig) -> Attachment {
    Network::start_with(config, kind).unwrap().attach(Vec::new()).unwrap()
}

/// Runs `work` on a thread in the namespace.
fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Serves each connection to a port of the host's loopback by `serve` on a thread; returns its address inside.
fn serve(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (serve, connection) = (serve.clone(), connection.unwrap());
            thread::spawn(move || serve(connection));
        }
    });
    SocketAddrV4::new(GATEWAY, port)
}

/// A connection that gives a failing test an end.
fn connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.set_write_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

fn echo(mut stream: TcpStream) {
    let mut reader = stream.try_clone().unwrap();
    let _ = io::copy(&mut reader, &mut stream);
    let _ = stream.shutdown(Shutdown::Write);
}

/// Bytes that differ at every place they could be confused with.
fn pattern(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    })
    .flatten()
}

fn bytes(seed: u64, size: usize) -> Vec<u8> {
    pattern(seed).take(size).collect()
}

/// Sends `bytes` and ends that direction, and returns what comes back meanwhile.
fn echoed(stream: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = (stream, stream);
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(bytes).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut received = Vec::new();
        reader.read_to_end(&mut received).unwrap();
        received
    })
}

fn a_large_transfer_arrives_unchanged_in_both_directions(kind: DeviceKind) {
    let sent = bytes(1, 64 << 20);
    let attachment = attach(kind);
    let address = serve(echo);
    let received = inside(attachment.namespace(), || echoed(&connect(address).unwrap(), &sent));
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

fn an_end_of_one_direction_leaves_the_other_open(kind: DeviceKind) {
    let answer = bytes(2, 1 << 20);
    let attachment = attach(kind);
    let served = answer.clone();
    let after_request = serve(move |mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&request).unwrap();
        stream.write_all(&served).unwrap();
    });
    let before_request = serve(|mut stream| {
        stream.shutdown(Shutdown::Write).unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        assert_eq!(request, b"late");
    });
    inside(attachment.namespace(), || {
        for _ in 0..20 {
            let mut stream = connect(after_request).unwrap();
            stream.write_all(b"request").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert!(received.starts_with(b"request") && received[7..] == answer, "{} bytes", received.len());

            let mut stream = connect(before_request).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
            stream.write_all(b"late").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        }
    });
}

fn a_hundred_connections_at_once_are_served(kind: DeviceKind) {
    let attachment = attach(kind);
    let address = serve(echo);
    inside(attachment.namespace(), || {
        let streams: Vec<TcpStream> = (0..100).map(|_| connect(address).unwrap()).collect();
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
    });
}

/// A port nothing listens on.
fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn a_refused_port_is_refused(kind: DeviceKind) {
    let attachment = attach(kind);
    let address = SocketAddrV4::new(GATEWAY, closed_port());
    let error = inside(attachment.namespace(), || connect(address).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

fn the_host_s_loopback_and_link_are_closed_by_default(kind: DeviceKind) {
    let attachment = attach_with(kind, &config(HostLoopback::Blocked, &[]));
    let open = serve(echo);
    inside(attachment.namespace(), || {
        for ip in [GATEWAY, Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(10, 0, 2, 3)] {
            let error = connect(SocketAddrV4::new(ip, open.port())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip}");
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket.connect((ip, open.port())).unwrap();
            socket.send(b"anybody").unwrap();
            assert_eq!(socket.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::HostUnreachable, "{ip}");
        }
        // The container's own loopback is its own.
        let error = connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, open.port())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

fn a_reset_of_the_host_s_side_arrives_after_the_data_before_it(kind: DeviceKind) {
    let attachment = attach(kind);
    let address = serve(|mut stream| {
        stream.write_all(b"last words").unwrap();
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        // Until the words are out: what waits to be sent is dropped by a reset.
        let _ = stream.read(&mut [0]);
    });
    inside(attachment.namespace(), || {
        let mut stream = connect(address).unwrap();
        let mut received = [0; 10];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"last words");
        stream.write_all(b"x").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}

fn a_reset_of_the_container_s_side_arrives(kind: DeviceKind) {
    let attachment = attach(kind);
    let (told, hear) = std::sync::mpsc::channel();
    let address = serve(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        told.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
    });
    inside(attachment.namespace(), || {
        let mut stream = connect(address).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(hear.recv().unwrap(), Err(ErrorKind::ConnectionReset));
}

fn a_server_that_does_not_read_holds_the_container_up(kind: DeviceKind) {
    const OFFERED: usize = 256 << 20;
    let attachment = attach(kind);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let address = serve(move |stream| {
        let _ = wait.lock().unwrap().recv();
        drop(stream);
    });
    let taken = inside(attachment.namespace(), || {
        let mut stream = connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let part = vec![0; 64 << 10];
        let is_taken = |_: &usize| stream.write(&part).is_ok();
        (0..OFFERED / part.len()).take_while(is_taken).count() * part.len()
    });
    drop(go);
    // The kernel's own buffers, and 256 KiB of ours.
    assert!(taken < 64 << 20, "{taken} bytes were taken for a server that reads none");
}

fn dropping_an_attachment_resets_its_connections(kind: DeviceKind) {
    let attachment = attach(kind);
    let (told, hear) = std::sync::mpsc::channel();
    let address = serve(move |mut stream| {
        stream.write_all(b"hello").unwrap();
        told.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
    });
    let stream = inside(attachment.namespace(), || {
        let mut stream = connect(address).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream
    });
    drop(attachment);
    assert_eq!(hear.recv().unwrap(), Err(ErrorKind::ConnectionReset));
    drop(stream);
}

fn udp_server(answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok((size, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..size]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    address
}

fn udp_socket(to: SocketAddrV4) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.connect(to).unwrap();
    socket
}

fn datagrams_of_any_size_come_back_one_for_one(kind: DeviceKind) {
    let attachment = attach(kind);
    let address = SocketAddrV4::new(GATEWAY, udp_server(|query| Some(query.to_vec())).port());
    inside(attachment.namespace(), || {
        let socket = udp_socket(address);
        let mut buffer = vec![0; 1 << 16];
        for size in [1, 0, 512, 1472, 1473, 9000, 65_000, 2] {
            let sent = bytes(7, size);
            socket.send(&sent).unwrap();
            let received = socket.recv(&mut buffer).unwrap();
            assert!(buffer[..received] == sent, "{received} of {size} bytes");
        }
    });
}

fn a_batch_of_datagrams_is_cut_up(kind: DeviceKind) {
    let attachment = attach(kind);
    let address = SocketAddrV4::new(GATEWAY, udp_server(|query| Some(query.to_vec())).port());
    inside(attachment.namespace(), || {
        let socket = OwnedFd::from(udp_socket(address));
        sys::segment_datagrams(&socket, 1000).unwrap();
        let socket = UdpSocket::from(socket);
        let sent = bytes(8, 3500);
        socket.send(&sent).unwrap();
        let mut buffer = [0; 2000];
        for expected in sent.chunks(1000) {
            let received = socket.recv(&mut buffer).unwrap();
            assert!(buffer[..received] == *expected, "{received} bytes");
        }
    });
}

fn a_datagram_to_a_closed_port_is_told_to_be_refused(kind: DeviceKind) {
    let attachment = attach(kind);
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    inside(attachment.namespace(), || {
        let socket = udp_socket(SocketAddrV4::new(GATEWAY, closed));
        socket.send(b"anybody").unwrap();
        assert_eq!(socket.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    });
}

const QUERY: &[u8] = b"\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0\x03abc\0\0\x01\0\x01";

/// What the nameserver `name` says to a query, with this code.
fn answer(query: &[u8], code: u8, name: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = code;
    answer.extend_from_slice(name);
    answer
}

#[track_caller]
fn check_dns(kind: DeviceKind, nameservers: &[SocketAddr], expected: &[u8]) {
    let attachment = attach_with(kind, &config(HostLoopback::Blocked, nameservers));
    inside(attachment.namespace(), || {
        let socket = udp_socket(SocketAddrV4::new(NAMESERVER, 53));
        for _ in 0..3 {
            socket.send(QUERY).unwrap();
            let mut buffer = [0; 512];
            let size = socket.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..size].escape_ascii().to_string(), expected.escape_ascii().to_string());
        }
    });
}

fn a_query_is_answered_by_the_host_s_nameserver(kind: DeviceKind) {
    let nameserver = udp_server(|query| Some(answer(query, 0, b"first")));
    check_dns(kind, &[nameserver], &answer(QUERY, 0, b"first"));
}

fn a_nameserver_that_fails_is_followed_by_the_next(kind: DeviceKind) {
    let absent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let failing = udp_server(|query| Some(answer(query, 2, b"failing")));
    let good = udp_server(|query| Some(answer(query, 0, b"good")));
    check_dns(kind, &[absent, failing, good], &answer(QUERY, 0, b"good"));
}

fn the_last_failure_of_all_nameservers_is_told(kind: DeviceKind) {
    let failing = udp_server(|query| Some(answer(query, 2, b"failing")));
    let refusing = udp_server(|query| Some(answer(query, 5, b"refusing")));
    check_dns(kind, &[failing, refusing], &answer(QUERY, 5, b"refusing"));
}

fn a_query_over_tcp_reaches_the_first_nameserver_that_listens(kind: DeviceKind) {
    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, closed_port()));
    let open = SocketAddr::from((Ipv4Addr::LOCALHOST, serve(echo).port()));
    let attachment = attach_with(kind, &config(HostLoopback::Blocked, &[closed, open]));
    inside(attachment.namespace(), || {
        let mut stream = connect(SocketAddrV4::new(NAMESERVER, 53)).unwrap();
        stream.write_all(QUERY).unwrap();
        let mut received = vec![0; QUERY.len()];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(received, QUERY);
    });
}

/// Names of the interfaces in the calling thread's namespace.
fn interfaces() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned()).collect()
}

/// Names of those the kernel puts into every namespace: `lo`, and on some machines tunnels that are down.
fn kernel_interfaces() -> Vec<String> {
    thread::spawn(|| {
        sys::unshare_network().unwrap();
        interfaces()
    })
    .join()
    .unwrap()
}

fn the_namespace_has_one_interface_without_ipv6(kind: DeviceKind) {
    let attachment = attach(kind);
    inside(attachment.namespace(), || {
        assert_eq!(interfaces(), [kernel_interfaces(), vec!["eth0".to_owned()]].concat());
        let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        let on: Vec<_> = addresses.lines().filter_map(|line| line.split_ascii_whitespace().last()).collect();
        assert_eq!(on, ["lo"]);
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        TcpListener::bind((Ipv4Addr::new(10, 0, 2, 100), 0)).unwrap();
    });
}

fn several_threads_attach_at_once(kind: DeviceKind) {
    let network = Network::start_with(&config(HostLoopback::Reachable, &[]), kind).unwrap();
    let address = serve(echo);
    thread::scope(|scope| {
        for seed in 0..8 {
            let network = &network;
            scope.spawn(move || {
                let attachment = network.attach(Vec::new()).unwrap();
                let sent = bytes(seed, 100_000);
                let mut received = vec![0; sent.len()];
                inside(attachment.namespace(), || {
                    let mut stream = connect(address).unwrap();
                    stream.write_all(&sent).unwrap();
                    stream.read_exact(&mut received).unwrap();
                });
                assert!(received == sent);
            });
        }
    });
}

#[test]
fn an_isolated_namespace_has_only_its_own_loopback() {
    let namespace = isolated_namespace().unwrap();
    let outside = serve(echo).port();
    inside(namespace.as_fd(), || {
        assert_eq!(interfaces(), kernel_interfaces());
        let here = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        TcpStream::connect(here.local_addr().unwrap()).unwrap();
        let error = connect(SocketAddrV4::new(Ipv4Addr::LOCALHOST, outside)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = connect(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    });
}
