//! The system calls that several architectures number alike: every call since Linux 5.1.

use super::{Number, numbers};

/// Of 32-bit architectures: the calls with 64-bit times.
pub(crate) const TIME64: &[Number] = numbers! {
    clock_gettime64 403, clock_settime64 404, clock_adjtime64 405, clock_getres_time64 406,
    clock_nanosleep_time64 407, timer_gettime64 408, timer_settime64 409, timerfd_gettime64 410,
    timerfd_settime64 411, utimensat_time64 412, pselect6_time64 413, ppoll_time64 414, io_pgetevents_time64 416,
    recvmmsg_time64 417, mq_timedsend_time64 418, mq_timedreceive_time64 419, semtimedop_time64 420,
    rt_sigtimedwait_time64 421, futex_time64 422, sched_rr_get_interval_time64 423,
};

/// Of every architecture. The last is the youngest that was looked at: `file_setattr`, Linux 6.17.
pub(crate) const EVERYWHERE: &[Number] = numbers! {
    pidfd_send_signal 424, io_uring_setup 425, io_uring_enter 426, io_uring_register 427, open_tree 428,
    move_mount 429, fsopen 430, fsconfig 431, fsmount 432, fspick 433, pidfd_open 434, clone3 435, close_range 436,
    openat2 437, pidfd_getfd 438, faccessat2 439, process_madvise 440, epoll_pwait2 441, mount_setattr 442,
    quotactl_fd 443, landlock_create_ruleset 444, landlock_add_rule 445, landlock_restrict_self 446,
    memfd_secret 447, process_mrelease 448, futex_waitv 449, set_mempolicy_home_node 450, cachestat 451,
    fchmodat2 452, map_shadow_stack 453, futex_wake 454, futex_wait 455, futex_requeue 456, statmount 457,
    listmount 458, lsm_get_self_attr 459, lsm_set_self_attr 460, lsm_list_modules 461, mseal 462, setxattrat 463,
    getxattrat 464, listxattrat 465, removexattrat 466, open_tree_attr 467, file_getattr 468, file_setattr 469,
};
