//! `build --check` and `--call`, and the checks that every build runs.

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use test_support::{Auth, Registry, TestEnv, images};

fn env() -> TestEnv {
    TestEnv::new(env!("CARGO_BIN_EXE_wharf"))
}

#[test]
fn a_check_shows_mistakes_of_every_kind_at_once_and_builds_nothing() {
    let env = env();
    env.file(".dockerignore", "*.log\n");
    env.file(
        "Dockerfile",
        "FROM scratch AS a\nCOPY --from=a x /\nCOPY b.log /\nWORKDIR /$PORT\nEXPOSE 99999\nRUNN x\nCMD y\n",
    );
    let output = env.wharf(&["build", "--check", "."]).exits_with(1);
    assert_eq!(output.stderr, "");
    let titles: Vec<_> = output.stdout.lines().filter(|line| line.starts_with(['C', 'e', 'w'])).collect();
    assert_eq!(
        titles,
        [
            "Check complete, found 3 errors and 3 warnings.",
            "error: stage `a` takes files from itself",
            "warning[CopyIgnoredFile]: `b.log` is left out of the build context by .dockerignore:1",
            "warning[UndefinedVar]: variable `PORT` is not set here",
            "error: `99999` is not a port, a range of ports, or one of these with `/tcp`, `/udp` or `/sctp`",
            "error: unknown instruction `RUNN`",
            "warning[JSONArgsRecommended]: CMD in shell form: the program gets no signals, so it is killed instead of stopped",
        ]
    );
    assert_eq!(env.wharf(&["images", "-q"]).success().stdout, "");
}

#[test]
fn a_check_asks_what_base_images_set_and_goes_on_without() {
    let env = env();
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let file = |name: &str| {
        env.file("Dockerfile", format!("FROM {}/demo/{name}\nWORKDIR $PATH/$NOWHERE\n", registry.address()))
    };
    file("base:1");
    let known = env.wharf(&["build", "--check", "."]).exits_with(1);
    assert!(known.stdout.contains("variable `NOWHERE` is not set"), "{}", known.stdout);
    assert!(!known.stdout.contains("`PATH`"), "{}", known.stdout);
    assert_eq!(known.stderr, "");
    file("none:1");
    let unknown = env.wharf(&["build", "--check", "."]).success();
    assert_eq!(unknown.stdout, "Check complete, no warnings found.\n");
    let note = format!(
        "note: UndefinedVar and InvalidBaseImagePlatform are not checked for {}/demo/none:1",
        registry.address()
    );
    assert!(unknown.stderr.starts_with(&note), "{}", unknown.stderr);
}

#[test]
fn programs_get_json() {
    let env = env();
    env.file("Dockerfile", "# WHO is greeted\nARG WHO=world\n# app greets\nFROM scratch AS app\nARG WHO\nENV A b\n");
    let call = |method: &str, code| {
        let output = env.wharf(&["build", "--call", method, "--build-arg", "WHO=me", "."]).exits_with(code);
        serde_json::from_str::<serde_json::Value>(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    };
    let check = call("check,format=json", 1);
    assert_eq!(check["warnings"][0]["ruleName"], "LegacyKeyValueFormat");
    assert_eq!(
        check["warnings"][0]["location"]["ranges"][0]["start"],
        serde_json::json!({ "line": 6, "character": 4 })
    );
    assert_eq!(check["sources"][0]["filename"], "Dockerfile");
    let outline = call("outline,format=json", 0);
    assert_eq!(outline["name"], "app");
    let arg = &outline["args"][0];
    assert_eq!((&arg["name"], &arg["value"], &arg["description"]), (&"WHO".into(), &"me".into(), &"is greeted".into()));
    let targets = call("targets,format=json", 0);
    assert_eq!(targets["targets"][0]["description"], "greets");
    call("check,format=json,ignorestatus=true", 0);
}

#[test]
fn a_check_is_of_any_platform() {
    let env = env();
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[]);
    env.file("Dockerfile", format!("FROM {}/demo/base:1\nARG TARGETARCH\nWORKDIR $PATH/$NO\n", registry.address()));
    let checked = env.wharf(&["build", "--check", "--platform=linux/s390x", "."]).exits_with(1);
    assert_eq!(checked.stderr, "");
    let rules: Vec<_> =
        checked.stdout.lines().filter_map(|line| line.strip_prefix("warning[")?.split(']').next()).collect();
    assert_eq!(rules, ["InvalidBaseImagePlatform", "UndefinedVar"]);
    let outline = env.wharf(&["build", "--call=outline", "--platform=linux/s390x", "."]).success().stdout;
    assert_eq!(outline, "TARGET:      (default)\n");
}

