//! The system calls of the executor that need `unsafe`. Everything else goes through `rustix`.
//!
//! The functions marked *child* are called between `clone3` and `execve`, in a copy of a process whose other threads are gone:
//! they neither allocate nor take a lock, and no destructor or panic handler runs there.

#![expect(unsafe_code, reason = "namespaces, processes and filters have no safe interface")]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{io, ptr};

use libc::sock_filter;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Waits for children whatever their exit signal is.
pub(crate) const WAIT: WaitIdOptions =
    WaitIdOptions::EXITED.union(WaitIdOptions::from_bits_retain(libc::__WALL.cast_unsigned()));

/// A NULL-terminated array of C strings, as `execve` wants it.
pub(crate) struct CStringArray {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

// SAFETY: the pointers are into the strings beside them, which nobody changes; a CString's bytes do not move when it does.
unsafe impl Send for CStringArray {}
// SAFETY: as above; there is no way to change anything through a shared reference.
unsafe impl Sync for CStringArray {}

impl CStringArray {
    pub(crate) fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

impl std::fmt::Debug for CStringArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self._strings).finish()
    }
}

/// The caller's `errno`. *child*
fn errno() -> Errno {
    // SAFETY: returns the address of this thread's errno, always valid.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}

fn result(value: c_long) -> Result<c_long, Errno> {
    if value < 0 { Err(errno()) } else { Ok(value) }
}

/// Moves the calling thread (and, where the kernel says so, the process) into new namespaces. *child*
pub(crate) fn unshare(flags: c_int) -> Result<(), Errno> {
    // SAFETY: takes no pointer. CLONE_FILES, which could invalidate descriptors of other threads, is never passed.
    result(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Forks a process that runs `body` and exits with what it returns; returns its pid.
///
/// Only for single-threaded processes: then the copy may allocate.
pub(crate) fn fork_single_threaded(body: impl FnOnce() -> c_int) -> Result<libc::pid_t, Errno> {
    // SAFETY: with no other thread, no lock can be held by one that the copy lacks.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            let code = body();
            exit_now(code)
        }
        pid if pid > 0 => Ok(pid),
        _ => Err(errno()),
    }
}

/// Forks the calling thread alone into a process that runs `body` and ends; returns a handle to it.
///
/// `body` runs under the *child* rules.
pub(crate) fn fork_bare(body: impl FnOnce()) -> Result<OwnedFd, Errno> {
    fork(libc::CLONE_PIDFD, None, body).map(|(handle, _)| handle)
}

/// Forks a child that is made in new namespaces and as a member of `cgroup`, one of version 2; its end is told by `SIGCHLD`. *child*
///
/// Returns a handle to it and its number. `body` runs under the *child* rules.
pub(crate) fn fork_child(
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce(),
) -> Result<(OwnedFd, libc::pid_t), Errno> {
    fork(namespaces | libc::CLONE_PIDFD | libc::SIGCHLD, cgroup, body)
}

/// `flags` hold the exit signal, as those of `clone` do.
fn fork(flags: c_int, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce()) -> Result<(OwnedFd, libc::pid_t), Errno> {
    let mut handle: RawFd = -1;
    let mut arguments = clone_arguments(flags & !libc::CSIGNAL, &mut handle, cgroup);
    arguments[4] = u64::from((flags & libc::CSIGNAL).cast_unsigned());
    // SAFETY: the arguments are a clone_args of this size; without CLONE_VM the child has its own copy of this stack.
    match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) } {
        0 => {
            body();
            exit_now(1)
        }
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        pid if pid > 0 => Ok((unsafe { OwnedFd::from_raw_fd(handle) }, libc::pid_t::try_from(pid).unwrap_or(0))),
        _ => Err(errno()),
    }
}

