//! The system call filters of a container: which calls are let through, and what the others get.
//!
//! | call | result |
//! |---|---|
//! | in `syscall_table.rs`, or allowed by argument below | goes on |
//! | that a capability of the container brings | goes on |
//! | any other known one | `EPERM` |
//! | `clone3`, without `SYS_ADMIN` | `ENOSYS`: its flags are in memory where a filter cannot look; C libraries then use `clone` |
//! | numbers without a meaning, or younger than the table | `ENOSYS`: a program then uses what it used before that call existed |
//! | of another architecture (32-bit programs) | the process is killed with `SIGSYS` |
//!
//! Two filters: the kernel takes the stricter result, and of two equally strict ones that of the filter installed last. So the
//! `ENOSYS` filter comes second.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use rustix::thread::CapabilitySet;

use crate::syscall_table::{BROUGHT, COMMON, GAP, LAST_KNOWN, LEGACY, RECENT, UNNAMED};

const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const REFUSED_FAMILIES: [i32; 2] = [libc::AF_ALG, libc::AF_VSOCK];
const REFUSED_IOCTLS: [u64; 2] = [0x5412, 0x541c];

/// Compiled filters, ready for the kernel.
#[derive(Debug)]
pub(crate) struct Filters {
    /// Allow or `EPERM`; installed first.
    pub(crate) allow: BpfProgram,
    /// `ENOSYS` or allow; installed second.
    pub(crate) unknown: BpfProgram,
}

impl Filters {
    /// Whether these capabilities bring no call, so that the filters are those of a container without any.
    pub(crate) fn are_usual_for(capabilities: CapabilitySet) -> bool {
        brought(capabilities).next().is_none()
    }

    /// Compiles both for a container with these capabilities.
    pub(crate) fn compile(capabilities: CapabilitySet) -> Result<Self, BackendError> {
        let arch = std::env::consts::ARCH.try_into()?;
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules(capabilities)?, refused, SeccompAction::Allow, arch)?;
        Ok(Self { allow: filter.try_into()?, unknown: unknown_calls(capabilities) })
    }
}

fn rules(capabilities: CapabilitySet) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let free = [COMMON, LEGACY, RECENT, UNNAMED].into_iter().flatten();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = free.map(|(_, number)| (*number, Vec::new())).collect();
    let no_namespace = condition(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_namespace])?]);
    let families = REFUSED_FAMILIES.map(|family| u64::from(family.unsigned_abs()));
    rules.insert(libc::SYS_socket, vec![none_of(0, &families)?]);
    rules.insert(libc::SYS_ioctl, vec![none_of(1, &REFUSED_IOCTLS)?]);
    let mut personalities = Vec::new();
    for personality in PERSONALITIES {
        let same = condition(0, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, personality)?;
        personalities.push(SeccompRule::new(vec![same])?);
    }
    rules.insert(libc::SYS_personality, personalities);
    rules.extend(brought(capabilities).map(|number| (number, Vec::new())));
    Ok(rules)
}

/// The calls that these capabilities bring. What `clone` brings replaces its rule by argument.
fn brought(capabilities: CapabilitySet) -> impl Iterator<Item = i64> {
    let held = BROUGHT.iter().filter(move |(capability, _)| capabilities.contains(*capability));
    held.flat_map(|(_, calls)| calls.iter().map(|(_, number)| *number))
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, length, operator, value)
}

/// A rule that lets a call through when its `argument`, of 32 bits to the kernel, is none of `values`.
fn none_of(argument: u8, values: &[u64]) -> Result<SeccompRule, BackendError> {
    let differs = |value: &u64| condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value);
    SeccompRule::new(values.iter().map(differs).collect::<Result<_, _>>()?)
}