#[test]
fn people_get_tables() {
    let env = env();
    env.file("Dockerfile", "FROM scratch AS one\nRUN --mount=type=secret,id=key,required true\nFROM one\nARG A=1\n");
    let outline = env.wharf(&["build", "--call=outline", "."]).success().stdout;
    assert_eq!(
        outline,
        "TARGET:      (default)\n\nBUILD ARG   VALUE     DESCRIPTION\nA           1         \n\nSECRET    REQUIRED\nkey       true\n"
    );
    let targets = env.wharf(&["build", "--call=targets", "."]).success().stdout;
    assert_eq!(targets, "TARGET      DESCRIPTION\none         \n(default)   \n");
    let refused = env.wharf(&["build", "--call=dance", "."]).exits_with(125);
    assert!(refused.stderr.contains("want build, check, outline or targets"), "{}", refused.stderr);
}

#[test]
fn a_build_ends_with_a_line_for_each_warning() {
    let env = env();
    env.file("Dockerfile", "FROM scratch\nARG NAME\nENV A b\n");
    let built = env.wharf(&["build", "--build-arg", "NAEM=x", "--progress=plain", "."]).success().stderr;
    let expected = "1 warning found (`wharf build --check` shows it in full):
 - LegacyKeyValueFormat: ENV of `A` is written without `=` (line 3)
warning: no ARG declares the build argument `NAEM`; did you mean `NAME`?
built sha256:";
    assert!(built.contains(expected), "{built}");
    assert_eq!(env.wharf(&["build", "-q", "."]).success().stderr, "");
}

#[test]
fn the_file_or_the_caller_can_make_warnings_errors_or_skip_them() {
    let env = env();
    env.file("Dockerfile", "# check=error=true\nFROM scratch\nENV A b\n");
    let failed = env.wharf(&["build", "."]).exits_with(1).stderr;
    assert!(failed.starts_with("error[LegacyKeyValueFormat]: ENV of `A` is written without `=`"), "{failed}");
    let skip = "BUILDKIT_DOCKERFILE_CHECK=skip=LegacyKeyValueFormat";
    env.wharf(&["build", "--build-arg", skip, "."]).success();
    env.wharf(&["build", "--check", "--build-arg", skip, "."]).success();
}

