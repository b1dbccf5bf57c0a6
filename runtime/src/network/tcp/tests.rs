//! A connection against a container that is played by the test, segment by segment.

use super::*;

const OUR_FIRST: u32 = u32::MAX - 1000;
const THEIR_FIRST: u32 = u32::MAX - 500;
const FULL: usize = BUFFER;

/// A segment that was sent, with its payload in one piece.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    header: TcpHeader,
    payload: Vec<u8>,
}

/// A connection with its container: what it sends is kept, and time passes when told.
struct Pair {
    connection: Connection,
    now: Instant,
    /// What the container would acknowledge.
    acknowledged: u32,
    next: u32,
    window: u16,
}

impl Pair {
    /// A connection that is established, with windows not shifted.
    fn new() -> Pair {
        let mut pair = Pair::with(SynOptions { max_segment_size: Some(1000), ..SynOptions::default() });
        let [syn_ack] = &pair.output(FULL)[..] else { panic!("one answer to a SYN") };
        assert_eq!((syn_ack.header.flags, syn_ack.header.sequence), (SYN | ACK, OUR_FIRST));
        pair.segment(ACK, b"", FULL);
        pair.output(FULL);
        pair
    }

    fn with(options: SynOptions) -> Pair {
        let syn = Segment { sequence: THEIR_FIRST, flags: SYN, window: 65_535, options, ..segment() };
        Pair {
            connection: Connection::answer(&syn, OUR_FIRST),
            now: Instant::now(),
            acknowledged: OUR_FIRST.wrapping_add(1),
            next: THEIR_FIRST.wrapping_add(1),
            window: 65_535,
        }
    }

    /// A connection that we have asked for.
    fn asked() -> Pair {
        Pair {
            connection: Connection::ask(OUR_FIRST),
            now: Instant::now(),
            acknowledged: OUR_FIRST.wrapping_add(1),
            next: THEIR_FIRST,
            window: 65_535,
        }
    }

    fn output(&mut self, room: usize) -> Vec<Sent> {
        let mut sent = Vec::new();
        self.connection.output(room, self.now, &mut |header, payload| {
            sent.push(Sent { header: *header, payload: payload.concat() });
        });
        sent
    }

    /// The next segment of the container, in order.
    fn segment(&mut self, flags: u8, payload: &[u8], room: usize) -> Vec<u8> {
        let received = self.segment_at(self.next, flags, payload, room);
        self.next = self.next.wrapping_add(in_sequence(payload.len()) + u32::from(flags & FIN));
        received
    }

    fn segment_at(&mut self, sequence: u32, flags: u8, payload: &[u8], room: usize) -> Vec<u8> {
        let (acknowledged, window) = (self.acknowledged, self.window);
        let segment = Segment { sequence, acknowledged, flags, window, payload, ..segment() };
        let Received::Bytes(bytes) = self.connection.on_segment(&segment, room) else { panic!("reset") };
        let mut bytes = bytes.to_vec();
        while let Some(early) = self.connection.next_early() {
            bytes.extend(early);
        }
        bytes
    }

    fn acknowledge(&mut self, sequence: u32) {
        self.acknowledged = sequence;
        self.segment(ACK, b"", FULL);
    }

    /// Lets time pass until the timer has run out.
    fn expire(&mut self) -> bool {
        self.now = self.connection.deadline().expect("a timer runs");
        self.connection.on_tick(self.now)
    }

    fn flags_of_output(&mut self) -> Vec<u8> {
        self.output(FULL).iter().map(|sent| sent.header.flags).collect()
    }
}

fn segment() -> Segment<'static> {
    Segment { sequence: 0, acknowledged: 0, flags: 0, window: 0, options: SynOptions::default(), payload: b"" }
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[test]
fn bytes_are_cut_into_segments_and_kept_until_they_are_acknowledged() {
    let mut pair = Pair::new();
    pair.connection.enqueue(&bytes(2500));
    let sent = pair.output(FULL);
    let sizes: Vec<usize> = sent.iter().map(|sent| sent.payload.len()).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
    assert_eq!(sent.iter().flat_map(|sent| sent.payload.clone()).collect::<Vec<u8>>(), bytes(2500));
    assert_eq!(sent[2].header.flags, ACK | PSH);
    assert_eq!(pair.output(FULL), []);
    pair.acknowledge(OUR_FIRST.wrapping_add(1 + 2500));
    assert!(pair.connection.is_drained());
    assert_eq!(pair.connection.deadline(), None);
}

