//! Reads and writes the packets of a container's link: IPv4 with TCP, UDP and the ICMP messages that tell of failures.
//!
//! - Checksums of arriving packets are not verified: they were made on this machine and never left it, and the kernel may not
//!   have filled them in. Those of TCP and UDP packets to the container are left half made, for the kernel to finish.
//! - Fragments are not read: the link carries every packet that IPv4 allows but the last few bytes whole.
//! - No input panics; what is not understood is `None`.
//!
//! Not here: link headers (`device.rs`), what the segments mean (`tcp.rs`).

use std::net::{Ipv4Addr, SocketAddrV4};

pub(super) const IPV4_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const MAX_HEAD: usize = 96;
/// How many ranges of bytes a segment can say have arrived early.
pub(super) const SACK_BLOCKS: usize = 3;
/// What an ICMP error quotes of the packet that caused it.
pub(super) const QUOTE: usize = IPV4_HEADER + 8;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

/// Who talks to whom: the container's side first, whichever way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Endpoints {
    pub container: SocketAddrV4,
    pub remote: SocketAddrV4,
}

/// A packet from the container.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub endpoints: Endpoints,
    pub transport: Transport<'a>,
    /// The packet's beginning, for an ICMP error about it.
    pub quote: [u8; QUOTE],
}

#[derive(Debug)]
pub(super) enum Transport<'a> {
    Tcp(Segment<'a>),
    Udp(&'a [u8]),
}

/// A TCP segment from the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    pub options: SynOptions,
    pub payload: &'a [u8],
}

/// The options that matter in a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SynOptions {
    pub max_segment_size: Option<u16>,
    pub window_shift: Option<u8>,
    /// "SACK permitted": missing bytes can be told apart (RFC 2018).
    pub selective: bool,
}

/// Reads an IPv4 packet that carries TCP or UDP.
pub(super) fn parse(packet: &[u8]) -> Option<Incoming<'_>> {
    let quote: [u8; QUOTE] = packet.get(..QUOTE)?.try_into().ok()?;
    let header_size = usize::from(quote[0] & 0x0f) * 4;
    let size = usize::from(u16::from_be_bytes([quote[2], quote[3]]));
    let is_fragment = u16::from_be_bytes([quote[6], quote[7]]) & 0x3fff != 0;
    if quote[0] >> 4 != 4 || header_size < IPV4_HEADER || is_fragment {
        return None;
    }
    let body = packet.get(header_size..size)?;
    let (source_port, destination_port) = (be16(body, 0)?, be16(body, 2)?);
    let transport = match quote[9] {
        TCP => Transport::Tcp(parse_tcp(body)?),
        UDP => Transport::Udp(body.get(UDP_HEADER..usize::from(be16(body, 4)?))?),
        _ => return None,
    };
    let address = |at: usize| Ipv4Addr::new(quote[at], quote[at + 1], quote[at + 2], quote[at + 3]);
    let endpoints = Endpoints {
        container: SocketAddrV4::new(address(12), source_port),
        remote: SocketAddrV4::new(address(16), destination_port),
    };
    Some(Incoming { endpoints, transport, quote })
}

fn parse_tcp(body: &[u8]) -> Option<Segment<'_>> {
    let header_size = usize::from(body.get(12)? >> 4) * 4;
    let options = body.get(TCP_HEADER..header_size)?;
    Some(Segment {
        sequence: be32(body, 4)?,
        acknowledged: be32(body, 8)?,
        flags: *body.get(13)?,
        window: be16(body, 14)?,
        options: parse_options(options),
        payload: body.get(header_size..)?,
    })
}

fn parse_options(mut bytes: &[u8]) -> SynOptions {
    let mut options = SynOptions::default();
    loop {
        match *bytes {
            [] | [0, ..] => return options,
            [1, ref rest @ ..] => bytes = rest,
            [kind, size, ..] => {
                let Some(value) = bytes.get(2..usize::from(size)) else { return options };
                match (kind, value) {
                    (2, &[high, low]) => options.max_segment_size = Some(u16::from_be_bytes([high, low])),
                    (3, &[shift]) => options.window_shift = Some(shift.min(14)),
                    (4, &[]) => options.selective = true,
                    _ => {}
                }
                bytes = &bytes[usize::from(size)..];
            }
            [_] => return options,
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The headers of a packet to the container; the payload follows it on the wire.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; MAX_HEAD],
    size: usize,
    /// Where in the transport header the kernel finishes the checksum; `None` when it is complete.
    pub checksum_at: Option<u16>,
}

impl Head {
    /// The bytes, IPv4 header first.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.size..self.size + bytes.len()].copy_from_slice(bytes);
        self.size += bytes.len();
    }

    /// Begins with an IPv4 header for `size` bytes after it.
    fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, size: usize) -> Head {
        let mut head = Head { bytes: [0; MAX_HEAD], size: 0, checksum_at: None };
        let total = u16::try_from(IPV4_HEADER + size).unwrap_or(u16::MAX);
        head.push(&[0x45, 0]);
        head.push(&total.to_be_bytes());
        // No identification, do not fragment; 64 hops.
        head.push(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
        head.push(&from.octets());
        head.push(&to.octets());
        let checksum = !fold(sum(head.bytes()));
        head.bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        head
    }

    /// Puts the sum of the pseudo header where the kernel expects it to finish the checksum.
    fn leave_checksum(&mut self, protocol: u8, at: u16, size: usize) {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        let start = sum(&self.bytes[12..IPV4_HEADER]) + u32::from(protocol) + u32::from(size);
        let field = IPV4_HEADER + usize::from(at);
        self.bytes[field..field + 2].copy_from_slice(&fold(start).to_be_bytes());
        self.checksum_at = Some(at);
    }
}