#[test]
fn a_dockerfile_without_end_is_refused_at_once() {
    let env = env();
    let started = Instant::now();
    let refused = env.wharf(&["build", "-f", "/dev/zero", "."]).exits_with(1);
    assert!(refused.stderr.contains("the file is larger than the 4194304 bytes that are read"), "{}", refused.stderr);
    let mut piped = env.command();
    piped.args(["build", "-f", "-", "."]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut piped = piped.spawn().expect("the program starts");
    let mut input = piped.stdin.take().expect("it is a pipe");
    let line = [b'x'; 64 << 10];
    while input.write_all(&line).is_ok() {}
    assert_eq!(piped.wait().expect("it ends").code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(20), "took {:?}", started.elapsed());
}

#[test]
fn a_dockerfile_may_have_its_other_name() {
    let env = env();
    env.file("dockerfile", "FROM scratch AS lower\n");
    assert!(env.wharf(&["build", "--call=targets", "."]).success().stdout.contains("lower (default)"));
}

#[test]
fn a_stage_that_is_not_built_may_hold_mistakes() {
    let env = env();
    env.file("Dockerfile", "FROM scratch AS no\nEXPOSE x\nENV A b\nFROM scratch\nLABEL a=1\n");
    let built = env.wharf(&["build", "."]).success().stderr;
    assert!(!built.contains("warning"), "{built}");
    let checked = env.wharf(&["build", "--check", "."]).exits_with(1).stdout;
    assert!(checked.starts_with("Check complete, found 1 error and 1 warning.\n"), "{checked}");
    env.wharf(&["build", "--check", "--target=1", "."]).success();
    let unknown = "error: there is no stage `on` to build\nhint: the stages are no\n";
    for what in ["check", "outline", "build"] {
        let refused = env.wharf(&["build", "--call", what, "--target=on", "."]).exits_with(1);
        assert_eq!((refused.stdout.as_str(), refused.stderr.as_str()), ("", unknown), "{what}");
    }
}

#[test]
fn mistakes_of_names_are_shown_at_once_and_before_any_registry_is_asked() {
    let env = env();
    let registry = Registry::start(Auth::None);
    let base = format!("{}/demo/base:1", registry.address());
    env.file("Dockerfile", format!("FROM {base}\nCOPY --from=Upper /x /\nRUN --mount=from=y:,target=/y true\n"));
    for arguments in [&["build", "."][..], &["build", "--check", "."]] {
        let failed = env.wharf(arguments).exits_with(1);
        let shown = failed.stdout + &failed.stderr;
        assert!(shown.contains("error: cannot use `Upper` as an image\n --> Dockerfile:2:13\n"), "{shown}");
        assert!(shown.contains("error: cannot use `y:` as an image\n --> Dockerfile:3:13\n"), "{shown}");
    }
    assert_eq!(registry.requests().len(), 0);
}

#[test]
fn a_build_that_fails_tells_its_warnings_first() {
    let env = env();
    env.file("Dockerfile", "FROM scratch\nENV A b\nCOPY nowhere /\n");
    let failed = env.wharf(&["build", "--progress=plain", "."]).exits_with(1).stderr;
    let place = |text: &str| failed.find(text).unwrap_or_else(|| panic!("{text} is not in {failed}"));
    assert!(place(" - LegacyKeyValueFormat: ") < place("error: [2/2] COPY nowhere / failed"), "{failed}");
    let quiet = env.wharf(&["build", "-q", "."]).exits_with(1).stderr;
    assert!(!quiet.contains("LegacyKeyValueFormat"), "{quiet}");
}

#[test]
fn what_a_hostile_file_says_is_harmless_and_short() {
    let env = env();
    let long = "k".repeat(60_000);
    let file =
        format!("FROM scratch\nENV {long} b\nLABEL \u{1b}]0;title\u{7}=\u{202e} {long}\nWORKDIR {long}\nRUNN {long}\n");
    env.file("Dockerfile", file);
    for arguments in [&["build", "."][..], &["build", "--check", "."]] {
        let failed = env.wharf(arguments).exits_with(1);
        let shown = failed.stdout + &failed.stderr;
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
        let longest = shown.lines().map(|line| line.chars().count()).max();
        assert!(longest < Some(500), "{longest:?}");
    }
}

#[test]
fn an_ignore_file_without_end_is_refused() {
    let env = env();
    env.file("Dockerfile", "FROM scratch\nLABEL a=1\n");
    std::os::unix::fs::symlink("/dev/zero", env.work().join(".dockerignore")).expect("it can be made");
    let refused = env.wharf(&["build", "--check", "."]).exits_with(1).stderr;
    assert_eq!(refused, "error: the ignore file `./.dockerignore` is larger than the 4194304 bytes that are read\n");
}