#[test]
fn what_is_not_acknowledged_is_sent_again_from_there() {
    let mut pair = Pair::new();
    pair.connection.enqueue(&bytes(2500));
    let first = pair.output(FULL);
    pair.acknowledge(first[1].header.sequence);
    assert_eq!(pair.output(FULL), []);
    assert!(pair.expire());
    let again = pair.output(FULL);
    assert_eq!(again, first[1..]);
}

#[test]
fn three_equal_acknowledgements_repeat_one_segment_once() {
    let mut pair = Pair::new();
    pair.connection.enqueue(&bytes(5000));
    let first = pair.output(FULL);
    for _ in 0..MAX_DUPLICATES {
        assert_eq!(pair.output(FULL), []);
        pair.acknowledge(OUR_FIRST.wrapping_add(1));
    }
    let again = pair.output(FULL);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].payload, first[0].payload);
    (0..9).for_each(|_| pair.acknowledge(OUR_FIRST.wrapping_add(1)));
    assert_eq!(pair.output(FULL), []);
}

#[test]
fn a_container_that_does_not_answer_is_given_up_and_one_that_answers_is_not() {
    let mut pair = Pair::new();
    pair.connection.enqueue(b"lost");
    pair.output(FULL);
    let mut timeouts = 0;
    while pair.expire() {
        pair.output(FULL);
        timeouts += 1;
    }
    assert_eq!(timeouts, MAX_UNANSWERED);

    let mut pair = Pair::new();
    pair.window = 0;
    pair.segment(ACK, b"", FULL);
    pair.connection.enqueue(b"held up");
    for _ in 0..100 {
        pair.output(FULL);
        assert!(pair.expire());
        let [probe] = &pair.output(FULL)[..] else { panic!("a probe") };
        assert_eq!((probe.header.sequence, probe.payload.len()), (OUR_FIRST, 0));
        pair.segment(ACK, b"", FULL);
    }
    pair.window = 65_535;
    pair.segment(ACK, b"", FULL);
    assert_eq!(pair.output(FULL)[0].payload, b"held up");
}

#[test]
fn no_more_is_sent_than_the_window_allows() {
    let mut pair = Pair::new();
    pair.window = 1500;
    pair.segment(ACK, b"", FULL);
    pair.connection.enqueue(&bytes(5000));
    let sent = pair.output(FULL);
    // The half segment that would fit waits: it is better sent whole.
    assert_eq!(sent.iter().map(|sent| sent.payload.len()).collect::<Vec<usize>>(), [1000]);
    pair.window = 4000;
    pair.segment(ACK, b"", FULL);
    assert_eq!(pair.output(FULL).len(), 3);
}

#[test]
fn segments_in_order_are_handed_out_and_acknowledged_once() {
    let mut pair = Pair::new();
    assert_eq!(pair.segment(ACK, b"one", FULL), b"one");
    assert_eq!(pair.segment(ACK | PSH, b"two", FULL), b"two");
    let [answer] = &pair.output(FULL)[..] else { panic!("one acknowledgement") };
    assert_eq!(answer.header.acknowledged, pair.next);
    assert_eq!(pair.output(FULL), []);
}

#[test]
fn segments_that_overtook_others_are_handed_out_in_order() {
    let mut pair = Pair::new();
    let start = pair.next;
    assert_eq!(pair.segment_at(start.wrapping_add(4), ACK | FIN, b"ef", FULL), b"");
    assert_eq!(pair.segment_at(start.wrapping_add(2), ACK, b"cd", FULL), b"");
    assert_eq!(pair.segment_at(start.wrapping_add(3), ACK, b"de", FULL), b"");
    assert!(!pair.connection.peer_has_ended());
    assert_eq!(pair.output(FULL)[0].header.acknowledged, start);
    assert_eq!(pair.segment_at(start, ACK, b"abc", FULL), b"abcdef");
    assert!(pair.connection.peer_has_ended());
    assert_eq!(pair.output(FULL)[0].header.acknowledged, start.wrapping_add(7));
}

#[test]
fn early_segments_are_told_to_a_container_that_understands_it() {
    let mut pair = Pair::with(SynOptions { selective: true, ..SynOptions::default() });
    assert!(pair.output(FULL)[0].header.options.selective);
    pair.segment(ACK, b"", FULL);
    pair.output(FULL);
    let at = |offset: u32| THEIR_FIRST.wrapping_add(1 + offset);
    for offset in [10, 30, 12, 50, 70] {
        pair.segment_at(at(offset), ACK, b"xy", FULL);
    }
    let answer = &pair.output(FULL)[0].header;
    assert_eq!(answer.early, [Some((at(10), at(14))), Some((at(30), at(32))), Some((at(50), at(52)))]);
}

