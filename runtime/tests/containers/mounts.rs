//! Mounts and generated files: where they land, what is left of them, and that nothing lands outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use runtime::{
    Access, Container, GeneratedFile, GeneratedKind, Mount, MountSource, Programs, RunError, Runtime, Tmpfs,
};

use crate::image::{Image, output, run, start};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_working_directory_in_a_tmpfs_is_made,
    missing_targets_are_made_and_removed_again,
    what_the_container_put_into_a_made_target_stays,
    existing_targets_stay_as_they_are,
    a_read_only_bind_cannot_be_written_through,
    a_tmpfs_has_its_size_and_mode,
    what_has_no_device_is_named_by_its_kind,
    a_tmpfs_has_its_owner_and_says_who_may_write_and_run,
    a_target_below_another_mount_is_made_inside_it,
    a_handle_can_be_bound,
    generated_files_are_private_and_writable,
    a_generated_program_runs_and_cannot_be_written,
    a_linked_proc_or_sys_or_dev_is_refused,
    links_never_lead_a_target_outside,
    links_in_dev_lead_nowhere,
    a_target_that_is_swapped_for_a_link_leads_nowhere,
    targets_in_kernel_filesystems_are_refused,
    a_target_of_the_wrong_kind_is_refused,
    mounts_are_gone_when_the_wait_returns,
    a_start_that_fails_in_the_child_names_its_object,
];

fn bind(path: &Path, target: &str, access: Access) -> Mount {
    Mount { source: MountSource::Bind { path: path.to_owned(), access }, target: target.to_owned() }
}

fn tmpfs(target: &str) -> Mount {
    Mount { source: MountSource::Tmpfs(Tmpfs { mode: 0o755, ..Tmpfs::default() }), target: target.to_owned() }
}

fn file(path: &str, contents: &str) -> GeneratedFile {
    GeneratedFile { path: path.to_owned(), contents: contents.as_bytes().to_vec(), kind: GeneratedKind::Data }
}

