//! Assembles the program of a filter: which instructions the kernel runs for a call.
//!
//! ```text
//! architecture ─unknown─▶ kill
//!      └─▶ number ─binary search over ranges of equal verdicts─▶ verdict
//!                                                     └─▶ argument ─tests─▶ verdict
//! ```
//!
//! The kernel runs the part up to the verdict once for every number when the filter is installed, and remembers the numbers that it
//! always allows; calls that are allowed by argument run it each time. Only loads of architecture and number and plain jumps
//! may stand before the verdict, or nothing is remembered.
//!
//! Assembled from its end, so that the distance of every jump is known. Not here: which call gets which verdict (`mod.rs`).

use std::collections::BTreeMap;

use libc::sock_filter;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Allow,
    /// The call returns this number.
    Errno(i32),
    /// The process dies with `SIGSYS`.
    Kill,
    ByArgument(Check),
}

/// Allows a call for some values of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Check {
    pub(super) argument: u32,
    pub(super) test: Test,
    /// What the call returns if the test fails.
    pub(super) otherwise: i32,
}

/// What an argument must be. Where the kernel reads 32 bits of it, the upper half is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Test {
    /// None of these bits is set. 32 bits.
    HasNoneOf(u32),
    /// None of these. 32 bits.
    IsNot(&'static [u32]),
    /// One of these, with an upper half of zero.
    Is(&'static [u32]),
}

/// Calls of one architecture, by number; those without a verdict do not exist.
pub(super) struct Calls {
    pub(super) architecture: u32,
    pub(super) verdicts: BTreeMap<u32, Verdict>,
}

/// Assembles the filter of a machine; the first architecture has the shortest way.
pub(super) fn assemble(architectures: &[Calls]) -> Vec<sock_filter> {
    let mut assembler = Assembler::default();
    let starts: Vec<(u32, Label)> =
        architectures.iter().rev().map(|calls| (calls.architecture, assembler.calls(&calls.verdicts))).collect();
    let mut next = assembler.verdict(Verdict::Kill);
    for (architecture, start) in starts {
        next = assembler.branch(EQUAL, architecture, start, next);
    }
    assembler.push(LOAD, 0, 0, ARCHITECTURE);
    assembler.reversed.reverse();
    assembler.reversed
}

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const AT_LEAST: u16 = 0x35;
const HAS_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the kernel's `seccomp_data` has them; both machines are little-endian, so that an argument's lower half is first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The farthest that a conditional jump goes, less the jump that [`Assembler::near`] may put before it.
const NEAR: usize = 254;

/// An instruction: how many there are from it to the end.
#[derive(Clone, Copy)]
struct Label(usize);

#[derive(Default)]
struct Assembler {
    /// The last instruction first.
    reversed: Vec<sock_filter>,
    /// Where a verdict is, the nearest one.
    verdicts: BTreeMap<Verdict, Label>,
}

impl Assembler {
    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(sock_filter { code, jt, jf, k });
        Label(self.reversed.len())
    }

    /// How many instructions the next one skips to get to `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - label.0
    }

    /// A label that a conditional jump reaches: that one, or a jump to it.
    fn near(&mut self, label: Label) -> Label {
        let distance = self.distance(label);
        if distance <= NEAR {
            return label;
        }
        self.push(JUMP, 0, 0, u32::try_from(distance).expect("a program is short"))
    }

    fn branch(&mut self, code: u16, value: u32, yes: Label, no: Label) -> Label {
        let (yes, no) = (self.near(yes), self.near(no));
        let skipped = |label| u8::try_from(self.distance(label)).expect("both labels are near");
        self.push(code, skipped(yes), skipped(no), value)
    }

    /// The instructions for the calls of an architecture, from its number on.
    fn calls(&mut self, verdicts: &BTreeMap<u32, Verdict>) -> Label {
        self.search(&ranges(verdicts));
        self.push(LOAD, 0, 0, NUMBER)
    }

    /// Finds the range that the loaded number is in.
    fn search(&mut self, ranges: &[(u32, Verdict)]) -> Label {
        if let [(_, verdict)] = ranges {
            return self.verdict(*verdict);
        }
        let (lower, upper) = ranges.split_at(ranges.len() / 2);
        let (yes, no) = (self.search(upper), self.search(lower));
        self.branch(AT_LEAST, upper[0].0, yes, no)
    }

    /// The instructions of a verdict: those that are there, or the same again where these are too far away.
    fn verdict(&mut self, verdict: Verdict) -> Label {
        if let Some(&label) = self.verdicts.get(&verdict)
            && self.distance(label) <= NEAR
        {
            return label;
        }
        let label = match verdict {
            Verdict::Allow => self.push(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
            Verdict::Errno(errno) => self.push(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
            Verdict::Kill => self.push(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
            Verdict::ByArgument(check) => self.check(check),
        };
        self.verdicts.insert(verdict, label);
        label
    }

    fn check(&mut self, check: Check) -> Label {
        let (pass, fail) = (self.verdict(Verdict::Allow), self.verdict(Verdict::Errno(check.otherwise)));
        let lower_half = ARGUMENTS + 8 * check.argument;
        let one_of = |assembler: &mut Self, values: &[u32], yes, no| {
            let tests = values.iter().rev();
            tests.fold(no, |next, value| assembler.branch(EQUAL, *value, yes, next));
        };
        match check.test {
            Test::HasNoneOf(bits) => {
                self.branch(HAS_ANY_BIT, bits, fail, pass);
            }
            Test::IsNot(values) => one_of(self, values, fail, pass),
            Test::Is(values) => {
                one_of(self, values, pass, fail);
                let compare = self.push(LOAD, 0, 0, lower_half);
                self.branch(EQUAL, 0, compare, fail);
                return self.push(LOAD, 0, 0, lower_half + 4);
            }
        }
        self.push(LOAD, 0, 0, lower_half)
    }
}

/// Where each range of equal verdicts begins; the first begins at 0, the last has no end.
fn ranges(verdicts: &BTreeMap<u32, Verdict>) -> Vec<(u32, Verdict)> {
    const ABSENT: Verdict = Verdict::Errno(libc::ENOSYS);
    let mut ranges = Vec::new();
    let mut next = 0;
    for (&number, &verdict) in verdicts {
        if number > next {
            ranges.push((next, ABSENT));
        }
        ranges.push((number, verdict));
        next = number + 1;
    }
    ranges.push((next, ABSENT));
    ranges.dedup_by_key(|(_, verdict)| *verdict);
    ranges
}