/// The TCP header of a segment to the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct TcpHeader {
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    pub options: SynOptions,
    /// Bytes that have arrived early: from, and up to but not including.
    pub early: [Option<(u32, u32)>; SACK_BLOCKS],
}

/// Makes the headers of a segment with `payload_size` bytes.
pub(super) fn tcp(endpoints: &Endpoints, header: &TcpHeader, payload_size: usize) -> Head {
    let (options, options_size) = tcp_options(header);
    let size = TCP_HEADER + options_size;
    let Endpoints { container, remote } = endpoints;
    let mut head = Head::ipv4(TCP, *remote.ip(), *container.ip(), size + payload_size);
    head.push(&remote.port().to_be_bytes());
    head.push(&container.port().to_be_bytes());
    head.push(&header.sequence.to_be_bytes());
    head.push(&header.acknowledged.to_be_bytes());
    head.push(&[u8::try_from(size / 4 * 16).unwrap_or(0x50), header.flags]);
    head.push(&header.window.to_be_bytes());
    head.push(&[0; 4]);
    head.push(&options[..options_size]);
    head.leave_checksum(TCP, 16, size + payload_size);
    head
}

/// Returns the options of a header and their size; unused bytes before their end are "no operation".
fn tcp_options(header: &TcpHeader) -> ([u8; 40], usize) {
    let mut options = [1; 40];
    let mut size = 0;
    let mut push = |option: &[u8]| {
        options[size..size + option.len()].copy_from_slice(option);
        size += option.len().next_multiple_of(4);
    };
    if let Some(mss) = header.options.max_segment_size {
        let [high, low] = mss.to_be_bytes();
        push(&[2, 4, high, low]);
    }
    if let Some(shift) = header.options.window_shift {
        push(&[3, 3, shift]);
    }
    if header.options.selective {
        push(&[4, 2]);
    }
    let blocks: Vec<u8> =
        header.early.iter().flatten().flat_map(|&(from, to)| [from, to]).flat_map(u32::to_be_bytes).collect();
    if let Ok(option_size) = u8::try_from(2 + blocks.len())
        && option_size > 2
    {
        push(&[&[1, 1, 5, option_size], &blocks[..]].concat());
    }
    (options, size)
}

/// Makes the segment that refuses `segment` (RFC 9293, 3.10.7.1); `None` for one that must not be answered.
pub(super) fn refuse(endpoints: &Endpoints, segment: &Segment<'_>) -> Option<Head> {
    if segment.flags & RST != 0 {
        return None;
    }
    let occupied =
        segment.payload.len() + usize::from(segment.flags & SYN != 0) + usize::from(segment.flags & FIN != 0);
    let header = if segment.flags & ACK != 0 {
        TcpHeader { sequence: segment.acknowledged, flags: RST, ..TcpHeader::default() }
    } else {
        let acknowledged = segment.sequence.wrapping_add(u32::try_from(occupied).unwrap_or(0));
        TcpHeader { acknowledged, flags: RST | ACK, ..TcpHeader::default() }
    };
    Some(tcp(endpoints, &header, 0))
}

/// Makes the headers of a datagram with `payload_size` bytes; `None` when it is too large.
pub(super) fn udp(endpoints: &Endpoints, payload_size: usize) -> Option<Head> {
    let size = UDP_HEADER + payload_size;
    if IPV4_HEADER + size > usize::from(super::address::MTU) {
        return None;
    }
    let Endpoints { container, remote } = endpoints;
    let mut head = Head::ipv4(UDP, *remote.ip(), *container.ip(), size);
    head.push(&remote.port().to_be_bytes());
    head.push(&container.port().to_be_bytes());
    head.push(&u16::try_from(size).ok()?.to_be_bytes());
    head.push(&[0; 2]);
    head.leave_checksum(UDP, 6, size);
    Some(head)
}

/// Why a packet could not be delivered, as ICMP says it ("destination unreachable", RFC 792 and 1812).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreachable {
    Network = 0,
    Host = 1,
    Port = 3,
    Prohibited = 13,
}

/// Makes the ICMP message that the packet beginning with `quote` was not delivered.
pub(super) fn unreachable(quote: &[u8; QUOTE], why: Unreachable) -> Head {
    let container = Ipv4Addr::new(quote[12], quote[13], quote[14], quote[15]);
    let mut head = Head::ipv4(ICMP, super::address::GATEWAY, container, 8 + QUOTE);
    head.push(&[3, why as u8, 0, 0, 0, 0, 0, 0]);
    head.push(quote);
    let checksum = !fold(sum(&head.bytes()[IPV4_HEADER..]));
    head.bytes[IPV4_HEADER + 2..IPV4_HEADER + 4].copy_from_slice(&checksum.to_be_bytes());
    head
}