/// Everything below a directory: path, mode, owner, size, modification time.
fn listing(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = vec![root.to_owned()];
    while let Some(path) = rest.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        found.push(format!(
            "{} {:o} {} {} {} {}.{}",
            path.display(),
            metadata.mode(),
            metadata.uid(),
            metadata.nlink(),
            if metadata.is_file() { metadata.size() } else { 0 },
            metadata.mtime(),
            metadata.mtime_nsec()
        ));
        if metadata.is_dir() {
            rest.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found.sort();
    found
}

fn missing_targets_are_made_and_removed_again(runtime: &Runtime) {
    let image = Image::new();
    let source = image.outside("source");
    fs::write(source.join("data"), "from outside\n").unwrap();
    let before = listing(&image.root());
    let mut container = image.shell("cat /deep/er/data /opt/file /run/secrets/key; ls /mnt/memory; stat -c %a /deep");
    container.mounts = vec![
        bind(&source, "/deep/er", Access::ReadOnly),
        bind(&source.join("data"), "/opt/file", Access::ReadOnly),
        tmpfs("/mnt/memory"),
    ];
    container.files = vec![file("/run/secrets/key", "generated\n"), file("/etc/resolv.conf", "")];
    assert_eq!(output(runtime, &container), "from outside\nfrom outside\ngenerated\n755");
    assert_eq!(listing(&image.root()), before);
}

fn what_the_container_put_into_a_made_target_stays(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.shell("echo kept > /made/beside; echo gone > /made/mount/file");
    container.mounts = vec![tmpfs("/made/mount")];
    output(runtime, &container);
    assert_eq!(fs::read_to_string(image.path("made/beside")).unwrap(), "kept\n");
    assert!(!image.path("made/mount").exists());
    assert!(!image.path("proc").exists());
}

fn existing_targets_stay_as_they_are(runtime: &Runtime) {
    let image = Image::new();
    for name in ["proc", "sys", "dev", "data"] {
        fs::create_dir(image.path(name)).unwrap();
    }
    fs::write(image.path("data/file"), "below\n").unwrap();
    fs::write(image.path("etc/hosts"), "").unwrap();
    let before = listing(&image.root());
    let mut container = image.shell("ls /data; cat /etc/hosts");
    container.mounts = vec![tmpfs("/data")];
    container.files = vec![file("/etc/hosts", "::1 localhost\n")];
    assert_eq!(output(runtime, &container), "::1 localhost");
    assert_eq!(listing(&image.root()), before);
}

fn a_read_only_bind_cannot_be_written_through(runtime: &Runtime) {
    let image = Image::new();
    let source = image.outside("source");
    fs::write(source.join("data"), "old\n").unwrap();
    for (access, expected) in [(Access::ReadOnly, "old"), (Access::ReadWrite, "new")] {
        let mut container = image.shell("echo new > /mnt/data; cat /mnt/data");
        container.mounts = vec![bind(&source, "/mnt", access)];
        assert_eq!(output(runtime, &container), expected);
        assert_eq!(fs::read_to_string(source.join("data")).unwrap().trim(), expected);
    }
}

fn what_has_no_device_is_named_by_its_kind(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.container(&["cat", "/proc/mounts"]);
    container.mounts = vec![tmpfs("/t")];
    let mounts = output(runtime, &container);
    for expected in ["tmpfs /t tmpfs ", "proc /proc proc ", "sysfs /sys sysfs ", "devpts /dev/pts devpts "] {
        assert!(mounts.lines().any(|line| line.starts_with(expected)), "{expected}: {mounts}");
    }
    assert!(!mounts.lines().any(|line| line.starts_with("none ")), "{mounts}");
}

fn a_tmpfs_has_its_size_and_mode(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.shell("stat -c %a /t; head -c 100000 /dev/zero > /t/a; wc -c < /t/a");
    let source = MountSource::Tmpfs(Tmpfs { size: Some(65_536), ..Tmpfs::default() });
    container.mounts = vec![Mount { source, target: "/t".to_owned() }];
    let outcome = run(runtime, &container).unwrap();
    assert_eq!(outcome.stdout, "1777\n65536\n", "{outcome:?}");
}

fn a_tmpfs_has_its_owner_and_says_who_may_write_and_run(runtime: &Runtime) {
    let image = Image::new();
    let look = "sed -n 's|^[^ ]* /t tmpfs \\([a-z,]*\\),relatime.*|\\1|p' /proc/self/mounts; stat -c '%u:%g' /t; \
                for i in echo 2 3 4; do cp /bin/busybox /t/$i 2>/dev/null && echo $i; done; /t/echo ran 2>/dev/null || echo $?";
    let check = |change: &dyn Fn(&mut Tmpfs), expected: &str| {
        let mut tmpfs = Tmpfs { owner: (1, 2), inodes: Some(4), ..Tmpfs::default() };
        change(&mut tmpfs);
        let mut container = image.shell(look);
        container.mounts = vec![Mount { source: MountSource::Tmpfs(tmpfs), target: "/t".to_owned() }];
        assert_eq!(run(runtime, &container).unwrap().stdout, expected);
    };
    check(&|_| (), "rw,nodev\n1:2\necho\n2\n3\nran\n");
    check(&|tmpfs| tmpfs.programs = Programs::Plain, "rw,nosuid,nodev\n1:2\necho\n2\n3\nran\n");
    check(&|tmpfs| tmpfs.programs = Programs::None, "rw,nosuid,nodev,noexec\n1:2\necho\n2\n3\n126\n");
    check(&|tmpfs| tmpfs.access = Access::ReadOnly, "ro,nodev\n1:2\n127\n");
}

fn a_target_below_another_mount_is_made_inside_it(runtime: &Runtime) {
    let image = Image::new();
    let source = image.outside("source");
    let before = listing(&source);
    symlink("/a/b", image.path("short")).unwrap();
    let mut container = image.shell("echo x > /a/b/c/f; cat /short/c/f /dev/shm/g; ls /a/b");
    container.mounts = vec![bind(&source, "/a/b", Access::ReadWrite), tmpfs("/short/c"), tmpfs("/a")];
    container.files = vec![file("/dev/shm/g", "in shm\n")];
    assert_eq!(output(runtime, &container), "x\nin shm\nc");
    assert_eq!(listing(&source), before);
    assert!(!image.path("a").exists());
}

fn a_handle_can_be_bound(runtime: &Runtime) {
    let image = Image::new();
    let source = image.outside("source");
    fs::write(source.join("data"), "by handle\n").unwrap();
    let handle = fs::File::open(&source).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&handle));
    let mut container = image.container(&["cat", "/mnt/data"]);
    container.mounts = vec![bind(path.as_ref(), "/mnt", Access::ReadOnly)];
    assert_eq!(output(runtime, &container), "by handle");
}