#[test]
fn what_is_kept_early_is_bounded() {
    let mut pair = Pair::new();
    for offset in 0..10_000 {
        pair.segment_at(pair.next.wrapping_add(2 + 2 * offset), ACK, b"x", FULL);
    }
    assert_eq!(pair.connection.early.len(), MAX_EARLY);
    let mut pair = Pair::new();
    pair.segment_at(pair.next.wrapping_add(1), ACK, &bytes(1000), 1000);
    assert!(pair.connection.early.is_empty(), "beyond the window");
}

#[test]
fn a_segment_that_was_known_is_acknowledged_and_not_handed_out_again() {
    let mut pair = Pair::new();
    let start = pair.next;
    assert_eq!(pair.segment(ACK, b"abc", FULL), b"abc");
    pair.output(FULL);
    assert_eq!(pair.segment_at(start, ACK, b"abc", FULL), b"");
    assert_eq!(pair.output(FULL)[0].header.acknowledged, pair.next);
    assert_eq!(pair.segment_at(start, ACK, b"abcde", FULL), b"de");
    // A keep-alive: nothing, before what is expected.
    assert_eq!(pair.segment_at(start, ACK, b"", FULL), b"");
    assert_eq!(pair.output(FULL).len(), 1);
}

#[test]
fn a_full_buffer_closes_the_window_and_room_opens_it() {
    let mut pair = Pair::new();
    assert_eq!(pair.segment(ACK, b"abc", 0), b"");
    assert_eq!(pair.output(0)[0].header.window, 0);
    assert_eq!(pair.output(100), [], "too little to tell of");
    assert_eq!(pair.output(FULL)[0].header.window, u16::MAX);
    assert_eq!(pair.output(FULL), []);
}

#[test]
fn each_direction_ends_by_itself() {
    let mut pair = Pair::new();
    assert_eq!(pair.segment(ACK | FIN, b"all", FULL), b"all");
    assert!(pair.connection.peer_has_ended());
    assert_eq!(pair.flags_of_output(), [ACK]);
    pair.connection.enqueue(b"answer");
    assert_eq!(pair.flags_of_output(), [ACK | PSH]);
    pair.connection.enqueue(b"!");
    pair.connection.finish();
    assert_eq!(pair.flags_of_output(), [ACK | PSH, ACK | FIN]);
    pair.acknowledge(OUR_FIRST.wrapping_add(1 + 7));
    assert!(!pair.connection.is_over(), "the end is not acknowledged");
    assert_eq!(pair.output(FULL), []);
    assert!(pair.expire());
    assert_eq!(pair.flags_of_output(), [ACK | FIN]);
    pair.acknowledge(OUR_FIRST.wrapping_add(1 + 7 + 1));
    assert!(pair.connection.is_over());
    assert_eq!(pair.connection.deadline(), None);
}

#[test]
fn only_a_reset_inside_the_window_counts() {
    let mut pair = Pair::new();
    let mut reset = |offset: u32| {
        let segment = Segment { sequence: pair.next.wrapping_add(offset), flags: RST, ..segment() };
        pair.connection.on_segment(&segment, 1000) == Received::Reset
    };
    assert!(!reset(u32::MAX));
    assert!(!reset(1001));
    assert!(reset(0));
}

#[test]
fn a_lost_answer_to_the_syn_is_sent_again() {
    let mut pair = Pair::with(SynOptions::default());
    assert_eq!(pair.flags_of_output(), [SYN | ACK]);
    assert_eq!(pair.output(FULL), []);
    assert!(pair.expire());
    assert_eq!(pair.flags_of_output(), [SYN | ACK]);
    let syn = Segment { sequence: THEIR_FIRST, flags: SYN, ..segment() };
    pair.connection.on_segment(&syn, FULL);
    assert_eq!(pair.flags_of_output(), [SYN | ACK]);
    pair.segment(ACK, b"", FULL);
    assert_eq!(pair.connection.deadline(), None);
}

/// Carries `size` bytes over a link that loses one packet in `loss` and turns the order of others around.
fn check_bad_link(size: usize, loss: u64, seed: u64) {
    let mut pair = Pair::with(SynOptions { max_segment_size: Some(700), ..SynOptions::default() });
    let (whole, mut delivered, mut enqueued) = (bytes(size), Vec::<u8>::new(), 0);
    let mut state = seed;
    let mut is_lost = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33).is_multiple_of(loss)
    };
    for _ in 0..size {
        let room = pair.connection.space().min(size - enqueued);
        pair.connection.enqueue(&whole[enqueued..enqueued + room]);
        enqueued += room;
        let mut sent = pair.output(FULL);
        if sent.is_empty() && pair.connection.deadline().is_some() {
            assert!(pair.expire());
            continue;
        }
        if is_lost() {
            sent.reverse();
        }
        for Sent { header, payload } in sent {
            if is_lost() {
                continue;
            }
            if header.flags & SYN != 0 {
                pair.acknowledged = header.sequence.wrapping_add(1);
            } else if header.sequence == pair.acknowledged {
                delivered.extend(&payload);
                pair.acknowledged = pair.acknowledged.wrapping_add(in_sequence(payload.len()));
            }
            if !is_lost() {
                pair.segment(ACK, b"", FULL);
            }
        }
        if delivered.len() == size {
            break;
        }
    }
    assert!(delivered == whole, "{} of {size} bytes arrived", delivered.len());
}

