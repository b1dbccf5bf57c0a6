//! `build`: what it prints and returns; what it refuses, and how.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use test_support::{Auth, Registry, TestEnv, images};

fn env() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_wharf"))
}

/// A registry with the image `demo/base:1`, which holds busybox.
fn with_base() -> (Registry, String) {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let name = format!("{}/demo/base:1", registry.address());
    (registry, name)
}

#[test]
fn progress_goes_to_standard_error_and_steps_are_cached() {
    let env = env();
    env.file("Dockerfile", "FROM scratch\nCOPY a /\n");
    env.file("a", "a");
    let first = env.wharf(&["build", "-t", "app", "-t", "team/app:2", "."]).success();
    assert_eq!(first.stdout, "");
    for line in ["#1 [1/2] FROM scratch", "#2 [2/2] COPY a /", "tagged app:latest", "tagged team/app:2"] {
        assert!(first.stderr.lines().any(|shown| shown == line), "{line}\n{}", first.stderr);
    }
    assert!(first.stderr.contains("\n#2 DONE "), "{}", first.stderr);
    let second = env.wharf(&["build", "."]).success().stderr;
    assert!(second.contains("\n#2 CACHED\n"), "{second}");
    let third = env.wharf(&["build", "--no-cache", "."]).success().stderr;
    assert!(third.contains("\n#2 DONE "), "{third}");
}

#[test]
fn quiet_prints_the_id_and_nothing_else() {
    let env = env();
    env.file("x.Dockerfile", "FROM scratch\nLABEL a=1\n");
    let arguments = ["build", "-q", "--iidfile", "id", "--label", "b=2", "-f", "x.Dockerfile", "."];
    let built = env.wharf(&arguments).success();
    assert_eq!(built.stderr, "");
    assert_eq!(std::fs::read_to_string(env.work().join("id")).expect("it was written"), built.stdout.trim());
    let labels = env.wharf(&["inspect", "-f", "{{json .Config.Labels}}", built.stdout.trim()]).success().stdout;
    assert_eq!(labels, "{\"a\":\"1\",\"b\":\"2\"}\n");
    let piped = env.wharf_with_input(&["build", "-q", "-f", "-", "."], "FROM scratch\nLABEL a=1\n").success();
    assert!(piped.stdout.starts_with("sha256:"), "{}", piped.stdout);
}

#[test]
fn build_arguments_come_from_the_flag_or_the_caller() {
    let mut env = env();
    env.file("Dockerfile", "FROM scratch\nARG A\nARG B\nARG C=c\nLABEL abc=$A$B$C\n");
    env.set("B", "from-caller");
    let built =
        env.wharf(&["build", "-q", "--build-arg", "A=1", "--build-arg", "B", "--build-arg", "C", "."]).success();
    let label = env.wharf(&["inspect", "-f", "{{.Config.Labels.abc}}", built.stdout.trim()]).success().stdout;
    assert_eq!(label, "1from-callerc\n");
}

/// Checks the whole error of a build of `dockerfile` with a file `hello.txt` beside it.
#[track_caller]
fn check_error(dockerfile: &str, ignore: &str, expected: &str) {
    let env = env();
    env.file("Dockerfile", dockerfile);
    env.file(".dockerignore", ignore);
    env.file("hello.txt", "hello\n");
    let output = env.wharf(&["build", "--progress", "quiet", "-t", "app", "."]).exits_with(1);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", expected));
    assert_eq!(env.wharf(&["images", "-q"]).success().stdout, "");
    let unfinished = std::fs::read_dir(env.store().join("tmp")).expect("the store has it").count();
    assert_eq!(unfinished, 0);
}

#[test]
fn a_misspelt_instruction_is_shown_where_it_stands() {
    let expected = "\
error: unknown instruction `CPOY`
 --> Dockerfile:2:1
  |
2 | CPOY hello.txt /
  | ^^^^
hint: did you mean `COPY`?
";
    check_error("FROM scratch\nCPOY hello.txt /\n", "", expected);
}

#[test]
fn a_missing_source_comes_with_the_nearest_name() {
    let expected = "\
error: [2/2] COPY helo.txt / failed
 --> Dockerfile:2:1
  |
2 | COPY helo.txt /
  | ^^^^^^^^^^^^^^^
  caused by: cannot copy from the build context
  caused by: `helo.txt` is not there
hint: did you mean `hello.txt`?
";
    check_error("FROM scratch\nCOPY helo.txt /\n", "", expected);
}

