//! The system calls of this module that rustix does not wrap: the ioctls of tun interfaces and the addresses and options of
//! packet sockets. All `unsafe` of `network` is here; every function takes and returns owned or borrowed descriptors.
//!
//! Not here: system calls with a safe wrapper (called where they are needed).
#![expect(unsafe_code, reason = "ioctl, setsockopt and bind with structures that rustix does not know")]

use std::ffi::c_void;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType};

const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54d0;
const TUN_F_CSUM: libc::c_ulong = 0x01;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_QDISC_BYPASS: libc::c_int = 20;

/// Moves the calling thread, and no other, into a network namespace of its own.
pub(super) fn unshare_network() -> io::Result<()> {
    // SAFETY: CLONE_NEWNET changes which network the calling thread sees; it unshares neither memory nor descriptors, which
    // is what the caller of `unshare` has to care about.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Makes `tun` the interface `name` of the calling thread's network namespace, with a `virtio_net_hdr` before each packet
/// and checksums left for the reader to fill in.
pub(super) fn create_tun(tun: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    // SAFETY: `ifreq` is plain data, and all zeroes is one of its values.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which outlives the call; the descriptor is open.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    // SAFETY: TUNSETOFFLOAD takes its flags by value; the descriptor is open.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETOFFLOAD, TUN_F_CSUM) })
}

/// Opens a packet socket that sees the IPv4 packets arriving on the interface `index` of the calling thread's network
/// namespace, with a `virtio_net_hdr` before each frame.
pub(super) fn open_packet_socket(index: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // No protocol yet: a socket that is not bound must not see the packets of other links.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None::<Protocol>)?;
    set_option(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    // The interface's queue is set up some time after the interface, and loses packets until then. It is of no use here.
    set_option(&socket, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;

    // SAFETY: `sockaddr_ll` is plain data, and all zeroes is one of its values.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_IP).map_err(io::Error::other)?.to_be();
    address.sll_ifindex = libc::c_int::try_from(index).map_err(io::Error::other)?;
    let size = libc::socklen_t::try_from(mem::size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the address is a `sockaddr_ll` of `size` bytes, which outlives the call; the descriptor is open.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), size) })?;
    Ok(socket)
}

fn set_option(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = libc::socklen_t::try_from(mem::size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the option's value is the `c_int` `value`, which outlives the call; the descriptor is open.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast::<c_void>(), size) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets one `send` of `socket` make several datagrams of `size` bytes.
#[cfg(test)]
pub(super) fn segment_datagrams(socket: &OwnedFd, size: u16) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, size.into())
}
