//! Process 1 of a container with `--init`: starts the command, passes every signal on to it, reaps what is orphaned, and exits
//! with the command's code. `/sbin/docker-init -- COMMAND [ARGUMENT]...`
//!
//! - A static program of a few kilobytes without a C library: system calls, and nothing that can panic.
//! - All signals are blocked and taken by `rt_sigtimedwait`, so none is lost before the command runs.
//! - The command gets a process group of its own, in the foreground of its terminal if it has one.
//! - Exit codes: the command's, 128 + n for signal n, 127 when it is not there, 126 when it cannot be run.

#![no_std]
#![no_main]
#![no_builtins]
#![expect(unsafe_code, reason = "it is made of system calls on what the kernel passes to a program")]

use core::arch::{asm, global_asm};

/// Searched when the environment has no `PATH`, as by the runtime.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";
const LONGEST_PATH: usize = 4096;

const NOT_FOUND: usize = 127;
const NOT_RUN: usize = 126;

const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOTDIR: isize = -20;

const ALL_SIGNALS: u64 = u64::MAX;
const SIGCHLD: usize = 17;
const SIG_SETMASK: usize = 2;
const WNOHANG: usize = 1;
const TIOCSPGRP: usize = 0x5410;

#[cfg(target_arch = "x86_64")]
mod call {
    pub(crate) const WRITE: usize = 1;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXECVE: usize = 59;
    pub(crate) const WAIT4: usize = 61;
    pub(crate) const KILL: usize = 62;
    pub(crate) const SETPGID: usize = 109;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 128;
    pub(crate) const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod call {
    pub(crate) const IOCTL: usize = 29;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const KILL: usize = 129;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const RT_SIGTIMEDWAIT: usize = 137;
    pub(crate) const SETPGID: usize = 154;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const CLONE: usize = 220;
    pub(crate) const EXECVE: usize = 221;
    pub(crate) const WAIT4: usize = 260;
}

// the kernel starts a program with the stack pointer at argc
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "mov rdi, rsp", "and rsp, -16", "call {main}", "ud2", main = sym main);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x0, sp", "bl {main}", "brk #1", main = sym main);

/// Makes a system call.
///
/// # Safety
///
/// The arguments must be what the call takes; pointers among them valid for it.
#[cfg(target_arch = "x86_64")]
unsafe fn system_call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel keeps every register but these; what it does with the arguments is the caller's promise. The fifth
    // argument, which only clone looks at, is zero.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// Makes a system call.
///
/// # Safety
///
/// The arguments must be what the call takes; pointers among them valid for it.
#[cfg(target_arch = "aarch64")]
unsafe fn system_call(number: usize, [a, b, c, d]: [usize; 4]) -> isize {
    let result;
    // SAFETY: the kernel keeps every register but x0; what it does with the arguments is the caller's promise. The fifth
    // argument, which only clone looks at, is zero.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") 0,
             options(nostack));
    }
    result
}

/// A NULL-terminated array of C strings, as the kernel put it above the stack.
type Strings = *const *const u8;

/// What the program is started with.
///
/// # Safety
///
/// `stack` must be the stack pointer at the start: argc, the arguments, NULL, the environment, NULL.
unsafe extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: as the kernel laid it out; argc arguments and a NULL stand before the environment.
    let (arguments, environment): (Strings, Strings) = unsafe {
        let argc = *stack;
        (stack.add(1).cast(), stack.add(argc + 2).cast())
    };
    // SAFETY: the array ends with NULL, and both words are looked at only if they are there.
    let command = unsafe { command(arguments) };
    let Some(command) = command else { fail(b"docker-init: usage: docker-init -- COMMAND [ARGUMENT]...\n", NOT_FOUND) };
    let before = set_signal_mask(ALL_SIGNALS);
    // SAFETY: clone with nothing but the exit signal is fork: no pointer is passed.
    match unsafe { system_call(call::CLONE, [SIGCHLD, 0, 0, 0]) } {
        0 => become_command(command, environment, before),
        child if child > 0 => supervise(child),
        _ => fail(b"docker-init: cannot start a process\n", NOT_RUN),
    }
}

