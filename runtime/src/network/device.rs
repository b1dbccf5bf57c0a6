//! The host's end of a container's link, whichever kind it is: IPv4 packets in, IPv4 packets out.
//!
//! ```text
//! tun      read/write ─ virtio_net_hdr · IPv4 …                   needs /dev/net/tun
//! packet   read/write ─ virtio_net_hdr · Ethernet · IPv4 …        a packet socket on the peer of a veth; needs nothing
//! ```
//!
//! - The `virtio_net_hdr` (virtio 1.2, 5.1.6) says which checksums are left to the kernel and where a large datagram is cut.
//! - The container's interface resolves no hardware addresses (`IFF_NOARP`), so no ARP has to be answered.
//! - Nothing here blocks. A packet that the link does not take at once is lost, as on any network.
//!
//! Not here: making the interfaces (`namespace.rs`).

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::packet::{Head, IPV4_HEADER};

/// How the container's interface and its host end are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Tun,
    Packet,
}

/// The hardware address of the container's interface on a packet link.
pub(super) const CONTAINER_MAC: [u8; 6] = [0x02, 0x00, 0x0a, 0x00, 0x02, 0x64];
/// Where the host's end says its frames come from.
const HOST_MAC: [u8; 6] = [0x02, 0x00, 0x0a, 0x00, 0x02, 0x02];

const VNET_HEADER: usize = 10;
const ETHERNET_HEADER: usize = 14;
const NEEDS_CHECKSUM: u8 = 1;
const GSO_UDP: u8 = 5;
/// Room for one packet with all that may precede it.
pub(super) const RECEIVE_SIZE: usize = VNET_HEADER + ETHERNET_HEADER + 65_536;

/// The host's end of a link.
#[derive(Debug)]
pub(super) struct Device {
    kind: DeviceKind,
    fd: OwnedFd,
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Frame<'a> {
    Packet {
        bytes: &'a [u8],
        /// The UDP payload is several datagrams of this size (`UDP_SEGMENT`).
        datagram_size: Option<usize>,
    },
    /// Something that cannot be used; there may be more.
    Useless,
    /// Nothing more for now.
    Empty,
    /// The link is gone.
    Gone,
}

impl Device {
    pub(super) fn new(kind: DeviceKind, fd: OwnedFd) -> Device {
        Device { kind, fd }
    }

    /// Reads one packet into `buffer`.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8; RECEIVE_SIZE]) -> Frame<'a> {
        let size = match rustix::io::read(&self.fd, &mut buffer[..]) {
            Ok(size) => size,
            Err(Errno::AGAIN) => return Frame::Empty,
            // INVAL: a packet whose form an older kernel cannot describe; NETDOWN: the interface was down for a moment.
            Err(Errno::INTR | Errno::INVAL | Errno::NETDOWN | Errno::NOBUFS) => return Frame::Useless,
            Err(_) => return Frame::Gone,
        };
        let Some(bytes) = buffer.get(self.link_header()..size) else { return Frame::Useless };
        let datagram_size = u16::from_ne_bytes([buffer[4], buffer[5]]);
        let is_batch = buffer[1] & 0x7f == GSO_UDP && datagram_size > 0;
        Frame::Packet { bytes, datagram_size: is_batch.then_some(usize::from(datagram_size)) }
    }

    /// Sends a packet: its headers, then the pieces of its payload.
    pub(super) fn send(&self, head: &Head, payload: [&[u8]; 2]) {
        let ethernet = ethernet_header();
        let ethernet = match self.kind {
            DeviceKind::Tun => &[][..],
            DeviceKind::Packet => &ethernet[..],
        };
        let mut vnet = [0; VNET_HEADER];
        let header_size = ethernet.len() + head.bytes().len();
        vnet[2..4].copy_from_slice(&small(header_size).to_ne_bytes());
        if let Some(at) = head.checksum_at {
            vnet[0] = NEEDS_CHECKSUM;
            vnet[6..8].copy_from_slice(&small(ethernet.len() + IPV4_HEADER).to_ne_bytes());
            vnet[8..10].copy_from_slice(&at.to_ne_bytes());
        }
        let [front, back] = payload;
        let pieces = [&vnet[..], ethernet, head.bytes(), front, back].map(IoSlice::new);
        // A packet the link has no room for is lost; whoever sent it will send it again.
        let _ = rustix::io::writev(&self.fd, &pieces);
    }

    fn link_header(&self) -> usize {
        match self.kind {
            DeviceKind::Tun => VNET_HEADER,
            DeviceKind::Packet => VNET_HEADER + ETHERNET_HEADER,
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn ethernet_header() -> [u8; ETHERNET_HEADER] {
    let mut header = [0; ETHERNET_HEADER];
    header[..6].copy_from_slice(&CONTAINER_MAC);
    header[6..12].copy_from_slice(&HOST_MAC);
    header[12] = 0x08;
    header
}

/// The sizes of headers, all below 100.
fn small(size: usize) -> u16 {
    u16::try_from(size).unwrap_or(0)
}
