//! One TCP connection as the container's kernel sees it: sequence numbers, windows, acknowledgements and timers, without a socket.
//!
//! ```text
//! host socket ─enqueue▶ queue ─output▶ segments ─▶ container      bytes stay in the queue until the container acknowledges them
//! host socket ◀─ bytes ◀─on_segment─ segments ◀─── container      bytes are acknowledged when they are handed out
//! ```
//!
//! | event | what happens |
//! |---|---|
//! | segment in order | its bytes are handed out as far as the caller has room; one acknowledgement per `output` |
//! | segment after a gap | kept until the gap is filled, and told to the sender (packets of a veth can overtake each other) |
//! | any other segment | acknowledged |
//! | three equal acknowledgements | the first unacknowledged segment is sent again (the link loses packets only when a queue overflows) |
//! | acknowledgement missing | everything unacknowledged is sent again |
//! | window closed | it is probed, for the update may have been lost |
//! | no answer to a SYN, ours or to theirs | it is sent again |
//! | end of one direction | the other goes on: a half-closed connection stays open until both ends are done |
//!
//! There is no congestion control: the link is a queue in memory, and the receiver's window is its bound.
//!
//! Not here: sockets and the buffer toward the host (`tcp_flow.rs`), packet bytes (`packet.rs`).

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use super::address;
use super::packet::{ACK, FIN, PSH, RST, SACK_BLOCKS, SYN, Segment, SynOptions, TcpHeader};

/// Bytes kept for one connection in each direction, at most.
pub(super) const BUFFER: usize = 256 * 1024;
/// What our windows are shifted by: enough for [`BUFFER`].
const WINDOW_SHIFT: u8 = 3;
const MAX_SEGMENT_SIZE: u16 = address::MTU - 40;
/// What an end without the option takes (RFC 9293, 3.7.1).
const DEFAULT_SEGMENT_SIZE: u16 = 536;
const FIRST_TIMEOUT: Duration = Duration::from_millis(200);
const LAST_TIMEOUT: Duration = Duration::from_secs(5);
/// About a minute without a sign of life. The container's kernel answers even where its processes are stopped.
const MAX_UNANSWERED: u32 = 15;
const MAX_DUPLICATES: u8 = 3;
/// How many segments are kept after a gap, at most.
const MAX_EARLY: usize = 64;

/// A connection of the container, whoever began it, from the first SYN on.
#[derive(Debug)]
pub(super) struct Connection {
    /// The first sequence number not acknowledged: that of the queue's first byte.
    unacknowledged: u32,
    /// The next one to send; falls back to `unacknowledged` to send everything again.
    next: u32,
    /// One after the highest ever sent.
    highest: u32,
    /// Bytes for the container, sent or not; our FIN follows them.
    queue: VecDeque<u8>,
    ending: Ending,
    opening: Opening,
    peer_window: usize,
    peer_shift: Option<u8>,
    segment_size: usize,
    duplicates: u8,
    /// `highest` when something was last sent again: equal acknowledgements up to here are echoes of that.
    repeated_until: Option<u32>,

    /// The next sequence number from the container.
    expected: u32,
    peer_has_ended: bool,
    /// Where the container's FIN is, once it has arrived.
    end: Option<u32>,
    /// Segments after a gap, in order: sequence number and bytes.
    early: VecDeque<(u32, Vec<u8>)>,
    /// Whether the container understands which segments are kept.
    is_selective: bool,
    /// One after the highest sequence number the container was told that it may send.
    promised: u32,

    due: Due,
    /// An acknowledgement of something that was never sent: it is to be refused with a reset.
    stray: Option<u32>,
    must_repeat: bool,
    timer: Option<Instant>,
    /// Timeouts since the last progress: each is twice as long as the one before.
    timeouts: u32,
    /// Timeouts since the container last said anything.
    unanswered: u32,
}

/// How far the connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// We asked for it.
    Asked,
    /// The container asked, and does not know yet that we agree.
    Answered,
    Established,
}

/// Our direction of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Open,
    /// A FIN follows the queue.
    Finishing,
    /// The FIN was acknowledged.
    Finished,
}

/// What `output` has to send besides the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Nothing,
    Acknowledgement,
    Probe,
    Syn,
}