/// Finds the command after `--`.
///
/// # Safety
///
/// `arguments` must be an array of C strings that ends with NULL.
unsafe fn command(arguments: Strings) -> Option<Strings> {
    // SAFETY: nothing behind the first NULL is read.
    unsafe {
        if (*arguments).is_null() {
            return None;
        }
        let mut first = arguments.add(1);
        if !(*first).is_null() && equals(*first, b"--\0") {
            first = first.add(1);
        }
        if (*first).is_null() { None } else { Some(first) }
    }
}

/// Whether a C string is this one, whose NUL is written out.
///
/// # Safety
///
/// `string` must be a C string.
unsafe fn equals(string: *const u8, expected: &[u8]) -> bool {
    // SAFETY: the first byte that differs ends it, at the latest the NUL.
    expected.iter().enumerate().all(|(at, byte)| unsafe { *string.add(at) } == *byte)
}

/// Sets the signal mask and returns the one before.
fn set_signal_mask(mask: u64) -> u64 {
    let mut before = 0_u64;
    // SAFETY: both point to 64 bits that live through the call, and 8 is their size in bytes.
    unsafe { system_call(call::RT_SIGPROCMASK, [SIG_SETMASK, &raw const mask as usize, &raw mut before as usize, 8]) };
    before
}

fn become_command(command: Strings, environment: Strings, mask: u64) -> ! {
    // SAFETY: the last call reads the number of the own group; without a terminal it fails, as it may. SIGTTOU is blocked.
    unsafe {
        system_call(call::SETPGID, [0; 4]);
        let group = system_call(call::GETPID, [0; 4]) as i32;
        system_call(call::IOCTL, [0, TIOCSPGRP, &raw const group as usize, 0]);
    }
    set_signal_mask(mask);
    let error = execute(command, environment);
    // SAFETY: the command is there, as a C string.
    let name = unsafe { *command };
    write(b"docker-init: cannot run `");
    // SAFETY: as above.
    unsafe { write_string(name) };
    let is_missing = error == ENOENT || error == ENOTDIR;
    let (why, code): (&[u8], _) = match error {
        _ if is_missing => (b"`: no such file\n", NOT_FOUND),
        EACCES => (b"`: permission denied\n", NOT_RUN),
        _ => (b"`: it could not be executed\n", NOT_RUN),
    };
    fail(why, code)
}

/// Runs the command as `execvp` does: a missing candidate is skipped, a forbidden one remembered, anything else is final.
fn execute(command: Strings, environment: Strings) -> isize {
    // SAFETY: the command is there, as a C string.
    let name = unsafe { *command };
    // SAFETY: as above.
    if unsafe { find(name, b'/') }.is_some() {
        return execute_path(name, command, environment);
    }
    let mut rest = search_path(environment);
    let mut outcome = ENOENT;
    loop {
        // SAFETY: `rest` is a C string, of which a part up to a colon or the NUL is taken.
        let (directory, length, ends) = unsafe {
            let colon = find(rest, b':');
            let length = match colon {
                Some(length) => length,
                None => length_of(rest),
            };
            (rest, length, colon.is_none())
        };
        match execute_in(directory, length, (name, command, environment)) {
            ENOENT | ENOTDIR => (),
            EACCES => outcome = EACCES,
            error => return error,
        }
        if ends {
            return outcome;
        }
        // SAFETY: a colon stands there, so the string goes on behind it.
        rest = unsafe { rest.add(length + 1) };
    }
}

/// Runs `directory/name`; an empty directory is the working directory.
fn execute_in(
    directory: *const u8,
    length: usize,
    (name, command, environment): (*const u8, Strings, Strings),
) -> isize {
    let mut path = core::mem::MaybeUninit::<[u8; LONGEST_PATH]>::uninit();
    let start = path.as_mut_ptr().cast::<u8>();
    // SAFETY: the length is checked before anything is written: both parts, a slash, a dot and the NUL fit.
    unsafe {
        let name_length = length_of(name);
        if length + name_length + 3 > LONGEST_PATH {
            return ENOENT;
        }
        let mut at = start;
        if length == 0 {
            at = append(at, b".".as_ptr(), 1);
        }
        at = append(at, directory, length);
        at = append(at, b"/".as_ptr(), 1);
        append(at, name, name_length + 1);
    }
    execute_path(start, command, environment)
}

