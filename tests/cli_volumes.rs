//! What `run` mounts, and `volume`: paths of the host, named volumes, the image's own, memory.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;

use test_support::{Auth, Registry, TestEnv, images};

const DOCKERFILE: &str = "RUN mkdir -m 1770 /data && echo image > /data/f && chown -R 33:44 /data && ln -s data /link\n\
                          RUN mkdir /own && echo own > /own/f\nVOLUME /own\n";

/// An environment whose store has the image `box`: busybox, files in `/data` and in `/own`, which is declared as a volume.
fn with_box() -> TestEnv {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", format!("FROM {}/demo/base:1\n{DOCKERFILE}", registry.address()));
    env.wharf(&["build", "-q", "-t", "box", "."]).success();
    env
}

/// Checks exit code and standard output of `run --rm` with these flags, then `box sh -c script`; returns standard error.
#[track_caller]
fn check(env: &TestEnv, flags: &[&str], script: &str, (code, stdout): (i32, &str)) -> String {
    let output = env.wharf(&[&["run", "--rm"], flags, &["box", "sh", "-c", script]].concat()).exits_with(code);
    assert_eq!(output.stdout, stdout, "{flags:?}\n{}", output.stderr);
    output.stderr
}

#[test]
fn paths_of_the_host_are_mounted_as_the_flags_say() {
    let env = with_box();
    let file = env.file("host/f", "of the host\n");
    let all = file.parent().unwrap().display().to_string();
    check(&env, &["-v", "./host:/a/b"], "cat /a/b/f; echo new > /a/b/new", (0, "of the host\n"));
    assert_eq!(fs::read_to_string(file.with_file_name("new")).unwrap(), "new\n");
    let refused = check(&env, &["-v", &format!("{all}:/h:ro")], "echo x > /h/f", (1, ""));
    assert!(refused.contains("Read-only"), "{refused}");
    check(
        &env,
        &["-v", "./made/here:/link/m", "-w", "/link/m/sub"],
        "pwd; ls -d /data/m",
        (0, "/data/m/sub\n/data/m\n"),
    );
    assert!(env.work().join("made/here/sub").is_dir());
    let mount = format!("type=bind,source={},target=/etc/resolv.conf,readonly", file.display());
    check(&env, &["--mount", &mount], "cat /etc/resolv.conf", (0, "of the host\n"));
    let missing = check(&env, &["--mount", "type=bind,source=./nowhere,target=/h"], "true", (125, ""));
    assert!(missing.contains("cannot open `./nowhere`"), "{missing}");
    assert!(!env.work().join("nowhere").exists());
    let twice = check(&env, &["-v", "./host:/h", "--tmpfs", "/h/"], "true", (125, ""));
    assert_eq!(twice, "error: duplicate mount point: `/h`\n");
}

#[test]
fn a_named_volume_starts_with_what_the_image_has_and_outlives_its_containers() {
    let env = with_box();
    let look = "stat -c '%a %u:%g' /data /data/f; cat /data/*; echo more > /data/more";
    check(&env, &["-v", "vol:/link"], look, (0, "1770 33:44\n644 33:44\nimage\n"));
    check(&env, &["-v", "vol:/data"], look, (0, "1770 33:44\n644 33:44\nimage\nmore\n"));
    check(&env, &["-v", "vol:/other:ro"], "cat /other/more; ls /data", (0, "more\nf\n"));
    check(&env, &["--mount", "source=empty,target=/data,volume-nocopy"], "ls /data", (0, ""));
    env.wharf(&["rmi", "box"]).success();
    env.wharf(&["image", "prune", "-af"]).success();
    env.wharf(&["builder", "prune", "-f"]).success();
    let path = env.store().join("volumes/vol/_data");
    assert_eq!(fs::read_to_string(path.join("more")).unwrap(), "more\n");
    let listed = env.wharf(&["volume", "ls"]).success().stdout;
    assert_eq!(listed, "DRIVER    VOLUME NAME\nlocal     empty\nlocal     vol\n");
    let format = "{{.Name}} {{.Mountpoint}} {{.Driver}} {{json .Labels}}";
    let shown = env.wharf(&["volume", "inspect", "-f", format, "vol"]).success().stdout;
    assert_eq!(shown, format!("vol {} local null\n", path.display()));
}