/// What a segment brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// Bytes that are acknowledged from now on; often none. [`Connection::next_early`] may have more.
    Bytes(&'a [u8]),
    /// The container gave the connection up.
    Reset,
}

/// Where segments go: the header, and the payload in two pieces.
pub(super) type Emit<'a> = dyn FnMut(&TcpHeader, [&[u8]; 2]) + 'a;

impl Connection {
    /// Asks the container for a connection; `initial` is our first sequence number.
    pub(super) fn ask(initial: u32) -> Connection {
        Connection::new(initial, Opening::Asked)
    }

    /// Answers a SYN; `initial` is our first sequence number.
    pub(super) fn answer(syn: &Segment<'_>, initial: u32) -> Connection {
        let mut connection = Connection::new(initial, Opening::Answered);
        connection.learn_of_the_peer(syn);
        connection
    }

    fn new(initial: u32, opening: Opening) -> Connection {
        let first = initial.wrapping_add(1);
        Connection {
            unacknowledged: first,
            next: first,
            highest: first,
            queue: VecDeque::new(),
            ending: Ending::Open,
            opening,
            peer_window: 0,
            // Until the container has said what it can, everything is offered.
            peer_shift: Some(0),
            segment_size: usize::from(DEFAULT_SEGMENT_SIZE),
            duplicates: 0,
            repeated_until: None,
            expected: 0,
            peer_has_ended: false,
            end: None,
            early: VecDeque::new(),
            is_selective: true,
            promised: 0,
            due: Due::Syn,
            stray: None,
            must_repeat: false,
            timer: None,
            timeouts: 0,
            unanswered: 0,
        }
    }

    /// Takes what the container's SYN says.
    fn learn_of_the_peer(&mut self, syn: &Segment<'_>) {
        let segment_size = syn.options.max_segment_size.unwrap_or(DEFAULT_SEGMENT_SIZE).clamp(64, MAX_SEGMENT_SIZE);
        self.segment_size = usize::from(segment_size);
        self.peer_window = usize::from(syn.window);
        self.peer_shift = syn.options.window_shift;
        self.is_selective = syn.options.selective;
        self.expected = syn.sequence.wrapping_add(1);
        self.promised = self.expected;
    }

    fn is_established(&self) -> bool {
        self.opening == Opening::Established
    }

    /// How many bytes [`enqueue`](Self::enqueue) takes now.
    pub(super) fn space(&self) -> usize {
        BUFFER.saturating_sub(self.queue.len())
    }

    /// Adds bytes for the container, at most [`space`](Self::space) of them.
    pub(super) fn enqueue(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
    }

    /// Ends the direction to the container after the bytes in the queue.
    pub(super) fn finish(&mut self) {
        if self.ending == Ending::Open {
            self.ending = Ending::Finishing;
        }
    }

    /// Whether the container has sent all it will, and all of it was handed out.
    pub(super) fn peer_has_ended(&self) -> bool {
        self.peer_has_ended
    }

    /// Whether the container has acknowledged every byte enqueued so far.
    pub(super) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether both directions have ended and the container knows.
    pub(super) fn is_over(&self) -> bool {
        self.peer_has_ended && self.ending == Ending::Finished && self.due == Due::Nothing
    }