/// `struct clone_args` with these flags, the place for a pidfd, no exit signal, and the cgroup to be made in.
fn clone_arguments(flags: c_int, handle: &mut RawFd, cgroup: Option<BorrowedFd<'_>>) -> [u64; 11] {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut arguments = [0_u64; 11];
    arguments[0] = u64::from(flags.cast_unsigned());
    arguments[1] = ptr::from_mut(handle).expose_provenance() as u64;
    if let Some(cgroup) = cgroup {
        arguments[0] |= CLONE_INTO_CGROUP;
        arguments[10] = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    arguments
}

/// Stack for [`clone_in_nested_namespace`].
pub(crate) struct Stack(Vec<u128>);

impl Stack {
    pub(crate) fn new() -> Self {
        Self(vec![0; 512 * 1024 / size_of::<u128>()])
    }
}

struct Launch<'a> {
    flags: c_int,
    cgroup: Option<BorrowedFd<'a>>,
    body: &'a mut dyn FnMut(),
    handle: RawFd,
    error: Option<Errno>,
}

/// A process that shares the memory of this one; dropped, it is killed and reaped.
///
/// It costs neither a copy of the page tables nor this process every page that it writes to afterwards once more.
pub(crate) struct Companion {
    handle: OwnedFd,
    _stack: Stack,
    _start: Box<Start>,
}

struct Start {
    body: fn(RawFd),
    descriptor: RawFd,
}

impl Companion {
    /// Starts `body` with a descriptor, which the new process has in a table of its own.
    ///
    /// It has the calling thread's thread-local storage too: it runs under the *child* rules, and uses nothing that has state there,
    /// as failing or cancellable calls of the C library have. Signals are blocked by the caller.
    pub(crate) fn start(descriptor: BorrowedFd<'_>, body: fn(RawFd)) -> Result<Self, Errno> {
        let mut stack = Stack::new();
        let mut start = Box::new(Start { body, descriptor: descriptor.as_raw_fd() });
        let top = stack.0.as_mut_ptr_range().end;
        let flags = libc::CLONE_VM | libc::CLONE_PIDFD;
        let mut handle: RawFd = -1;
        // SAFETY: `top` is the aligned end of a stack nobody else uses; that and `start` live in what is returned, which reaps the
        // process before it frees them.
        let pid = unsafe {
            libc::clone(run_companion, top.cast(), flags, ptr::from_mut(&mut *start).cast(), &raw mut handle)
        };
        if pid < 0 {
            return Err(errno());
        }
        // SAFETY: the kernel stored a new descriptor that nobody else owns.
        Ok(Self { handle: unsafe { OwnedFd::from_raw_fd(handle) }, _stack: stack, _start: start })
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        let _already_dead = pidfd_send_signal(&self.handle, Signal::KILL);
        while matches!(waitid(WaitId::PidFd(self.handle.as_fd()), WAIT), Err(Errno::INTR)) {}
    }
}

extern "C" fn run_companion(start: *mut c_void) -> c_int {
    // SAFETY: the pointer that `Companion::start` passed, to what outlives this process.
    let start = unsafe { &*start.cast::<Start>() };
    (start.body)(start.descriptor);
    0
}

/// Starts `body` as the init of a new pid namespace below the calling thread's `pid_for_children`, and as a child of this process.
///
/// `clone(CLONE_NEWPID)` works only from inside the parent pid namespace. So a short-lived helper is made there, sharing memory and
/// descriptors with the calling thread, which the kernel suspends meanwhile; it makes the init as its sibling (`CLONE_PARENT`) and
/// ends. It is made as a member of `cgroup`, one of version 2. `body` runs under the *child* rules, in its own copy of the memory.
pub(crate) fn clone_in_nested_namespace(
    stack: &mut Stack,
    namespaces: c_int,
    cgroup: Option<BorrowedFd<'_>>,
    body: &mut dyn FnMut(),
) -> Result<OwnedFd, Errno> {
    let mut launch = Launch { flags: namespaces | libc::CLONE_NEWPID, cgroup, body, handle: -1, error: None };
    let top = stack.0.as_mut_ptr_range().end;
    let sharing = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    // SAFETY: `top` is the aligned end of a stack nobody else uses; `launch` outlives the helper because CLONE_VFORK suspends this
    // thread until it has ended, which also makes its writes to shared memory exclusive. Signals are blocked by the caller.
    let helper = unsafe { libc::clone(launch_helper, top.cast(), sharing, ptr::from_mut(&mut launch).cast()) };
    if helper < 0 {
        return Err(errno());
    }
    let mut status = 0;
    // SAFETY: `status` is valid; `helper` is our child and not reaped yet.
    while unsafe { libc::waitpid(helper, &raw mut status, libc::__WALL) } < 0 && errno() == Errno::INTR {}
    match launch.error {
        Some(error) => Err(error),
        // SAFETY: the kernel stored a new descriptor in the shared table; nobody else owns it.
        None if launch.handle >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(launch.handle) }),
        None => Err(Errno::CHILD),
    }
}

