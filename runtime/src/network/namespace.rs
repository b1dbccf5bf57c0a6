//! Makes network namespaces and the links that lead out of them.
//!
//! ```text
//! tun      [ container: lo, eth0 (tun) ] ══ descriptor of /dev/net/tun
//! packet   [ container: lo, eth0 (veth) ] ══ [ switchboard: l1001, l1002, … ] ══ packet socket on the peer
//! ```
//!
//! - No namespace has a name: each lives as long as a descriptor of it or a process in it, and its interfaces with it.
//! - A thread is moved into the new namespace, sets it up and ends; the calling thread stays where it is.
//! - The switchboard is a namespace for the host ends of veth pairs only. It routes nothing; a container sees none of it.
//! - IPv4 only: `eth0` gets no IPv6 address, so nothing waits for one or tries to use it. `lo` has 127.0.0.1 and `::1`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::address;
use super::device::{CONTAINER_MAC, Device, DeviceKind};
use super::error::NetworkError;
use super::netlink::{LOOPBACK, Netlink, VethEnd};
use super::sys;

/// The container's interface.
const INTERFACE: &str = "eth0";
/// Its index on a packet link, where it can be chosen, and what those of the switchboard's interfaces are counted from. Some
/// kernels put interfaces of their own into every namespace; they have the first indices.
const INTERFACE_INDEX: u32 = 1_000;
/// What the host end of a packet link holds of packets that wait to be read.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;

/// Returns a network namespace that has only `lo`, and sets that up.
pub(super) fn isolated() -> Result<OwnedFd, NetworkError> {
    on_a_thread(|| {
        let (namespace, _) = enter_new()?;
        Ok(namespace)
    })
}

/// Returns a namespace for the host ends of packet links.
pub(super) fn switchboard() -> Result<OwnedFd, NetworkError> {
    isolated()
}

/// Returns the kind of link that can be made here: a tun needs its device, a packet link nothing.
pub(super) fn device_kind() -> DeviceKind {
    if open_tun().is_ok() { DeviceKind::Tun } else { DeviceKind::Packet }
}

/// Makes a namespace whose `eth0` is a tun interface; returns it and the host's end.
pub(super) fn with_tun() -> Result<(OwnedFd, Device), NetworkError> {
    on_a_thread(|| {
        let (namespace, netlink) = enter_new()?;
        // Opened here, because it belongs to the namespace it was opened in.
        let tun = open_tun().map_err(|source| NetworkError::OpenTun { source })?;
        sys::create_tun(tun.as_fd(), INTERFACE)
            .map_err(|source| NetworkError::CreateTun { name: INTERFACE, source })?;
        let index = index_of(INTERFACE).map_err(configure("find the interface"))?;
        netlink.set_mtu(index, address::MTU).map_err(configure("set the interface's MTU"))?;
        set_up_interface(&netlink, index)?;
        Ok((namespace, Device::new(DeviceKind::Tun, tun)))
    })
}

/// Makes a namespace whose `eth0` is a veth with its peer, `number`, in the `switchboard`; returns it and the host's end.
pub(super) fn with_veth(switchboard: BorrowedFd<'_>, number: u32) -> Result<(OwnedFd, Device), NetworkError> {
    on_a_thread(|| {
        let (namespace, netlink) = enter_new()?;
        let peer_index = number.saturating_add(INTERFACE_INDEX);
        let peer = VethEnd { name: &format!("l{peer_index}"), index: peer_index, mac: None };
        let end = VethEnd { name: INTERFACE, index: INTERFACE_INDEX, mac: Some(CONTAINER_MAC) };
        netlink
            .create_veth(&end, &peer, switchboard, address::MTU)
            .map_err(|source| NetworkError::CreateVeth { name: INTERFACE, source })?;

        move_into_link_name_space(switchboard, Some(LinkNameSpaceType::Network))
            .map_err(|errno| NetworkError::EnterNamespace { source: errno.into() })?;
        let there = Netlink::open().map_err(|source| NetworkError::Netlink { source })?;
        there.leave_ipv6_unconfigured(peer_index).map_err(configure("leave the peer without IPv6"))?;
        // Up first: a socket on an interface that is down would begin with an error.
        there.set_up_without_arp(peer_index).map_err(configure("set the peer up"))?;
        let socket = sys::open_packet_socket(peer_index).map_err(|source| NetworkError::PacketSocket { source })?;
        enlarge_receive_buffer(&socket);

        // The end that is set up last can send at once; the peer's socket can in any case.
        set_up_interface(&netlink, INTERFACE_INDEX)?;
        Ok((namespace, Device::new(DeviceKind::Packet, socket)))
    })
}

fn set_up_interface(netlink: &Netlink, index: u32) -> Result<(), NetworkError> {
    netlink.leave_ipv6_unconfigured(index).map_err(configure("leave the interface without IPv6"))?;
    netlink.set_up_without_arp(index).map_err(configure("set the interface up"))?;
    netlink
        .add_address(index, address::CONTAINER, address::PREFIX)
        .map_err(configure("give the interface its address"))?;
    netlink.add_default_route(index, address::GATEWAY).map_err(configure("add the default route"))
}

/// Moves the calling thread into a new namespace with `lo` up.
fn enter_new() -> Result<(OwnedFd, Netlink), NetworkError> {
    sys::unshare_network().map_err(|source| NetworkError::CreateNamespace { source })?;
    let namespace = File::open("/proc/thread-self/ns/net").map_err(|source| NetworkError::OpenNamespace { source })?;
    let netlink = Netlink::open().map_err(|source| NetworkError::Netlink { source })?;
    netlink.set_up(LOOPBACK).map_err(configure("set `lo` up"))?;
    Ok((namespace.into(), netlink))
}

fn configure(what: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    move |source| NetworkError::Configure { what, source }
}

fn open_tun() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?)
}

fn index_of(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    Ok(netdevice::name_to_index(&socket, name)?)
}

/// Lets more packets wait than the limit for ordinary users, where that is allowed. What does not fit is lost and sent again.
fn enlarge_receive_buffer(socket: &OwnedFd) {
    if sockopt::set_socket_recv_buffer_size_force(socket, RECEIVE_BUFFER).is_err() {
        // The kernel takes what it allows of it.
        let _ = sockopt::set_socket_recv_buffer_size(socket, RECEIVE_BUFFER);
    }
}

/// Runs `work` on a thread of its own, because it changes the thread's namespace.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T, NetworkError> + Send) -> Result<T, NetworkError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NetworkError::Thread { source })?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
