//! Sets network interfaces up by rtnetlink(7): the few requests a container's network needs.
//!
//! A request is a header, a fixed structure and attributes, each padded to four bytes; the kernel answers each with an errno.
//! Everything acts on the network namespace in which the socket was opened.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The index of `lo` in every network namespace.
pub(super) const LOOPBACK: u32 = 1;

const HEADER: usize = 16;
/// NETLINK_ROUTE, the protocol 0.
const ROUTE: Option<Protocol> = None;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x001;
const NLM_F_ACK: u16 = 0x004;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_EXCL: u16 = 0x200;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const ADDR_GEN_NONE: u8 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const IFF_UP: u32 = 0x1;
const IFF_NOARP: u32 = 0x80;
const AF_INET: u8 = 2;
const AF_INET6: u16 = 10;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// A routing socket of one network namespace.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
}

/// One end of a veth pair to be made.
#[derive(Debug)]
pub(super) struct VethEnd<'a> {
    pub name: &'a str,
    pub index: u32,
    pub mac: Option<[u8; 6]>,
}

impl Netlink {
    /// Opens a routing socket of the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Netlink> {
        let socket = net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, ROUTE)?;
        Ok(Netlink { socket })
    }

    /// Makes a veth pair with one end here and the other in the network namespace `peer_namespace`.
    pub(super) fn create_veth(
        &self,
        end: &VethEnd<'_>,
        peer: &VethEnd<'_>,
        peer_namespace: BorrowedFd<'_>,
        mtu: u16,
    ) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
        request.interface(end.index, 0);
        request.veth_end(end, mtu);
        request.nested(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"veth");
            info.nested(IFLA_INFO_DATA, |data| {
                data.nested(VETH_INFO_PEER, |nested| {
                    nested.interface(peer.index, 0);
                    nested.veth_end(peer, mtu);
                    nested.attribute(IFLA_NET_NS_FD, &peer_namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
        self.ask(request)
    }

    /// Sets the largest packet of an interface.
    pub(super) fn set_mtu(&self, index: u32, mtu: u16) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.interface(index, 0);
        request.attribute(IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        self.ask(request)
    }

    /// Keeps an interface from giving itself an IPv6 address when it goes up. Succeeds where there is no IPv6.
    pub(super) fn leave_ipv6_unconfigured(&self, index: u32) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.interface(index, 0);
        request.nested(IFLA_AF_SPEC, |spec| {
            spec.nested(AF_INET6, |inet6| inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_NONE]));
        });
        match self.ask(request) {
            Err(error) if error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error()) => Ok(()),
            result => result,
        }
    }

    /// Sets an interface up.
    pub(super) fn set_up(&self, index: u32) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.interface(index, IFF_UP);
        self.ask(request)
    }

    /// Sets an interface up that sends to its only neighbour without asking for its hardware address.
    pub(super) fn set_up_without_arp(&self, index: u32) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWLINK, 0);
        request.interface(index, IFF_UP | IFF_NOARP);
        self.ask(request)
    }

    /// Gives an interface an address.
    pub(super) fn add_address(&self, index: u32, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
        // struct ifaddrmsg: family, prefix, flags, scope (global), index.
        request.push(&[AF_INET, prefix, 0, 0]);
        request.push(&index.to_ne_bytes());
        request.attribute(IFA_LOCAL, &address.octets());
        request.attribute(IFA_ADDRESS, &address.octets());
        self.ask(request)
    }

    /// Sends everything without a better route to `gateway`.
    pub(super) fn add_default_route(&self, index: u32, gateway: Ipv4Addr) -> io::Result<()> {
        let mut request = Request::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
        // struct rtmsg: family, prefixes of destination and source, type of service, table, protocol, scope (global), type, flags.
        request.push(&[AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0]);
        request.attribute(RTA_GATEWAY, &gateway.octets());
        request.attribute(RTA_OIF, &index.to_ne_bytes());
        self.ask(request)
    }

    fn ask(&self, request: Request) -> io::Result<()> {
        net::send(&self.socket, &request.finish(), SendFlags::empty())?;
        let mut answer = [0; 4096];
        loop {
            match net::recv(&self.socket, &mut answer[..], RecvFlags::empty()) {
                Ok((size, _)) => return read_answer(answer.get(..size).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Reads the errno of an answer: a header, then the negative number.
fn read_answer(answer: &[u8]) -> io::Result<()> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let code = answer.get(HEADER..HEADER + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

/// A request being written.
#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new(kind: u16, flags: u16) -> Request {
        let mut request = Request { bytes: Vec::with_capacity(256) };
        // struct nlmsghdr: size (filled in at the end), type, flags, sequence, port.
        request.push(&[0; 4]);
        request.push(&kind.to_ne_bytes());
        request.push(&(flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        request.push(&[0; 8]);
        request
    }

    /// struct ifinfomsg: family and type (unspecified), index, flags, and which flags are meant.
    fn interface(&mut self, index: u32, flags: u32) {
        self.push(&[0; 4]);
        self.push(&index.to_ne_bytes());
        self.push(&flags.to_ne_bytes());
        self.push(&flags.to_ne_bytes());
    }

    fn veth_end(&mut self, end: &VethEnd<'_>, mtu: u16) {
        self.attribute(IFLA_IFNAME, &[end.name.as_bytes(), &[0]].concat());
        self.attribute(IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        if let Some(mac) = &end.mac {
            self.attribute(IFLA_ADDRESS, mac);
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |request| request.push(value));
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Request)) {
        let start = self.bytes.len();
        self.push(&[0; 2]);
        self.push(&kind.to_ne_bytes());
        content(self);
        let size = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start..start + 2].copy_from_slice(&size.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn finish(mut self) -> Vec<u8> {
        let size = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&size.to_ne_bytes());
        self.bytes
    }
}