/// `ENOSYS` for numbers that nobody knows, and for `clone3` unless a capability brings it. Foreign architectures are the other
/// filter's to kill.
fn unknown_calls(capabilities: CapabilitySet) -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_GREATER: u16 = 0x25;
    const JUMP_IF_GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).expect("a system call number is small");
    let refuses_clone3 = if brought(capabilities).any(|number| number == libc::SYS_clone3) { 0 } else { 4 };
    vec![
        instruction(LOAD_NUMBER, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, refuses_clone3, 0, clone3),
        instruction(JUMP_IF_GREATER, 3, 0, LAST_KNOWN),
        instruction(JUMP_IF_GREATER_OR_EQUAL, 0, 1, *GAP.start()),
        instruction(JUMP_IF_GREATER, 0, 1, *GAP.end()),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter on a call as the kernel does; enough of BPF for what these filters use.
    fn run(program: &BpfProgram, number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(u32::try_from(number).unwrap().to_ne_bytes());
        data.extend(audit_arch().to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        arguments.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let instruction = &program[at];
            at += 1;
            let taken = match instruction.code {
                0x20 => {
                    let offset = instruction.k as usize;
                    accumulator = u32::from_ne_bytes(data[offset..offset + 4].try_into().unwrap());
                    continue;
                }
                0x05 => {
                    at += instruction.k as usize;
                    continue;
                }
                0x54 => {
                    accumulator &= instruction.k;
                    continue;
                }
                0x06 => return instruction.k,
                0x15 => accumulator == instruction.k,
                0x25 => accumulator > instruction.k,
                0x35 => accumulator >= instruction.k,
                other => panic!("no BPF instruction {other:#x} expected"),
            };
            at += usize::from(if taken { instruction.jt } else { instruction.jf });
        }
    }

    fn audit_arch() -> u32 {
        if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 }
    }

    fn errno(number: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | number.unsigned_abs()
    }

    /// What the kernel makes of both filters for one call.
    fn verdict(number: i64, first: u64, second: u64) -> u32 {
        verdict_with(CapabilitySet::empty(), number, first, second)
    }

    fn verdict_with(capabilities: CapabilitySet, number: i64, first: u64, second: u64) -> u32 {
        let filters = Filters::compile(capabilities).unwrap();
        let arguments = [first, second, 0, 0, 0, 0];
        let unknown = run(&filters.unknown, number, arguments);
        if unknown == libc::SECCOMP_RET_ALLOW { run(&filters.allow, number, arguments) } else { unknown }
    }

    fn check(cases: &[(&str, i64, u64, u64, u32)]) {
        for (name, number, first, second, expected) in cases {
            assert_eq!(verdict(*number, *first, *second), *expected, "{name}");
        }
    }

    #[test]
    fn everyday_calls_go_through() {
        let ok = libc::SECCOMP_RET_ALLOW;
        check(&[
            ("read", libc::SYS_read, 0, 0, ok),
            ("execve", libc::SYS_execve, 0, 0, ok),
            ("chroot", libc::SYS_chroot, 0, 0, ok),
            ("ptrace", libc::SYS_ptrace, 0, 0, ok),
            ("removexattrat", 466, 0, 0, ok),
            ("fork by clone", libc::SYS_clone, 0x0120_0011, 0, ok),
            ("thread by clone", libc::SYS_clone, 0x003d_0f00, 0, ok),
            ("inet socket", libc::SYS_socket, 2, 1, ok),
            ("unix socket", libc::SYS_socket, 1, 1, ok),
            ("terminal ioctl", libc::SYS_ioctl, 0, 0x5401, ok),
            ("query personality", libc::SYS_personality, 0xffff_ffff, 0, ok),
        ]);
    }

    #[test]
    fn calls_that_only_an_attack_needs_are_refused() {
        let no = errno(libc::EPERM);
        check(&[
            ("mount", libc::SYS_mount, 0, 0, no),
            ("umount2", libc::SYS_umount2, 0, 0, no),
            ("open_tree", libc::SYS_open_tree, 0, 0, no),
            ("fsopen", libc::SYS_fsopen, 0, 0, no),
            ("move_mount", libc::SYS_move_mount, 0, 0, no),
            ("mount_setattr", libc::SYS_mount_setattr, 0, 0, no),
            ("open_tree_attr", 467, 0, 0, no),
            ("pivot_root", libc::SYS_pivot_root, 0, 0, no),
            ("unshare", libc::SYS_unshare, 0x1000_0000, 0, no),
            ("setns", libc::SYS_setns, 0, 0, no),
            ("clone into a user namespace", libc::SYS_clone, 0x1000_0011, 0, no),
            ("clone into a mount namespace", libc::SYS_clone, 0x0002_0011, 0, no),
            ("AF_ALG", libc::SYS_socket, 38, 5, no),
            ("AF_ALG behind 32 bits", libc::SYS_socket, 0x1_0000_0026, 5, no),
            ("AF_VSOCK", libc::SYS_socket, 40, 1, no),
            ("TIOCSTI", libc::SYS_ioctl, 0, 0x5412, no),
            ("TIOCSTI behind 32 bits", libc::SYS_ioctl, 0, 0xdead_0000_5412, no),
            ("TIOCLINUX", libc::SYS_ioctl, 0, 0x541c, no),
            ("io_uring_setup", libc::SYS_io_uring_setup, 0, 0, no),
            ("userfaultfd", libc::SYS_userfaultfd, 0, 0, no),
            ("keyctl", libc::SYS_keyctl, 0, 0, no),
            ("add_key", libc::SYS_add_key, 0, 0, no),
            ("request_key", libc::SYS_request_key, 0, 0, no),
            ("bpf", libc::SYS_bpf, 0, 0, no),
            ("perf_event_open", libc::SYS_perf_event_open, 0, 0, no),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, 0, 0, no),
            ("kexec_load", libc::SYS_kexec_load, 0, 0, no),
            ("init_module", libc::SYS_init_module, 0, 0, no),
            ("personality without randomization", libc::SYS_personality, 0x4_0000, 0, no),
        ]);
    }

    #[test]
    fn what_the_table_does_not_know_does_not_exist() {
        let none = errno(libc::ENOSYS);
        check(&[
            ("clone3", libc::SYS_clone3, 0, 0, none),
            ("the next call", i64::from(LAST_KNOWN) + 1, 0, 0, none),
            ("x32", 0x4000_0000, 0, 0, none),
            ("the gap's start", i64::from(*GAP.start()), 0, 0, none),
            ("the gap's end", i64::from(*GAP.end()), 0, 0, none),
        ]);
        assert_eq!(verdict(424, 0, 0), libc::SECCOMP_RET_ALLOW, "pidfd_send_signal, first behind the gap");
    }

    #[test]
    fn a_capability_brings_its_calls_and_no_other() {
        let (ok, no) = (libc::SECCOMP_RET_ALLOW, errno(libc::EPERM));
        for (capability, calls) in BROUGHT {
            for (name, number) in *calls {
                assert_eq!(verdict_with(*capability, *number, 0x1002_0011, 0), ok, "{name}");
                assert_ne!(verdict_with(CapabilitySet::NET_ADMIN, *number, 0x1002_0011, 0), ok, "{name}");
            }
        }
        let admin = |number, first| verdict_with(CapabilitySet::SYS_ADMIN, number, first, 0);
        assert_eq!(admin(libc::SYS_socket, 38), no, "AF_ALG");
        assert_eq!(admin(libc::SYS_init_module, 0), no);
        assert_eq!(admin(libc::SYS_keyctl, 0), no);
        assert_eq!(admin(i64::from(LAST_KNOWN) + 1, 0), errno(libc::ENOSYS));
    }

    #[test]
    fn no_call_is_listed_twice() {
        let names: Vec<&str> = [COMMON, LEGACY, RECENT, UNNAMED].into_iter().flatten().map(|(name, _)| *name).collect();
        let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len());
    }

    #[test]
    fn a_program_of_another_architecture_is_killed() {
        let filters = Filters::compile(CapabilitySet::empty()).unwrap();
        assert!(filters.allow.len() < 4096);
        let last = &filters.allow[2];
        assert_eq!((last.code, last.k), (0x06, libc::SECCOMP_RET_KILL_PROCESS));
    }
}