    /// When [`on_tick`](Self::on_tick) is next needed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timer
    }

    /// Takes a segment; `room` bytes of payload can be taken.
    pub(super) fn on_segment<'a>(&mut self, segment: &Segment<'a>, room: usize) -> Received<'a> {
        if self.opening == Opening::Asked {
            return self.on_answer(segment);
        }
        if segment.flags & RST != 0 {
            return self.on_reset(segment, room);
        }
        if segment.flags & SYN != 0 {
            self.owe(if self.is_established() { Due::Acknowledgement } else { Due::Syn });
            return Received::Bytes(&[]);
        }
        if segment.flags & ACK == 0 || !self.on_acknowledgement(segment) {
            return Received::Bytes(&[]);
        }
        Received::Bytes(self.on_payload(segment, room))
    }

    /// Takes what the container says to our SYN (RFC 9293, 3.10.7.3).
    fn on_answer<'a>(&mut self, segment: &Segment<'_>) -> Received<'a> {
        let is_answer = segment.flags & ACK != 0 && segment.acknowledged == self.next;
        match segment.flags & (RST | SYN) {
            RST if is_answer => return Received::Reset,
            SYN if is_answer => {
                self.learn_of_the_peer(segment);
                self.establish();
                self.owe(Due::Acknowledgement);
            }
            // Of an earlier connection of the same ports, which the container still remembers.
            0 | SYN if segment.flags & ACK != 0 => self.stray = Some(segment.acknowledged),
            _ => {}
        }
        Received::Bytes(&[])
    }

    fn establish(&mut self) {
        self.opening = Opening::Established;
        self.unanswered = 0;
        self.rest();
    }

    fn on_reset<'a>(&self, segment: &Segment<'a>, room: usize) -> Received<'a> {
        // One left over from an earlier connection of the same ports does not count (RFC 9293, 3.10.7.4).
        let offset = usize::try_from(distance(self.expected, segment.sequence));
        if offset.is_ok_and(|offset| offset <= room) { Received::Reset } else { Received::Bytes(&[]) }
    }

    /// Returns whether the rest of the segment counts.
    fn on_acknowledgement(&mut self, segment: &Segment<'_>) -> bool {
        let advance = distance(self.unacknowledged, segment.acknowledged);
        if advance > distance(self.unacknowledged, self.highest) {
            self.owe(Due::Acknowledgement);
            return false;
        }
        self.unanswered = 0;
        let Ok(advance) = usize::try_from(advance) else {
            // An old one; its payload may still be new.
            return self.is_established();
        };
        if !self.is_established() {
            self.establish();
        }
        let window = usize::from(segment.window) << self.peer_shift.unwrap_or(0);
        if advance > 0 {
            self.on_advance(advance, segment.acknowledged);
        } else if self.is_duplicate(segment, window) {
            self.on_duplicate();
        }
        if self.peer_window == 0 && window > 0 {
            self.rest();
        }
        self.peer_window = window;
        true
    }

    fn on_advance(&mut self, advance: usize, acknowledged: u32) {
        if advance > self.queue.len() {
            self.ending = Ending::Finished;
        }
        self.queue.drain(..advance.min(self.queue.len()));
        self.unacknowledged = acknowledged;
        if distance(self.next, acknowledged) > 0 {
            self.next = acknowledged;
        }
        self.duplicates = 0;
        self.rest();
    }

    fn is_duplicate(&self, segment: &Segment<'_>, window: usize) -> bool {
        let is_echo = self.repeated_until.is_some_and(|until| distance(until, self.unacknowledged) <= 0);
        segment.payload.is_empty()
            && segment.flags & FIN == 0
            && window == self.peer_window
            && self.in_flight() > 0
            && !is_echo
    }

    fn on_duplicate(&mut self) {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == MAX_DUPLICATES {
            self.must_repeat = true;
            self.repeated_until = Some(self.highest);
        }
    }

    fn on_payload<'a>(&mut self, segment: &Segment<'a>, room: usize) -> &'a [u8] {
        let is_empty = segment.payload.is_empty() && segment.flags & FIN == 0;
        if is_empty && segment.sequence == self.expected {
            return &[];
        }
        self.owe(Due::Acknowledgement);
        if self.peer_has_ended {
            return &[];
        }
        if segment.flags & FIN != 0 {
            self.end = Some(segment.sequence.wrapping_add(in_sequence(segment.payload.len())));
        }
        // How much of the payload is known already; negative when something is missing before it.
        let Ok(known) = usize::try_from(distance(segment.sequence, self.expected)) else {
            self.keep_early(segment, room);
            return &[];
        };
        let fresh = segment.payload.get(known..).unwrap_or_default();
        let taken = &fresh[..fresh.len().min(room)];
        self.accept(taken.len());
        taken
    }

    /// Returns bytes that came early and are now in order; to be called after each segment until there are none.
    pub(super) fn next_early(&mut self) -> Option<Vec<u8>> {
        while let Some((sequence, _)) = self.early.front() {
            let known = usize::try_from(distance(*sequence, self.expected)).ok()?;
            let (_, mut bytes) = self.early.pop_front()?;
            if known < bytes.len() {
                bytes.drain(..known);
                self.accept(bytes.len());
                return Some(bytes);
            }
        }
        None
    }

    fn accept(&mut self, size: usize) {
        self.expected = self.expected.wrapping_add(in_sequence(size));
        if self.end == Some(self.expected) {
            self.expected = self.expected.wrapping_add(1);
            self.peer_has_ended = true;
            self.early.clear();
        }
    }

    fn keep_early(&mut self, segment: &Segment<'_>, room: usize) {
        let offset = distance(self.expected, segment.sequence);
        let size = segment.payload.len();
        let kept: usize = self.early.iter().map(|(_, bytes)| bytes.len()).sum();
        let is_inside = usize::try_from(offset).is_ok_and(|offset| offset + size <= room);
        if size == 0 || !is_inside || kept + size > room || self.early.len() >= MAX_EARLY {
            return;
        }
        let place = self.early.partition_point(|(sequence, _)| distance(self.expected, *sequence) < offset);
        self.early.insert(place, (segment.sequence, segment.payload.to_vec()));
    }

    /// Returns the first ranges of bytes that came early.
    fn early_blocks(&self) -> [Option<(u32, u32)>; SACK_BLOCKS] {
        let mut blocks = [None; SACK_BLOCKS];
        let mut last = 0;
        for (from, bytes) in &self.early {
            let to = from.wrapping_add(in_sequence(bytes.len()));
            match &mut blocks[last] {
                Some((_, end)) if distance(*end, *from) <= 0 => {
                    if distance(*end, to) > 0 {
                        *end = to;
                    }
                }
                Some(_) if last + 1 == SACK_BLOCKS => break,
                Some(_) => {
                    last += 1;
                    blocks[last] = Some((*from, to));
                }
                block => *block = Some((*from, to)),
            }
        }
        blocks
    }

    /// Acts on a timer that has run out; returns false when the container has not answered for too long.
    pub(super) fn on_tick(&mut self, now: Instant) -> bool {
        if self.timer.is_none_or(|timer| timer > now) {
            return true;
        }
        self.timeouts += 1;
        self.unanswered += 1;
        self.timer = None;
        if !self.is_established() {
            self.owe(Due::Syn);
        } else if self.in_flight() > 0 {
            self.next = self.unacknowledged;
            self.duplicates = 0;
            self.repeated_until = Some(self.highest);
        } else {
            self.owe(Due::Probe);
        }
        self.unanswered <= MAX_UNANSWERED
    }

    /// Sends what can be sent now; `room` bytes from the container could be taken. To be called after anything else was.
    pub(super) fn output(&mut self, room: usize, now: Instant, emit: &mut Emit<'_>) {
        let mut output = Output { room, emit };
        if let Some(sequence) = self.stray.take() {
            (output.emit)(&TcpHeader { sequence, flags: RST, ..TcpHeader::default() }, [&[], &[]]);
        }
        if self.is_established() {
            self.output_stream(&mut output);
        }
        match self.due {
            Due::Syn => {
                let flags = if self.opening == Opening::Asked { SYN } else { SYN | ACK };
                self.send(flags, self.unacknowledged.wrapping_sub(1), 0, &mut output);
            }
            // Outside the window on purpose: it has to be answered.
            Due::Probe => self.send(ACK, self.unacknowledged.wrapping_sub(1), 0, &mut output),
            Due::Acknowledgement if self.is_established() => self.send(ACK, self.next, 0, &mut output),
            _ if self.has_room_to_tell_of(room) => self.send(ACK, self.next, 0, &mut output),
            _ => {}
        }
        let is_blocked = self.peer_window == 0 && !self.queue.is_empty();
        if !self.is_established() || self.in_flight() > 0 || is_blocked {
            self.timer = Some(self.timer.unwrap_or(now + self.timeout()));
        }
    }

    fn output_stream(&mut self, output: &mut Output<'_, '_>) {
        if mem::take(&mut self.must_repeat) && self.in_flight() > 0 {
            let size = self.queue.len().min(self.segment_size).min(self.in_flight());
            let fin = if self.queue.is_empty() { FIN } else { 0 };
            self.send(ACK | fin, self.unacknowledged, size, output);
        }
        loop {
            let in_flight = self.in_flight();
            let unsent = self.queue.len().saturating_sub(in_flight);
            let size = unsent.min(self.segment_size).min(self.peer_window.saturating_sub(in_flight));
            // A small piece of a larger whole waits until the window is wider (RFC 1122, 4.2.3.4).
            let is_silly = size < unsent && size < self.segment_size && in_flight > 0;
            if size == 0 || is_silly {
                break;
            }
            let push = if size == unsent { PSH } else { 0 };
            self.send(ACK | push, self.next, size, output);
            self.advance_next(size);
        }
        if self.ending == Ending::Finishing && self.in_flight() == self.queue.len() {
            self.send(FIN | ACK, self.next, 0, output);
            self.advance_next(1);
        }
    }

    fn advance_next(&mut self, size: usize) {
        self.next = self.next.wrapping_add(in_sequence(size));
        if distance(self.highest, self.next) > 0 {
            self.highest = self.next;
        }
    }

    /// Sends one segment with `size` bytes of the queue, the first of them at `sequence`.
    fn send(&mut self, flags: u8, sequence: u32, size: usize, output: &mut Output<'_, '_>) {
        let is_syn = flags & SYN != 0;
        // A window in a SYN is never shifted (RFC 7323, 2.2).
        let shift = if is_syn { 0 } else { self.shift() };
        let window = u16::try_from(output.room >> shift).unwrap_or(u16::MAX);
        let options = SynOptions {
            max_segment_size: is_syn.then_some(MAX_SEGMENT_SIZE),
            window_shift: self.peer_shift.filter(|_| is_syn).map(|_| WINDOW_SHIFT),
            selective: is_syn && self.is_selective,
        };
        // Not beside bytes: both together could exceed the link's packets.
        let early = if self.is_selective && size == 0 { self.early_blocks() } else { Default::default() };
        let header = TcpHeader { sequence, acknowledged: self.expected, flags, window, options, early };
        (output.emit)(&header, self.piece(sequence, size));
        self.promised = self.expected.wrapping_add(u32::from(window) << shift);
        if size == 0 || self.early.is_empty() {
            self.due = Due::Nothing;
        }
    }

    fn piece(&self, sequence: u32, size: usize) -> [&[u8]; 2] {
        if size == 0 {
            return [&[], &[]];
        }
        let start = usize::try_from(distance(self.unacknowledged, sequence)).unwrap_or(0);
        let end = start + size;
        let (front, back) = self.queue.as_slices();
        let split = front.len();
        [&front[start.min(split)..end.min(split)], &back[start.saturating_sub(split)..end.saturating_sub(split)]]
    }

    /// Makes the segment that gives the connection up.
    pub(super) fn reset(&self) -> TcpHeader {
        let (sequence, acknowledged) = (self.next, self.expected);
        // Nothing of the container is known to acknowledge before it has answered.
        let flags = if self.opening == Opening::Asked { RST } else { RST | ACK };
        TcpHeader { sequence, acknowledged, flags, ..TcpHeader::default() }
    }

    /// Whether the container believes in so little room that it must hear of more.
    fn has_room_to_tell_of(&self, room: usize) -> bool {
        let believed = usize::try_from(distance(self.expected, self.promised)).unwrap_or(0);
        let largest = BUFFER.min(usize::from(u16::MAX) << self.shift());
        let is_worth_it = room.min(largest).saturating_sub(believed) >= largest / 2;
        self.is_established() && !self.peer_has_ended && is_worth_it
    }

    /// What our windows are shifted by, after the SYN.
    fn shift(&self) -> u8 {
        self.peer_shift.map_or(0, |_| WINDOW_SHIFT)
    }

    fn in_flight(&self) -> usize {
        usize::try_from(distance(self.unacknowledged, self.next)).unwrap_or(0)
    }

    fn owe(&mut self, due: Due) {
        self.due = self.due.max(due);
    }

    fn rest(&mut self) {
        self.timer = None;
        self.timeouts = 0;
    }

    fn timeout(&self) -> Duration {
        FIRST_TIMEOUT.saturating_mul(1 << self.timeouts.min(5)).min(LAST_TIMEOUT)
    }
}

struct Output<'a, 'b> {
    room: usize,
    emit: &'a mut Emit<'b>,
}

/// How far `to` is after `from`; negative when it is before.
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// A size as a step in sequence numbers; sizes here are below [`BUFFER`].
fn in_sequence(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
