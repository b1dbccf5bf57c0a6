//! Programs run by an interpreter, as the kernel runs them: for both machines, whichever the tests run on.

use std::collections::BTreeSet;

use super::program::{Check, Test};
use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | 38;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;

const MACHINES: [&[Architecture]; 2] = [&numbers::X86_64, &numbers::AARCH64];

/// A call as the kernel tells filters of it.
struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 2],
}

/// What a program makes of a call; enough of BPF for what these programs use, all of which the kernel takes.
fn run(program: &[sock_filter], call: &Call) -> u32 {
    let mut data = Vec::new();
    data.extend(call.number.to_le_bytes());
    data.extend(call.architecture.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    call.arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut loaded, mut at) = (0_u32, 0_usize);
    loop {
        let instruction = &program[at];
        at += 1;
        let taken = match instruction.code {
            0x20 => {
                let offset = instruction.k as usize;
                loaded = u32::from_le_bytes(data[offset..offset + 4].try_into().unwrap());
                continue;
            }
            0x05 => {
                at += instruction.k as usize;
                continue;
            }
            0x06 => return instruction.k,
            0x15 => loaded == instruction.k,
            0x35 => loaded >= instruction.k,
            0x45 => loaded & instruction.k != 0,
            other => panic!("no BPF instruction {other:#x} expected"),
        };
        at += usize::from(if taken { instruction.jt } else { instruction.jf });
    }
}

fn number(architecture: &Architecture, name: &str) -> Option<u32> {
    architecture.numbers().find(|(named, _)| *named == name).map(|(_, number)| number)
}

/// Checks calls by name on every architecture that has them; each is on at least one.
#[track_caller]
fn check_with(capabilities: CapabilitySet, cases: &[(&str, [u64; 2], u32)]) {
    let filters = MACHINES.map(|machine| (machine, Filter::of(machine, capabilities)));
    for (name, arguments, expected) in cases {
        let mut seen = 0;
        for (machine, filter) in &filters {
            for architecture in *machine {
                let Some(number) = number(architecture, name) else { continue };
                let call = Call { architecture: architecture.id, number, arguments: *arguments };
                let id = architecture.id;
                assert_eq!(run(&filter.program, &call), *expected, "{name}{arguments:x?} of {id:#x}");
                seen += 1;
            }
        }
        assert!(seen > 0, "{name}");
    }
}

#[track_caller]
fn check(cases: &[(&str, [u64; 2], u32)]) {
    check_with(CapabilitySet::empty(), cases);
}

/// Checks calls whose arguments do not matter.
#[track_caller]
fn check_all(names: &str, expected: u32) {
    let cases: Vec<_> = names.split_whitespace().map(|name| (name, [0, 0], expected)).collect();
    check(&cases);
}

/// Checks a number on one architecture.
#[track_caller]
fn check_number(machine: &[Architecture], architecture: u32, number: u32, expected: u32) {
    let filter = Filter::of(machine, CapabilitySet::empty());
    let call = Call { architecture, number, arguments: [0, 0] };
    assert_eq!(run(&filter.program, &call), expected, "{number} of {architecture:#x}");
}

#[test]
fn everyday_calls_go_through() {
    check_all("read execve chroot ptrace removexattrat fork waitpid mmap2 _llseek fcntl64 stat64 fstatat64", ALLOW);
    // all that `ipc` stands for
    check_all("semop semget semctl semtimedop msgsnd msgrcv msgget msgctl shmat shmdt shmget shmctl", ALLOW);
    check_all("clock_gettime64 futex_time64 setuid32 ipc arm_fadvise64_64 set_tls arch_prctl sigreturn", ALLOW);
    check(&[
        ("clone", [0x0120_0011, 0], ALLOW),
        ("clone", [0x003d_0f00, 0], ALLOW),
        ("socket", [2, 1], ALLOW),
        ("socket", [1, 1], ALLOW),
        ("ioctl", [0, 0x5401], ALLOW),
        ("personality", [0xffff_ffff, 0], ALLOW),
        ("personality", [0x2_0008, 0], ALLOW),
        ("socketcall", [18, 0], ALLOW),
    ]);
}

#[test]
fn calls_that_only_an_attack_needs_are_refused() {
    check_all("mount umount umount2 open_tree fsopen move_mount mount_setattr open_tree_attr pivot_root", EPERM);
    check_all("unshare setns io_uring_setup userfaultfd keyctl add_key request_key bpf perf_event_open", EPERM);
    check_all("open_by_handle_at kexec_load init_module vm86 vm86old uselib iopl stime clock_settime64", EPERM);
}