fn generated_files_are_private_and_writable(runtime: &Runtime) {
    let image = Image::new();
    fs::write(image.path("etc/resolv.conf"), "of the image\n").unwrap();
    let mut container = image.shell("cat /etc/resolv.conf; stat -c '%a %u %g' /etc/resolv.conf; echo own >> /etc/resolv.conf; \
                                     cat /etc/resolv.conf; echo x 2>/dev/null > /etc/resolv.conf.new; rm /etc/resolv.conf.new");
    container.files = vec![file("/etc/resolv.conf", "nameserver 10.0.2.3\n")];
    let expected = "nameserver 10.0.2.3\n644 0 0\nnameserver 10.0.2.3\nown";
    assert_eq!(output(runtime, &container), expected);
    assert_eq!(output(runtime, &container), expected, "a second container does not see what the first wrote");
    assert_eq!(fs::read_to_string(image.path("etc/resolv.conf")).unwrap(), "of the image\n");
}

fn a_generated_program_runs_and_cannot_be_written(runtime: &Runtime) {
    let image = Image::new();
    let before = listing(&image.root());
    let script = file("/dev/pipes/EOF", "#!/bin/sh\necho \"$0 ran\"; echo x >>\"$0\" || echo kept\n");
    let mut container = image.shell("/dev/pipes/EOF 2>/dev/null; stat -c '%a %u' /dev/pipes/EOF; /etc/data || echo $?");
    container.files = vec![
        GeneratedFile { kind: GeneratedKind::Program, ..script },
        GeneratedFile { contents: b"#!/bin/sh\n".to_vec(), ..file("/etc/data", "") },
    ];
    assert_eq!(output(runtime, &container), "/dev/pipes/EOF ran\nkept\n755 0\n126");
    assert_eq!(listing(&image.root()), before);
}

fn a_linked_proc_or_sys_or_dev_is_refused(runtime: &Runtime) {
    for name in ["proc", "sys", "dev"] {
        let image = Image::new();
        let canary = image.outside("canary");
        symlink(&canary, image.path(name)).unwrap();
        let before = listing(&canary);
        let error = run(runtime, &image.container(&["true"])).unwrap_err();
        assert_eq!(error.to_string(), format!("`/{name}` of the root filesystem is a symbolic link"));
        assert_eq!(listing(&canary), before);
    }
}

fn links_never_lead_a_target_outside(runtime: &Runtime) {
    for (link, to) in [
        ("etc/resolv.conf", "/CANARY/file"),
        ("etc/resolv.conf", "../../../../../../../../CANARY/new"),
        ("etc", "/CANARY"),
        ("etc/resolv.conf", "../run/deep/stub.conf"),
        ("etc/resolv.conf", "/proc/self/root/CANARY/file"),
    ] {
        let image = Image::new();
        let canary = image.outside("canary");
        fs::write(canary.join("file"), "canary\n").unwrap();
        fs::set_permissions(canary.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
        if link == "etc" {
            fs::remove_dir_all(image.path("etc")).unwrap();
        }
        let name = canary.to_string_lossy();
        symlink(to.replace("/CANARY", &name), image.path(link)).unwrap();
        let before = (listing(&canary), listing(&image.root()));
        let mut container = image.shell("cat /etc/resolv.conf; echo written > /etc/resolv.conf");
        container.files = vec![file("/etc/resolv.conf", "generated\n")];
        match run(runtime, &container) {
            Ok(outcome) => assert_eq!(outcome.stdout, "generated\n", "{to}: {outcome:?}"),
            Err(RunError::TargetOfTheKernel { .. }) => assert!(to.starts_with("/proc"), "{to}"),
            Err(error) => panic!("{to}: {error:?}"),
        }
        assert_eq!((listing(&canary), listing(&image.root())), before, "{to}");
    }
}

fn links_in_dev_lead_nowhere(runtime: &Runtime) {
    let image = Image::new();
    let canary = image.outside("canary");
    fs::write(canary.join("file"), "canary\n").unwrap();
    fs::create_dir(image.path("dev")).unwrap();
    for (name, to) in [("null", "file"), ("console", "file"), ("tty", "new"), ("pts", ""), ("shm", ""), ("mqueue", "")]
    {
        symlink(canary.join(to), image.path(&format!("dev/{name}"))).unwrap();
    }
    let before = (listing(&canary), listing(&image.root()));
    let script = "echo lost > /dev/null; echo kept > /dev/shm/new; cat /dev/shm/new; test -c /dev/null && test ! -e /dev/console";
    assert_eq!(output(runtime, &image.shell(script)), "kept");
    assert_eq!((listing(&canary), listing(&image.root())), before);
}

/// What a second container with the same files could do while the first is prepared.
fn a_target_that_is_swapped_for_a_link_leads_nowhere(runtime: &Runtime) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let image = Image::new();
    let canary = image.outside("canary");
    fs::create_dir_all(canary.join("deep")).unwrap();
    fs::create_dir_all(image.path("race/deep")).unwrap();
    symlink(&canary, image.path("link")).unwrap();
    let before = listing(&canary);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, image.path("race"), CWD, image.path("link"), RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        for _ in 0..100 {
            let mut container = image.shell("echo x > /race/deep/mount/x; echo x > /race/deep/file");
            container.mounts = vec![tmpfs("/race/deep/mount"), tmpfs("/race/made/mount")];
            container.files = vec![file("/race/deep/file", "")];
            let _it_may_fail = run(runtime, &container);
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(attacker.join().unwrap() > 100);
    });
    assert_eq!(listing(&canary), before);
}