/// Makes the beginning of a datagram from the container, to quote it after it is gone.
pub(super) fn quote_udp(endpoints: &Endpoints) -> [u8; QUOTE] {
    let Endpoints { container, remote } = endpoints;
    let mut head = Head::ipv4(UDP, *container.ip(), *remote.ip(), UDP_HEADER);
    head.push(&container.port().to_be_bytes());
    head.push(&remote.port().to_be_bytes());
    head.push(&[0, 8, 0, 0]);
    let mut quote = [0; QUOTE];
    quote.copy_from_slice(head.bytes());
    quote
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINTS: Endpoints = Endpoints {
        container: SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 100), 40_000),
        remote: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 443),
    };

    /// The same packet as seen from the other side.
    fn turned(endpoints: Endpoints) -> Endpoints {
        Endpoints { container: endpoints.remote, remote: endpoints.container }
    }

    #[test]
    fn a_segment_reads_as_it_was_written() {
        let options = SynOptions { max_segment_size: Some(1460), window_shift: Some(7), selective: true };
        let early = [Some((20, 30)), Some((40, 50)), Some((60, 70))];
        let header = TcpHeader { sequence: 7, acknowledged: 9, flags: SYN | ACK, window: 512, options, early };
        let mut packet = tcp(&ENDPOINTS, &header, 5).bytes().to_vec();
        packet.extend_from_slice(b"hello");
        let incoming = parse(&packet).unwrap();
        assert_eq!(incoming.endpoints, turned(ENDPOINTS));
        let Transport::Tcp(segment) = incoming.transport else { panic!("not TCP") };
        let expected =
            Segment { sequence: 7, acknowledged: 9, flags: SYN | ACK, window: 512, options, payload: b"hello" };
        assert_eq!(segment, expected);
    }

    #[test]
    fn a_datagram_reads_as_it_was_written_without_what_follows_it() {
        let mut packet = udp(&ENDPOINTS, 2).unwrap().bytes().to_vec();
        packet.extend_from_slice(b"hi and padding");
        let incoming = parse(&packet).unwrap();
        assert!(matches!(incoming.transport, Transport::Udp(b"hi")));
    }

    #[test]
    fn the_checksum_of_an_ipv4_header_comes_out_as_zero() {
        let head = udp(&ENDPOINTS, 1000).unwrap();
        assert_eq!(fold(sum(&head.bytes()[..IPV4_HEADER])), 0xffff);
        let message = unreachable(&quote_udp(&ENDPOINTS), Unreachable::Port);
        assert_eq!(fold(sum(&message.bytes()[IPV4_HEADER..])), 0xffff);
    }

    #[test]
    fn a_datagram_larger_than_the_link_is_not_written() {
        assert!(udp(&ENDPOINTS, usize::from(super::super::address::MTU) - 28).is_some());
        assert!(udp(&ENDPOINTS, usize::from(super::super::address::MTU) - 27).is_none());
    }

    #[test]
    fn every_cut_and_every_changed_byte_of_a_packet_is_read_or_refused_without_a_panic() {
        let options = SynOptions { max_segment_size: Some(1460), window_shift: Some(7), selective: true };
        let header = TcpHeader { flags: SYN, options, ..TcpHeader::default() };
        for packet in [tcp(&ENDPOINTS, &header, 0).bytes().to_vec(), udp(&ENDPOINTS, 0).unwrap().bytes().to_vec()] {
            for size in 0..packet.len() {
                assert!(parse(&packet[..size]).is_none(), "{size} bytes");
            }
            for at in 0..packet.len() {
                for value in 0..=255 {
                    let mut changed = packet.clone();
                    changed[at] = value;
                    let _ = parse(&changed);
                }
            }
        }
    }

    #[test]
    fn fragments_and_other_protocols_are_not_read() {
        let mut fragment = udp(&ENDPOINTS, 0).unwrap().bytes().to_vec();
        fragment[6] = 0x20;
        assert!(parse(&fragment).is_none());
        let mut other = udp(&ENDPOINTS, 0).unwrap().bytes().to_vec();
        other[9] = 132;
        assert!(parse(&other).is_none());
    }

    #[test]
    fn a_refusal_answers_each_segment_but_a_reset() {
        let refused = |flags| {
            let segment = Segment {
                sequence: 100,
                acknowledged: 55,
                flags,
                window: 0,
                options: SynOptions::default(),
                payload: b"abc",
            };
            refuse(&ENDPOINTS, &segment).map(|head| {
                let Some(Incoming { transport: Transport::Tcp(reply), .. }) = parse(head.bytes()) else {
                    panic!("TCP")
                };
                (reply.flags, reply.sequence, reply.acknowledged)
            })
        };
        assert_eq!(refused(SYN), Some((RST | ACK, 0, 104)));
        assert_eq!(refused(ACK), Some((RST, 55, 0)));
        assert_eq!(refused(RST), None);
    }
}