/// Copies bytes and returns the place behind them.
///
/// # Safety
///
/// `length` bytes must be readable at `from`, and writable at `to`.
unsafe fn append(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    let mut at = 0;
    while at < length {
        // SAFETY: within the length that the caller vouches for.
        unsafe { *to.add(at) = *from.add(at) };
        at += 1;
    }
    // SAFETY: at most one behind what is writable.
    unsafe { to.add(length) }
}

fn execute_path(path: *const u8, command: Strings, environment: Strings) -> isize {
    // SAFETY: a C string and two NULL-terminated arrays of C strings.
    unsafe { system_call(call::EXECVE, [path as usize, command as usize, environment as usize, 0]) }
}

fn search_path(environment: Strings) -> *const u8 {
    const NAME: &[u8] = b"PATH=";
    let mut entry = environment;
    // SAFETY: nothing behind the NULL is read, and a string is read up to the first byte that differs.
    unsafe {
        while !(*entry).is_null() {
            if NAME.iter().enumerate().all(|(at, byte)| *(*entry).add(at) == *byte) {
                return (*entry).add(NAME.len());
            }
            entry = entry.add(1);
        }
    }
    DEFAULT_PATH.as_ptr()
}

/// Where a byte first stands in a C string.
///
/// # Safety
///
/// `string` must be a C string.
unsafe fn find(string: *const u8, wanted: u8) -> Option<usize> {
    let mut at = 0;
    loop {
        // SAFETY: nothing behind the NUL is read.
        match unsafe { *string.add(at) } {
            byte if byte == wanted => return Some(at),
            0 => return None,
            _ => at += 1,
        }
    }
}

/// # Safety
///
/// `string` must be a C string.
unsafe fn length_of(string: *const u8) -> usize {
    // SAFETY: every C string has a NUL.
    unsafe { find(string, 0) }.unwrap_or(0)
}

/// Passes signals on to the command and reaps children until the command has ended.
fn supervise(command: isize) -> ! {
    loop {
        let all = ALL_SIGNALS;
        // SAFETY: the set lives through the call; nobody asks for details, and no time limit is given.
        match unsafe { system_call(call::RT_SIGTIMEDWAIT, [&raw const all as usize, 0, 0, 8]) } {
            signal if signal == SIGCHLD as isize => reap(command),
            // SAFETY: takes no pointer. A command that has just ended needs no signal.
            signal if signal > 0 => drop(unsafe { system_call(call::KILL, [command as usize, signal as usize, 0, 0]) }),
            _ => (),
        }
    }
}

/// Reaps every child that has ended; exits if the command is among them.
fn reap(command: isize) {
    loop {
        let mut status = 0_i32;
        // SAFETY: the status is written to a place that lives through the call.
        let ended = unsafe { system_call(call::WAIT4, [usize::MAX, &raw mut status as usize, WNOHANG, 0]) };
        if ended <= 0 {
            return;
        }
        if ended == command {
            let signal = status & 0x7f;
            exit(if signal == 0 { (status >> 8 & 0xff) as usize } else { 128 + signal as usize });
        }
    }
}

fn write(text: &[u8]) {
    // SAFETY: the bytes are there.
    unsafe { system_call(call::WRITE, [2, text.as_ptr() as usize, text.len(), 0]) };
}

/// # Safety
///
/// `string` must be a C string.
unsafe fn write_string(string: *const u8) {
    // SAFETY: its bytes up to the NUL.
    unsafe { system_call(call::WRITE, [2, string as usize, length_of(string), 0]) };
}

fn fail(message: &[u8], code: usize) -> ! {
    write(message);
    exit(code)
}

fn exit(code: usize) -> ! {
    loop {
        // SAFETY: does not return.
        unsafe { system_call(call::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(NOT_RUN)
}
