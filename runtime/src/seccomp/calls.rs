//! Which system calls a container may make: docker's default for these capabilities, by name, the same on every architecture.
//!
//! | against docker's default (moby/profiles, 2026) | why |
//! |---|---|
//! | same: `ptrace`, `process_vm_*`, `landlock_*`, `seccomp`, `io_setup` | used by debuggers, sanitizers, `apt` |
//! | without `unshare` | a nested user namespace would hand `mount` back |
//! | without `mount` and its family, `setns`, `bpf`, `perf_event_open`, `io_uring_*`, `userfaultfd`, keys | attack surface |
//! | without `socketcall` for new sockets | docker leaves that to AppArmor and SELinux, which are not applied here |
//! | same: a capability beyond the default brings the calls that need it | or it would be useless |
//!
//! A name that is in `numbers/` and nowhere here is refused. Not here: what the filter answers then (`mod.rs`).

use rustix::thread::CapabilitySet;

use super::program::{Check, Test};

/// A group of calls, for one reason.
type Group = &'static [&'static str];

macro_rules! names {
    ($($name:ident)*) => { &[$(stringify!($name)),*] };
}

/// Allowed whatever the arguments are.
pub(super) const FREE: &[Group] = &[
    FILES,
    DESCRIPTORS,
    EVENTS,
    MEMORY,
    PROCESSES,
    TRACING,
    SIGNALS,
    SCHEDULING,
    IDENTITY,
    SOCKETS,
    IPC,
    TIME,
    MACHINE,
    NARROW,
    WIDE,
];

/// By path: the mount namespace decides what is there; modes, ids and capabilities decide who may.
const FILES: Group = names! {
    access chdir chmod chown chroot creat faccessat faccessat2 fchmodat fchmodat2 fchownat futimesat getcwd getxattr
    getxattrat lchown lgetxattr link linkat listmount listxattr listxattrat llistxattr lremovexattr lsetxattr lstat
    mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 readlink readlinkat removexattr
    removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat statfs statmount statx symlink symlinkat
    sync truncate umask unlink unlinkat utime utimensat utimes
};

/// By descriptor: the container holds only what it was given or opened itself.
const DESCRIPTORS: Group = names! {
    close close_range copy_file_range dup dup2 dup3 fadvise64 fallocate fchdir fchmod fchown fcntl fdatasync fgetxattr
    flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate getdents getdents64 lseek pipe pipe2 pread64
    preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile splice sync_file_range syncfs tee vmsplice
    write writev
};

/// Waiting for descriptors, and asynchronous work on them; `io_uring` is not among them.
const EVENTS: Group = names! {
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 fanotify_mark
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
    io_setup io_submit poll ppoll pselect6 select signalfd signalfd4 timerfd_create timerfd_gettime timerfd_settime
};

/// The own address space.
const MEMORY: Group = names! {
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap
    mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
};

/// Making, running and awaiting processes and threads of the own pid namespace.
const PROCESSES: Group = names! {
    execve execveat exit exit_group fork futex futex_requeue futex_wait futex_waitv futex_wake get_robust_list getpgid
    getpgrp getpid getppid getsid gettid pidfd_open prctl process_mrelease restart_syscall rseq set_robust_list
    set_tid_address setpgid setsid vfork wait4 waitid
};

/// Looking into processes, as debuggers and sanitizers do, and fencing oneself in: the kernel lets nobody look into who is
/// mightier, or widen a fence.
const TRACING: Group = names! {
    landlock_add_rule landlock_create_ruleset landlock_restrict_self process_vm_readv process_vm_writev ptrace seccomp
    uretprobe
};

/// Signals reach processes of the own pid namespace.
const SIGNALS: Group = names! {
    kill pause pidfd_send_signal rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo sigaltstack tgkill tkill
};

/// Priorities and processors; to gain any takes a capability.
const SCHEDULING: Group = names! {
    getcpu getpriority ioprio_get ioprio_set sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield setpriority
};

/// Ids, capabilities and limits: what the bounding set and the limits of the container do not hold, they do not give.
const IDENTITY: Group = names! {
    capget capset getegid geteuid getgid getgroups getresgid getresuid getrlimit getrusage getuid prlimit64 setfsgid
    setfsuid setgid setgroups setregid setresgid setresuid setreuid setrlimit setuid
};

/// What is done with a socket; whether there is one, [`CHECKED`] says. No family that is refused there makes pairs.
const SOCKETS: Group = names! {
    accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg recvmsg sendmmsg sendmsg
    sendto setsockopt shutdown socketpair
};

/// Of the own ipc namespace. `ipc` is all of System V's in one call, each of which is free.
const IPC: Group = names! {
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget
    semop semtimedop shmat shmctl shmdt shmget
};

/// Reading clocks and waiting; setting one takes a capability, also by `adjtimex`.
const TIME: Group = names! {
    adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer
    time timer_create timer_delete timer_getoverrun timer_gettime timer_settime times
};