#[test]
fn arguments_that_only_an_attack_needs_are_refused() {
    check(&[
        // into a user namespace, a mount namespace, the latter behind 32 bits
        ("clone", [0x1000_0011, 0], EPERM),
        ("clone", [0x0002_0011, 0], EPERM),
        ("clone", [0xffff_0000_0002_0011, 0], EPERM),
        // AF_ALG, AF_VSOCK
        ("socket", [38, 5], EPERM),
        ("socket", [0x1_0000_0026, 5], EPERM),
        ("socket", [40, 1], EPERM),
        // TIOCSTI, TIOCLINUX
        ("ioctl", [0, 0x5412], EPERM),
        ("ioctl", [0, 0xdead_0000_5412], EPERM),
        ("ioctl", [0, 0x541c], EPERM),
        ("personality", [0x4_0000, 0], EPERM),
        ("personality", [0x1_0000_0000, 0], EPERM),
    ]);
}

#[test]
fn a_socket_by_socketcall_does_not_exist() {
    check(&[("socketcall", [1, 0], ENOSYS), ("socketcall", [0x1_0000_0001, 0], ENOSYS)]);
}

#[test]
fn what_the_tables_do_not_name_does_not_exist() {
    check_all("clone3", ENOSYS);
    let [x86_64, i386] = numbers::X86_64.map(|architecture| architecture.id);
    let [aarch64, arm] = numbers::AARCH64.map(|architecture| architecture.id);
    for (machine, architecture, unnamed) in [
        (MACHINES[0], x86_64, &[336, 423, 470, 0x4000_0000, 0x4000_0027, u32::MAX][..]),
        (MACHINES[0], i386, &[222, 285, 415, 470, 0x4000_0003, u32::MAX][..]),
        (MACHINES[1], aarch64, &[244, 295, 423, 470, u32::MAX][..]),
        (MACHINES[1], arm, &[7, 102, 117, 402, 470, 0xf_0000, 0xf_0007, u32::MAX][..]),
    ] {
        for &number in unnamed {
            check_number(machine, architecture, number, ENOSYS);
        }
        check_number(machine, architecture, 424, ALLOW);
    }
}

#[test]
fn a_program_of_another_architecture_is_killed() {
    for (machine, others) in [(0, 1), (1, 0)] {
        for other in MACHINES[others] {
            check_number(MACHINES[machine], other.id, 0, KILL);
        }
        // MIPS, big-endian
        check_number(MACHINES[machine], 8, 0, KILL);
    }
}

#[test]
fn a_capability_brings_its_calls_and_no_other() {
    for (capability, calls) in BROUGHT {
        for name in *calls {
            check_with(*capability, &[(name, [0x1002_0011, 0], ALLOW)]);
            let absent = if ABSENT.contains(name) { ENOSYS } else { EPERM };
            check_with(CapabilitySet::NET_ADMIN, &[(name, [0x1002_0011, 0], absent)]);
        }
    }
    check_with(
        CapabilitySet::SYS_ADMIN,
        &[
            ("socket", [38, 0], EPERM),
            ("socketcall", [1, 0], ENOSYS),
            ("init_module", [0, 0], EPERM),
            ("keyctl", [0, 0], EPERM),
        ],
    );
}

/// What the tables say of a call, without any program.
fn said(verdict: Option<&Verdict>, arguments: [u64; 2]) -> u32 {
    let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
    match verdict {
        Some(Verdict::Allow) => ALLOW,
        Some(Verdict::Errno(number)) => errno(*number),
        Some(Verdict::Kill) => KILL,
        Some(Verdict::ByArgument(check)) => {
            let argument = arguments[check.argument as usize];
            let lower = u32::try_from(argument & 0xffff_ffff).unwrap();
            let is_allowed = match check.test {
                Test::HasNoneOf(bits) => lower & bits == 0,
                Test::IsNot(values) => !values.contains(&lower),
                Test::Is(values) => values.iter().any(|value| u64::from(*value) == argument),
            };
            if is_allowed { ALLOW } else { errno(check.otherwise) }
        }
        None => ENOSYS,
    }
}

#[test]
fn the_program_says_of_every_number_what_the_tables_say() {
    let rules = rules(CapabilitySet::empty());
    for machine in MACHINES {
        let filter = Filter::of(machine, CapabilitySet::empty());
        for architecture in machine {
            let verdicts = verdicts(architecture, &rules);
            for arguments in [[0, 0], [0x1002_0011, 0x5412], [0x26, 0x541c], [0x1_0000_0001, 0x1_0000_5412]] {
                for number in (0..1000).chain(0xe_fff0..0xf_0010) {
                    let call = Call { architecture: architecture.id, number, arguments };
                    let expected = said(verdicts.get(&number), arguments);
                    assert_eq!(run(&filter.program, &call), expected, "{number} of {:#x}", architecture.id);
                }
            }
        }
    }
}

