//! Entering as somebody who is not root, and when it is too late.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Output};
use std::{fs, thread};

use runtime::{EnterError, Limit, Limits, Missing, NetworkNamespace, PidsLimit, Privilege, RunError, Runtime};

use crate::image::{Image, container, output, user};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![a_user_without_subordinate_ids_gets_one_id, a_process_with_threads_is_refused,];

const NOBODY: u32 = 65_534;

fn run_role(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    output
}

fn a_user_without_subordinate_ids_gets_one_id(runtime: &Runtime) {
    if runtime.privilege() != Privilege::Root {
        println!("  (only root can become another user; this ran as one already)");
        return;
    }
    let image = Image::new();
    let program = image.outside("program").join("containers");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(image.root().parent().unwrap(), open).unwrap();
    rustix::fs::chown(image.root(), Some(rustix::fs::Uid::from_raw(NOBODY)), None).unwrap();
    let mut command = Command::new(program);
    run_role(command.arg("--single-id").arg(image.root()).uid(NOBODY).gid(NOBODY).env_clear());
    assert!(!image.path("proc").exists());
}

/// `--single-id`: what a user without subordinate ids can do.
pub(crate) fn single_id(rootfs: &str) -> ExitCode {
    let runtime = runtime::enter().unwrap();
    assert_eq!(runtime.privilege(), Privilege::SingleId);
    assert!(
        matches!(runtime.missing(), Some(Missing::Range { .. } | Missing::Helper { .. })),
        "{:?}",
        runtime.missing()
    );
    assert_eq!(rustix::process::geteuid().as_raw(), 0);
    let script = "id -u; echo $$; ls /sys/class/net; grep -E '^(CapBnd|Seccomp):' /proc/self/status | tr '\\t' ' '; \
                  test -e /sys/fs/cgroup/cgroup.procs && echo cgroup; echo x > /dev/null && echo null";
    let mut container = container(rootfs.as_ref(), &["sh", "-c", script]);
    let expected = "0\n1\nlo\nCapBnd: 00000000800404fb\nSeccomp: 2\ncgroup\nnull";
    assert_eq!(output(&runtime, &container), expected);
    container.network = NetworkNamespace::Host;
    let script = "test -d /sys/class/net/lo && ls -A /sys/kernel/debug; ls -A /sys/firmware; \
                  mkdir /sys/x 2>&1 | grep -c Read-only";
    container.args = ["sh", "-c", script].map(str::to_owned).to_vec();
    assert_eq!(output(&runtime, &container), "1");
    // the default limit of processes kept nothing above from starting; one that is asked for does
    container.limits.memory = Some(64 << 20);
    let refused = runtime.start(&container, runtime::Stdio::Inherit);
    assert!(matches!(refused, Err(RunError::Limit { limit: Limit::Memory, .. })), "{refused:?}");
    container.limits = Limits { pids: PidsLimit::Required(10), ..Limits::default() };
    let refused = runtime.start(&container, runtime::Stdio::Inherit);
    assert!(matches!(refused, Err(RunError::Limit { limit: Limit::Pids, .. })), "{refused:?}");
    container.limits = Limits::default();
    container.user = user(1000, 0, &[]);
    let refused = runtime.start(&container, runtime::Stdio::Inherit);
    assert!(matches!(refused, Err(RunError::UnmappedUser { id: 1000 })));
    ExitCode::SUCCESS
}

fn a_process_with_threads_is_refused(_: &Runtime) {
    run_role(Command::new(std::env::current_exe().unwrap()).arg("--threads-first"));
}

/// `--threads-first`: a thread is there before `enter`.
pub(crate) fn threads_first() -> ExitCode {
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let other = thread::spawn(move || wait.recv());
    assert!(matches!(runtime::enter(), Err(EnterError::Threads)));
    drop(stop);
    assert!(other.join().unwrap().is_err());
    ExitCode::SUCCESS
}