/// What the machine is, and the registers and tables that a thread has of its own.
const MACHINE: Group = names! {
    arch_prctl breakpoint cacheflush get_thread_area getrandom modify_ldt set_thread_area set_tls sysinfo uname
};

/// Of 32-bit architectures: calls that others know by a younger name.
const NARROW: Group = names! {
    _llseek _newselect arm_fadvise64_64 arm_sync_file_range fstatat64 mmap2 recv send sigprocmask sigreturn ugetrlimit
    waitpid
};

/// Of 32-bit architectures: a call above, with wider ids, sizes or times.
const WIDE: Group = names! {
    chown32 clock_adjtime64 clock_getres_time64 clock_gettime64 clock_nanosleep_time64 fadvise64_64 fchown32 fcntl64
    fstat64 fstatfs64 ftruncate64 futex_time64 getegid32 geteuid32 getgid32 getgroups32 getresgid32 getresuid32 getuid32
    io_pgetevents_time64 lchown32 lstat64 mq_timedreceive_time64 mq_timedsend_time64 ppoll_time64 pselect6_time64
    recvmmsg_time64 rt_sigtimedwait_time64 sched_rr_get_interval_time64 semtimedop_time64 sendfile64 setfsgid32
    setfsuid32 setgid32 setgroups32 setregid32 setresgid32 setresuid32 setreuid32 setuid32 stat64 statfs64
    timer_gettime64 timer_settime64 timerfd_gettime64 timerfd_settime64 truncate64 utimensat_time64
};

/// `CLONE_NEW…`, all of them that `clone` takes.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
/// The kernel's cryptography and the channel to the machine below: AF_ALG, AF_VSOCK.
const REFUSED_FAMILIES: &[u32] = &[38, 40];
/// Typing into a terminal and what can be done to a virtual one: TIOCSTI, TIOCLINUX.
const REFUSED_IOCTLS: &[u32] = &[0x5412, 0x541c];
/// Linux or 32-bit Linux, with or without UNAME26, and the question which it is. Address space randomization stays.
const PERSONALITIES: &[u32] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed by argument; `EPERM` otherwise.
///
/// `socketcall(1, …)` makes a socket whose family is in memory, where a filter cannot look: it would be a way around
/// [`REFUSED_FAMILIES`]. Its other calls go on: C libraries of i386 accept by it. musl makes sockets by `socket`, and so does a
/// glibc that was built for Linux 4.3 or later; one built for earlier kernels, as Debian's (2.36), knows no other way and cannot
/// make sockets. That is `ENOSYS` to both: nobody falls back to a third way.
pub(super) const CHECKED: &[(&str, Check)] = &[
    ("clone", Check { argument: 0, test: Test::HasNoneOf(NAMESPACE_FLAGS), otherwise: libc::EPERM }),
    ("ioctl", Check { argument: 1, test: Test::IsNot(REFUSED_IOCTLS), otherwise: libc::EPERM }),
    ("personality", Check { argument: 0, test: Test::Is(PERSONALITIES), otherwise: libc::EPERM }),
    ("socket", Check { argument: 0, test: Test::IsNot(REFUSED_FAMILIES), otherwise: libc::EPERM }),
    ("socketcall", Check { argument: 0, test: Test::IsNot(&[1]), otherwise: libc::ENOSYS }),
];

/// Do not exist: the flags of `clone3` are in memory, where a filter cannot look. C libraries then use `clone`.
pub(super) const ABSENT: Group = names! { clone3 };

/// What a capability brings, whatever is said above. `clone`, `clone3` and `unshare` with `SYS_ADMIN` make every namespace.
pub(super) const BROUGHT: &[(CapabilitySet, Group)] = &[
    (CapabilitySet::DAC_READ_SEARCH, names! { open_by_handle_at }),
    (
        CapabilitySet::SYS_ADMIN,
        names! {
            bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree
            perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare
        },
    ),
    (CapabilitySet::SYS_BOOT, names! { reboot }),
    (CapabilitySet::SYS_MODULE, names! { delete_module finit_module init_module }),
    (CapabilitySet::SYS_PACCT, names! { acct }),
    (CapabilitySet::SYS_PTRACE, names! { kcmp pidfd_getfd process_madvise }),
    (CapabilitySet::SYS_TIME, names! { clock_settime clock_settime64 settimeofday stime }),
    (CapabilitySet::SYS_TTY_CONFIG, names! { vhangup }),
    (CapabilitySet::SYS_NICE, names! { get_mempolicy mbind set_mempolicy set_mempolicy_home_node }),
    (CapabilitySet::SYSLOG, names! { syslog }),
    (CapabilitySet::BPF, names! { bpf }),
    (CapabilitySet::PERFMON, names! { perf_event_open }),
    (CapabilitySet::SYS_RAWIO, names! { ioperm iopl }),
];