fn targets_in_kernel_filesystems_are_refused(runtime: &Runtime) {
    let image = Image::new();
    symlink("/proc", image.path("link")).unwrap();
    for target in ["/proc", "/proc/sys", "/sys/fs/cgroup", "/dev/../proc/x", "/link/self", "/dev/pts", "/dev/mqueue/x"]
    {
        let mut container = image.container(&["true"]);
        container.mounts = vec![tmpfs(target)];
        let error = run(runtime, &container).unwrap_err();
        assert_eq!(error.to_string(), format!("mount target `{target}` is in a filesystem of the kernel"));
    }
    for target in ["/", "relative", "", "/..", "/tmp/.."] {
        let mut container = image.container(&["true"]);
        container.mounts = vec![tmpfs(target)];
        let error = run(runtime, &container).unwrap_err();
        assert_eq!(error.to_string(), format!("mount target `{target}` is not an absolute path below the root"));
    }
}

fn a_target_of_the_wrong_kind_is_refused(runtime: &Runtime) {
    let image = Image::new();
    let check = |change: &dyn Fn(&mut Container)| {
        let mut container = image.container(&["true"]);
        change(&mut container);
        assert!(matches!(run(runtime, &container), Err(RunError::TargetKind { .. })));
    };
    check(&|container| container.mounts = vec![tmpfs("/etc/passwd")]);
    check(&|container| container.mounts = vec![tmpfs("/etc/passwd/x")]);
    check(&|container| container.files = vec![file("/etc", "")]);
    let mut looping = image.container(&["true"]);
    symlink("b", image.path("a")).unwrap();
    symlink("a", image.path("b")).unwrap();
    looping.mounts = vec![tmpfs("/a/x")];
    assert!(matches!(run(runtime, &looping), Err(RunError::Target { .. })));
}

fn mounts_are_gone_when_the_wait_returns(runtime: &Runtime) {
    let image = Image::new();
    let mounted = image.outside("mounted");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", &mounted, "tmpfs", flags, None::<&std::ffi::CStr>).unwrap();
    let mut container = image.container(&["cat"]);
    container.mounts = vec![bind(&mounted, "/mnt", Access::ReadWrite)];
    let mut started = start(runtime, &container).unwrap();
    drop(started.stdin);
    started.running.wait().unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let here = image.root().to_string_lossy().into_owned();
    assert!(!mounts.contains(&here), "nothing of the container is in the caller's namespace");
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::empty()).expect("nobody uses it any more");
}

fn a_start_that_fails_in_the_child_names_its_object(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.container(&["true"]);
    container.files = vec![file("/dev/shm/same/x", "")];
    container.mounts = vec![tmpfs("/dev/shm/same"), tmpfs("/dev/shm")];
    assert!(run(runtime, &container).is_ok(), "made inside the mount that covers it");
    container.network = runtime::NetworkNamespace::Given(std::sync::Arc::new(fs::File::open("/").unwrap().into()));
    let error = run(runtime, &container).unwrap_err();
    assert_eq!(error.to_string(), "cannot start the container: cannot join the network namespace");
    assert!(!image.path("proc").exists());
}

fn a_working_directory_in_a_tmpfs_is_made(runtime: &Runtime) {
    let image = Image::new();
    let mut container = image.shell("pwd; stat -c '%u %a' .; touch f");
    let tmpfs = |access| Mount {
        source: MountSource::Tmpfs(Tmpfs { access, ..Tmpfs::default() }),
        target: "/scratch".to_owned(),
    };
    container.mounts = vec![tmpfs(Access::ReadWrite)];
    for cwd in ["/scratch/a/b", "/scratch"] {
        container.cwd = cwd.to_owned();
        let mode = if cwd == "/scratch" { "1777" } else { "755" };
        assert_eq!(output(runtime, &container), format!("{cwd}\n0 {mode}"));
    }
    assert!(!image.path("scratch").exists());
    container.mounts = vec![tmpfs(Access::ReadOnly)];
    container.cwd = "/scratch/a".to_owned();
    assert!(matches!(run(runtime, &container), Err(RunError::WorkingDirectory { .. })));
}
