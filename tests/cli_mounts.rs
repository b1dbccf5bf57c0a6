//! `RUN --mount` in real containers: what a step sees, and that nothing of it stays.

use test_support::{Auth, Registry, TestEnv, images};

/// An environment, a registry with a base of busybox, and the FROM line for it.
fn site() -> (TestEnv, Registry, String) {
    let registry = Registry::start(Auth::None);
    images::push_base(&registry, "demo/base:1", &[images::busybox_rootfs()]);
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    let from = format!("FROM {}/demo/base:1", registry.address());
    (env, registry, from)
}

#[test]
fn a_step_sees_its_mounts_and_nothing_of_them_stays() {
    let (env, _registry, from) = site();
    env.file("ctx/d/f", "from the context\n");
    env.file("ctx/ignored", "");
    env.file("ctx/.dockerignore", "ignored\n");
    env.file("token", "hush-hush");
    let dockerfile = format!(
        r#"{from} AS made
RUN mkdir /out && echo from a stage > /out/x
{from}
WORKDIR /w
RUN --mount=target=. --mount=from=made,source=out,target=/m/out --mount=type=cache,target=/c --mount=type=tmpfs,target=/t \
    --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN set -e; \
    cat d/f /m/out/x > /seen; test ! -e ignored; ! touch d/new; echo kept >> /c/n; touch /t/x; \
    test "$(stat -c %a:%u /run/secrets/token)" = 400:0; test "$TOKEN" = "$(cat /run/secrets/token)"; echo it is $TOKEN
RUN --mount=type=cache,target=/c --mount=target=.,rw echo changed > d/f && cat /c/n d/f >> /seen
"#
    );
    env.file("ctx/Dockerfile", dockerfile);
    let built = env.wharf(&["build", "--secret", "id=token,src=token", "-t", "app", "ctx"]).success();
    assert!(built.stderr.contains("it is ***") && !built.stderr.contains("hush-hush"), "{}", built.stderr);
    let run = |script: &str| env.wharf(&["run", "--rm", "app", "sh", "-c", script]).success().stdout;
    assert_eq!(run("cat /seen"), "from the context\nfrom a stage\nkept\nchanged\n");
    assert_eq!(run("ls -A /w; ls -d /m /c /t /run/secrets 2>/dev/null; env | grep TOKEN; true"), "");
    let history = env.wharf(&["history", "--no-trunc", "app"]).success().stdout;
    assert!(!history.contains("hush"), "{history}");
    assert_eq!(std::fs::read_to_string(env.work().join("ctx/d/f")).unwrap(), "from the context\n");
}

#[test]
fn what_a_step_needs_and_nobody_gives_is_named_with_the_flag_that_gives_it() {
    let (env, _registry, from) = site();
    let check = |mount: &str, expected: [&str; 2]| {
        env.file("ctx/Dockerfile", format!("{from}\nRUN --mount={mount} true\n"));
        let failed = env.wharf(&["build", "ctx"]).exits_with(1).stderr;
        assert!(expected.iter().all(|text| failed.contains(text)), "{mount}: {failed}");
    };
    check("type=secret,id=a,required", ["the secret `a` is not given", "--secret id=a,src=FILE"]);
    check("type=ssh,required", ["the SSH agent `default` is not given", "--ssh default"]);
    check("source=nope,target=/m", ["`/nope`", "Dockerfile:2"]);
    check("from=scratch,source=x,target=/m", ["cannot mount `/x`", "Dockerfile:2"]);
}

#[test]
fn doctor_tries_out_what_a_build_needs() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    let told = env.wharf(&["doctor", "--format", "{{.Check}} {{.Status}}"]).success().stdout;
    assert!(told.starts_with("kernel ok\nrung ok\nstore ok\ncontainer ok\nnetwork ok\n"), "{told}");
    env.file("file", "");
    let told = env.wharf(&["--root", "file/store", "doctor"]).exits_with(1).stdout;
    assert!(told.contains("broken  store") && told.contains("fix: name a directory of your own"), "{told}");
}