extern "C" fn launch_helper(launch: *mut c_void) -> c_int {
    // SAFETY: the pointer that `clone_in_nested_namespace` passed; its thread is suspended.
    let launch = unsafe { &mut *launch.cast::<Launch<'_>>() };
    let flags = launch.flags | libc::CLONE_PARENT | libc::CLONE_PIDFD;
    let arguments = clone_arguments(flags, &mut launch.handle, launch.cgroup);
    // SAFETY: the arguments are a clone_args of this size; without CLONE_VM the child has its own copy of memory and stack.
    match unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) } {
        0 => {
            (launch.body)();
            exit_now(1)
        }
        pid if pid > 0 => 0,
        _ => {
            launch.error = Some(errno());
            1
        }
    }
}

/// Ends the process at once: no handler, no destructor. *child*
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

/// Blocks every signal of the calling thread, or none. *child*
pub(crate) fn block_signals(block: Block) {
    // SAFETY: an all-zero sigset_t is a valid one, and both calls only write to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        match block {
            Block::All => libc::sigfillset(&raw mut set),
            Block::None => libc::sigemptyset(&raw mut set),
        };
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Opens a handle that is readable while `signal`, which must be blocked, is pending. *child*
pub(crate) fn signal_handle(signal: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: an all-zero sigset_t is a valid one, which is filled and then only read; the kernel's new descriptor is nobody else's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut set, signal);
        let handle = result(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(RawFd::try_from(handle).unwrap_or(-1)))
    }
}

/// Ends the process by a signal that is at its default, before any other that is pending. *child*
pub(crate) fn end_by(signal: c_int) -> ! {
    // SAFETY: an all-zero sigset_t is a valid one; the calls only write to it, or read it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigdelset(&raw mut set, signal);
        libc::kill(libc::getpid(), signal);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
    exit_now(128 + signal)
}

/// Which signals to block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Block {
    All,
    None,
}

/// Puts every signal back to its default, also those that the C library keeps for itself. *child*
pub(crate) fn reset_signals() {
    // handler, flags, restorer, mask of the kernel's own struct sigaction: all zero is SIG_DFL
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the array is as large as the kernel's struct; KILL and STOP fail harmlessly.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<c_void>(), 8_usize) };
    }
}

/// Changes the attributes of a mount, and of those below it if `recursive` is set. *child*
pub(crate) fn restrict_mount(mount: BorrowedFd<'_>, attributes: u64, reach: Reach) -> Result<(), Errno> {
    change_mount(mount, (attributes, 0), reach)
}

/// Sets some attributes of a mount and clears others. *child*
pub(crate) fn change_mount(mount: BorrowedFd<'_>, (set, clear): (u64, u64), reach: Reach) -> Result<(), Errno> {
    // struct mount_attr: set, clear, propagation, user namespace
    let change = [set, clear, 0, 0];
    let flags = match reach {
        Reach::Mount => libc::AT_EMPTY_PATH,
        Reach::Tree => libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
    };
    // SAFETY: the path is a C string, the struct has the size that is passed.
    let done = unsafe {
        let call = libc::SYS_mount_setattr;
        libc::syscall(call, mount.as_raw_fd(), c"".as_ptr(), flags, change.as_ptr(), size_of_val(&change))
    };
    result(done).map(drop)
}