#[test]
fn an_ignored_source_comes_with_the_line_that_ignores_it() {
    let expected = "\
error: [2/2] COPY hello.txt / failed
 --> Dockerfile:2:1
  |
2 | COPY hello.txt /
  | ^^^^^^^^^^^^^^^^
  caused by: cannot copy from the build context
  caused by: `hello.txt` is left out by .dockerignore:2 (`*.txt`)
hint: remove the line .dockerignore:2, or add `!hello.txt` after it
";
    check_error("FROM scratch\nCOPY hello.txt /\n", "# text\n*.txt\n", expected);
}

#[test]
fn a_step_that_cannot_begin_says_what_to_do() {
    let hint = |dockerfile: &str| {
        let env = env();
        env.file("Dockerfile", dockerfile);
        env.file(".wh.x", "");
        let error = env.wharf(&["build", "--progress", "quiet", "."]).exits_with(1).stderr;
        error.lines().last().map(str::to_owned)
    };
    let cases = [
        ("COPY .wh.x /", "hint: leave the file out with a line in .dockerignore, or give it another name"),
        (
            "COPY --chown=ghost .wh.x /x",
            "hint: users are those of the image's /etc/passwd: add one in a step before, or use a number",
        ),
        (
            "USER ghost\nRUN true",
            "hint: users are those of the image's /etc/passwd: add one in a step before, or use a number",
        ),
        (
            "RUN [\"true\"]",
            "hint: the command is looked up inside the image: check its name, or install it in a step before",
        ),
        (
            "RUN --device=vendor.com/class=x true",
            "hint: without it the Dockerfile can be built; README.md lists what is not built yet",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(hint(&format!("FROM scratch\n{line}\n")).as_deref(), Some(expected), "{line}");
    }
}

#[test]
fn an_unknown_target_comes_with_those_that_exist() {
    let env = env();
    env.file("Dockerfile", "FROM scratch AS one\nFROM scratch AS two\n");
    let output = env.wharf(&["build", "--target", "three", "."]).exits_with(1);
    let expected = "error: there is no stage `three` to build\nhint: the stages are one, two\n";
    assert_eq!(output.stderr, expected);
}

#[test]
fn what_is_not_built_yet_is_refused() {
    let env = env();
    env.file("Dockerfile", "FROM scratch\nLABEL a=b\n");
    let refused = [
        &["build", "--platform", "linux/s390x", "."][..],
        &["build", "--squash", "."],
        &["build", "--secret", "src=Dockerfile", "."],
        &["build", "ftp://127.0.0.1/x.tar"],
        &["build", "nowhere"],
    ];
    for arguments in refused {
        env.wharf(arguments).exits_with(125);
    }
    let missing = env.wharf(&["build", "-f", "Containerfile", "."]).exits_with(1).stderr;
    assert_eq!(missing, "error: there is no Dockerfile `Containerfile`\nhint: did you mean `--file Dockerfile`?\n");
}

#[test]
fn a_failed_command_is_shown_with_its_exit_code_and_output() {
    let (_registry, base) = with_base();
    let env = env();
    env.file(
        "Dockerfile",
        format!("FROM {base}\nRUN echo one\nRUN echo before; printf '\\033]0;title\\007oops\\n' >&2; exit 7\n"),
    );
    let output = env.wharf(&["build", "-t", "app", "."]).exits_with(1).stderr;
    assert!(output.contains(" oops\n"), "{output}");
    assert!(!output.contains("\u{1b}"), "{output}");
    assert!(output.contains("ended with exit code 7"), "{output}");
    assert!(output.contains("--> Dockerfile:3:1"), "{output}");
    let quiet = env.wharf(&["build", "-q", "."]).exits_with(1).stderr;
    assert!(quiet.contains("  | before\n  | oops\n"), "{quiet}");
    let again = env.wharf(&["build", "."]).exits_with(1).stderr;
    assert!(again.contains("#2 CACHED"), "{again}");
}

#[test]
fn ctrl_c_stops_a_step_at_once_and_keeps_the_finished_ones() {
    let (_registry, base) = with_base();
    let env = env();
    env.file(
        "Dockerfile",
        format!("FROM {base}\nRUN echo kept > /kept\nRUN echo ticking; cat /dev/zero > /dev/null\n"),
    );
    let mut command = env.command();
    command.args(["build", "-t", "app", "."]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.ends_with("ticking\n") || line.contains("RUN") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).expect("stderr can be read"), 0, "the step never ran");
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("stderr can be read");
    assert_eq!(child.wait().expect("a child can be waited for").code(), Some(130), "{rest}");
    assert!(rest.ends_with("error: stopped by SIGINT\n"), "{rest}");
    assert_eq!(env.wharf(&["images", "-q", "app"]).success().stdout, "");
    env.file("Dockerfile", format!("FROM {base}\nRUN echo kept > /kept\n"));
    let again = env.wharf(&["build", "."]).success().stderr;
    assert!(again.contains("#2 CACHED"), "{again}");
}