#[test]
fn every_byte_arrives_once_and_in_order_over_a_bad_link() {
    for seed in 0..20 {
        check_bad_link(300_000, 4, seed);
        check_bad_link(300_000, 50, seed);
    }
}

#[test]
fn a_connection_that_is_asked_for_is_made_by_the_answer_and_carries_what_waits() {
    let mut pair = Pair::asked();
    pair.connection.enqueue(b"early");
    let [syn] = &pair.output(FULL)[..] else { panic!("one SYN, and nothing with it") };
    let offered = SynOptions { max_segment_size: Some(MAX_SEGMENT_SIZE), window_shift: Some(3), selective: true };
    assert_eq!((syn.header.flags, syn.header.sequence, syn.header.acknowledged), (SYN, OUR_FIRST, 0));
    assert_eq!((syn.header.options, syn.payload.len()), (offered, 0));

    let options = SynOptions { max_segment_size: Some(1000), window_shift: Some(2), selective: true };
    let (sequence, acknowledged) = (THEIR_FIRST, OUR_FIRST.wrapping_add(1));
    let answer = Segment { sequence, acknowledged, flags: SYN | ACK, window: 500, options, ..segment() };
    assert_eq!(pair.connection.on_segment(&answer, FULL), Received::Bytes(&[]));
    pair.next = THEIR_FIRST.wrapping_add(1);
    let [data] = &pair.output(FULL)[..] else { panic!("the bytes acknowledge the answer") };
    assert_eq!((data.header.flags, &data.payload[..]), (ACK | PSH, &b"early"[..]));
    assert_eq!((data.header.acknowledged, usize::from(data.header.window) << 3), (pair.next, FULL));
    // The window of a SYN is as it stands there, those after it are shifted.
    pair.connection.enqueue(&bytes(3000));
    assert_eq!(pair.output(FULL).iter().map(|sent| sent.payload.len()).sum::<usize>(), 0, "the rest would be silly");
    pair.window = 500;
    pair.acknowledge(acknowledged.wrapping_add(5));
    assert_eq!(pair.output(FULL).iter().map(|sent| sent.payload.len()).sum::<usize>(), 2000);
    assert_eq!(pair.segment(ACK, b"hello", FULL), b"hello");
}

#[test]
fn a_lost_syn_is_sent_again_and_nobody_at_all_is_given_up() {
    let mut pair = Pair::asked();
    assert_eq!(pair.flags_of_output(), [SYN]);
    assert_eq!(pair.flags_of_output(), []);
    for _ in 0..MAX_UNANSWERED {
        assert!(pair.expire());
        assert_eq!(pair.flags_of_output(), [SYN]);
    }
    assert!(!pair.expire());
}

#[test]
fn only_a_reset_that_answers_refuses_and_an_old_connection_is_reset() {
    let mut pair = Pair::asked();
    pair.output(FULL);
    let answer = |flags, acknowledged| Segment { sequence: THEIR_FIRST, acknowledged, flags, ..segment() };
    let stray = OUR_FIRST.wrapping_add(77);
    for (flags, acknowledged) in [(RST, 0), (RST | ACK, stray), (SYN, 0)] {
        assert_eq!(pair.connection.on_segment(&answer(flags, acknowledged), FULL), Received::Bytes(&[]));
        assert_eq!(pair.output(FULL), []);
    }
    for flags in [ACK, SYN | ACK] {
        assert_eq!(pair.connection.on_segment(&answer(flags, stray), FULL), Received::Bytes(&[]));
        let [reset] = &pair.output(FULL)[..] else { panic!("one reset") };
        assert_eq!((reset.header.flags, reset.header.sequence), (RST, stray));
    }
    assert_eq!(pair.connection.reset().flags, RST);
    let refusal = answer(RST | ACK, OUR_FIRST.wrapping_add(1));
    assert_eq!(pair.connection.on_segment(&refusal, FULL), Received::Reset);
}