#[test]
fn volumes_without_a_name_are_filled_and_go_with_the_container() {
    let env = with_box();
    let look = "cat /own/f /data/f; grep -c -E ' /(own|data) ' /proc/mounts; echo x > /own/left";
    check(&env, &["-v", "/data"], look, (0, "own\nimage\n2\n"));
    check(&env, &["-v", "/data"], look, (0, "own\nimage\n2\n"));
    check(&env, &["--tmpfs", "/own"], "ls /own; stat -f -c %T /own", (0, "tmpfs\n"));
    check(&env, &["-v", "vol:/own"], "cat /own/f", (0, "own\n"));
    assert_eq!(env.wharf(&["volume", "ls", "-q"]).success().stdout, "vol\n");
    assert_eq!(fs::read_dir(env.store().join("tmp")).unwrap().count(), 0);
}

#[test]
fn memory_has_the_options_of_the_flag_and_dockers_defaults() {
    let env = with_box();
    let look = "stat -c '%a %u:%g' /m; sed -n 's|^[^ ]* /m tmpfs \\([a-z,]*\\),relatime.*|\\1|p' /proc/mounts";
    check(&env, &["--tmpfs", "/m"], look, (0, "1777 0:0\nrw,nosuid,nodev,noexec\n"));
    check(&env, &["--tmpfs", "/m:exec,mode=700,uid=33,gid=44"], look, (0, "700 33:44\nrw,nosuid,nodev\n"));
    let mount = "type=tmpfs,target=/m,tmpfs-size=64k,tmpfs-mode=755,readonly";
    check(&env, &["--mount", mount], look, (0, "755 0:0\nro,nosuid,nodev,noexec\n"));
}

#[test]
fn a_volume_is_not_removed_while_a_container_uses_it() {
    let env = with_box();
    assert_eq!(env.wharf(&["volume", "create", "--label", "a=1", "free"]).success().stdout, "free\n");
    let anonymous = env.wharf(&["volume", "create"]).success().stdout;
    let mut command = env.command();
    command.args(["run", "--rm", "-i", "-v", "used:/data", "box", "sh", "-c", "echo ready; cat; cat /data/f"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut ready = [0; 6];
    stdout.read_exact(&mut ready).expect("the command starts");

    let refused = env.wharf(&["volume", "rm", "used", "none"]).exits_with(1).stderr;
    assert!(refused.starts_with("error: volume `used` is used by a command that is running\nhint: wait"), "{refused}");
    assert!(refused.contains("error: no volume is called `none`\nhint: `wharf volume ls`"), "{refused}");
    let names = |flags: &[&str]| env.wharf(&[&["volume", "ls", "-q"], flags].concat()).success().stdout;
    assert_eq!(names(&["--filter", "dangling=false"]), "used\n");
    assert_eq!(names(&["--filter", "label=a=1"]), "free\n");
    let rows = ["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"];
    let rows = env.wharf(&rows).success().stdout;
    assert!(rows.contains("\nLocal Volumes 3 1\n"), "{rows}");
    let pruned = env.wharf(&["volume", "prune", "-f"]).success().stdout;
    assert!(pruned.starts_with(&format!("Deleted Volumes:\n{anonymous}\nTotal reclaimed space: ")), "{pruned}");
    let pruned = env.wharf(&["volume", "prune", "--all", "--force"]).success().stdout;
    assert!(pruned.starts_with("Deleted Volumes:\nfree\n\n"), "{pruned}");

    child.stdin.take().expect("it is piped").write_all(b"").expect("it reads");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("stdout can be read");
    assert_eq!((rest.as_str(), child.wait().expect("it ends").code()), ("image\n", Some(0)));
    assert_eq!(env.wharf(&["volume", "rm", "used"]).success().stdout, "used\n");
    assert_eq!(names(&[]), "");
}