/// What [`restrict_mount`] reaches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    Mount,
    Tree,
}

/// Opens `path` below `root`, with links resolved as if `root` were `/`. *child*
pub(crate) fn open_in_root<P: Arg + Copy>(root: impl AsFd, path: P, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // a rename or mount elsewhere on the system raced with a `..`
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Fails with `EXDEV` when the working directory is not below the root. *child*
pub(crate) fn check_reachable() -> Result<(), Errno> {
    let mut path = [0_u8; 4096];
    // SAFETY: the kernel writes at most the length that is passed.
    result(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    if path.first() == Some(&b'/') { Ok(()) } else { Err(Errno::XDEV) }
}

/// Closes every descriptor from `first` to `last`. *child*
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: descriptors are closed that the caller does not use any more; it never returns to code that owns one.
    result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Closes every descriptor but the standard streams and those that are `kept`, which ascend. *child*
pub(crate) fn close_all_but(kept: &[u32]) -> Result<(), Errno> {
    let mut first = 3;
    for kept in kept {
        if *kept > first {
            close_range(first, *kept - 1)?;
        }
        first = first.max(*kept + 1);
    }
    close_range(first, u32::MAX)
}

/// Closes one descriptor of a forked copy, whose owner never runs there.
pub(crate) fn close_one(number: RawFd) {
    // SAFETY: the owner of the number in this copy of memory is never used or dropped: the process ends by `_exit`.
    unsafe { libc::close(number) };
}

/// Makes `target` a copy of `source`: inheritable for `target` ≤ 2, else close-on-exec. *child*
pub(crate) fn duplicate(source: BorrowedFd<'_>, target: RawFd) -> Result<(), Errno> {
    if source.as_raw_fd() == target {
        return Ok(());
    }
    let flags = if target <= 2 { 0 } else { libc::O_CLOEXEC };
    // SAFETY: whatever `target` was is given up on purpose; its owner in this copy of memory never runs again.
    result(unsafe { libc::dup3(source.as_raw_fd(), target, flags) }.into()).map(drop)
}

/// A borrow of a descriptor by number. *child*
pub(crate) fn borrow(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: used for standard streams, for the one descriptor that the child put there and that is open until `execve`, and for
    // the one that a companion got.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Sets `lo` up in the calling process' network namespace. *child*
pub(crate) fn raise_loopback() -> Result<(), Errno> {
    let kind = rustix::net::SocketType::DGRAM;
    let socket =
        rustix::net::socket_with(rustix::net::AddressFamily::INET, kind, rustix::net::SocketFlags::CLOEXEC, None)?;
    // IFF_UP | IFF_RUNNING
    const UP_AND_RUNNING: libc::c_short = 0x41;
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed() as c_char;
    }
    request.ifr_ifru.ifru_flags = UP_AND_RUNNING;
    // SAFETY: SIOCSIFFLAGS reads an ifreq; this one lives through the call.
    result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Installs a filter for the calling thread. *child*
pub(crate) fn install_filter(program: &[sock_filter]) -> Result<(), Errno> {
    let Ok(length) = u16::try_from(program.len()) else { return Err(Errno::INVAL) };
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel only reads the `len` instructions.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_usize, &raw const program) };
    result(done).map(drop)
}

/// Runs `path` in place of this program; returns only if that fails. *child*
pub(crate) fn execute(path: &CStr, args: &CStringArray, env: &CStringArray) -> Errno {
    // SAFETY: a C string and two NULL-terminated arrays of C strings.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    errno()
}

/// Sends any signal, also a real-time one, to the process behind a handle.
pub(crate) fn send_signal(process: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: no pointer but NULL for "as kill does".
    let sent = unsafe {
        let call = libc::SYS_pidfd_send_signal;
        libc::syscall(call, process.as_raw_fd(), signal, ptr::null::<c_void>(), 0_u32)
    };
    result(sent).map(drop).map_err(io::Error::from)
}

/// Moves a descriptor out of the range of the standard streams.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 {
        return Ok(descriptor);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(descriptor.as_fd(), 3)?)
}