#[test]
fn the_kernel_finds_every_verdict_but_those_by_argument_without_looking_at_arguments() {
    let rules = rules(CapabilitySet::empty());
    for machine in MACHINES {
        let program = Filter::of(machine, CapabilitySet::empty()).program;
        assert!(program.len() < 300, "{}", program.len());
        for architecture in machine {
            let verdicts = verdicts(architecture, &rules);
            for number in 0..1000 {
                let steps = steps_without_arguments(&program, architecture.id, number);
                let is_by_argument = matches!(verdicts.get(&number), Some(Verdict::ByArgument(_)));
                assert_eq!(steps.is_none(), is_by_argument, "{number} of {:#x}", architecture.id);
                assert!(steps.is_none_or(|steps| steps <= 15), "{number} of {:#x}: {steps:?}", architecture.id);
            }
        }
    }
}

#[test]
fn verdicts_are_found_in_a_program_that_is_longer_than_a_jump() {
    let check = |value| Check { argument: 0, test: Test::IsNot(value), otherwise: libc::ENOSYS };
    let kinds = [Verdict::Allow, Verdict::Kill, Verdict::ByArgument(check(&[7])), Verdict::ByArgument(check(&[8]))];
    let verdicts: BTreeMap<u32, Verdict> =
        (0..1500).filter(|number| number % 5 != 4).zip(kinds.into_iter().cycle()).collect();
    let calls = |architecture| Calls { architecture, verdicts: verdicts.clone() };
    let program = program::assemble(&[calls(1), calls(2)]);
    assert!(program.len() > 1500, "{}", program.len());
    for (architecture, number) in
        [1, 2].into_iter().flat_map(|architecture| (0..1600).map(move |number| (architecture, number)))
    {
        for arguments in [[7, 0], [8, 0], [9, 0]] {
            let call = Call { architecture, number, arguments };
            assert_eq!(run(&program, &call), said(verdicts.get(&number), arguments), "{number}");
        }
    }
}

#[test]
fn names_and_numbers_are_unique_and_every_rule_has_a_call() {
    let architectures = || MACHINES.into_iter().flatten();
    for architecture in architectures() {
        let numbers: Vec<_> = architecture.numbers().collect();
        let names: BTreeSet<_> = numbers.iter().map(|(name, _)| *name).collect();
        let unique: BTreeSet<_> = numbers.iter().map(|(_, number)| *number).collect();
        assert_eq!((names.len(), unique.len()), (numbers.len(), numbers.len()), "{:#x}", architecture.id);
    }
    let free = FREE.iter().flat_map(|group| group.iter()).copied();
    let ruled: Vec<_> = free.chain(CHECKED.iter().map(|(name, _)| *name)).chain(ABSENT.iter().copied()).collect();
    assert_eq!(ruled.iter().collect::<BTreeSet<_>>().len(), ruled.len());
    for name in ruled.into_iter().chain(brought(CapabilitySet::all())) {
        assert!(architectures().any(|architecture| number(architecture, name).is_some()), "{name}");
    }
}

/// What these names mean to the C library that these tests are built with, whose list somebody else made.
#[test]
fn the_numbers_of_this_machine_are_those_of_the_c_library() {
    let here = &HERE[0];
    for (name, expected) in [
        ("read", libc::SYS_read),
        ("openat", libc::SYS_openat),
        ("clone", libc::SYS_clone),
        ("mount", libc::SYS_mount),
        ("socket", libc::SYS_socket),
        ("ioctl", libc::SYS_ioctl),
        ("personality", libc::SYS_personality),
        ("unshare", libc::SYS_unshare),
        ("bpf", libc::SYS_bpf),
        ("rseq", libc::SYS_rseq),
        ("clone3", libc::SYS_clone3),
    ] {
        assert_eq!(number(here, name).map(i64::from), Some(expected), "{name}");
    }
}

/// How many instructions the kernel runs to find that a call gets the same verdict whatever its arguments are, if it does.
fn steps_without_arguments(program: &[sock_filter], architecture: u32, number: u32) -> Option<usize> {
    let (mut loaded, mut at, mut steps) = (0, 0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        (at, steps) = (at + 1, steps + 1);
        match (code, k) {
            (0x20, 0) => loaded = number,
            (0x20, 4) => loaded = architecture,
            (0x15, _) => at += usize::from(if loaded == k { jt } else { jf }),
            (0x35, _) => at += usize::from(if loaded >= k { jt } else { jf }),
            (0x05, _) => at += k as usize,
            (0x06, _) => return Some(steps),
            _ => return None,
        }
    }
}
