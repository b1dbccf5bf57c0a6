//! RUN --mount: what a process sees, what stays of it, and what is in the cache key.

use builder::{BuildError, Secret, StepError};

use crate::site::{Site, check};

/// Builds one RUN behind `before`, and returns what ran and the file `/out`.
fn out(site: &Site, before: &str, mount: &str, words: &str) -> (Vec<String>, String) {
    let words: Vec<String> = words.split(' ').map(|word| format!("{word:?}")).collect();
    let (_, ran) = site.built(&format!("{before}FROM scratch\nRUN --mount={mount} [{}]\n", words.join(", ")));
    let files = site.files();
    (ran, files.iter().find_map(|file| file.strip_prefix("out=")).unwrap_or("no file").to_owned())
}

#[test]
fn files_of_the_context_are_mounted_and_count_by_content() {
    check(|site| {
        std::fs::create_dir(site.context("d")).unwrap();
        site.write("d/f", "1");
        let run = |words| out(site, "", "source=d,target=/m", words);
        assert_eq!(run("show /m/f /out"), (vec!["show /m/f /out".to_owned()], "1".to_owned()));
        site.write("unrelated", "x");
        std::fs::File::open(site.context("d/f")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(run("show /m/f /out"), (vec![], "1".to_owned()));
        site.write("d/f", "2");
        assert_eq!(run("show /m/f /out"), (vec!["show /m/f /out".to_owned()], "2".to_owned()));
        site.write("d/f", "1");
        assert_eq!(run("show /m/f /out"), (vec![], "1".to_owned()));
    });
}

#[test]
fn a_source_is_a_name_and_no_pattern_and_may_be_a_file() {
    check(|site| {
        site.write("a*", "star");
        site.write("ab", "other");
        assert_eq!(out(site, "", "source=a*,target=/m", "show /m /out").1, "star");
        assert_eq!(out(site, "", "target=/m", "show /m/ab /out").1, "other");
        let missing = site.build("FROM scratch\nRUN --mount=source=nope,target=/m [\"show\", \"/m\", \"/out\"]\n");
        let Err(BuildError::Solve(error)) = missing else { panic!("nothing is wrong: {missing:?}") };
        assert!(error.label.contains("--mount=source=nope,target=/m"), "{error}");
    });
}

#[test]
fn a_stage_that_is_built_again_with_the_same_files_is_not_mounted_anew() {
    check(|site| {
        let stage = |extra: &str| {
            format!("FROM scratch AS s\nRUN [\"write\", \"/x\", \"1\"]\nRUN [\"write\", \"/y\", \"{extra}\"]\n")
        };
        let run = |extra| out(site, &stage(extra), "from=s,source=/x,target=/m", "show /m /out");
        assert_eq!(run("a").1, "1");
        assert_eq!(run("b"), (vec!["write /y b".to_owned()], "1".to_owned()));
        assert_eq!(run("a"), (vec![], "1".to_owned()));
        let all = |extra| out(site, &stage(extra), "from=s,target=/m", "show /m/y /out");
        assert_eq!((all("a").1, all("b").1), ("a".to_owned(), "b".to_owned()));
    });
}

#[test]
fn what_is_written_to_mounted_files_is_discarded() {
    check(|site| {
        site.write("f", "1");
        let (_, ran) = site.built(
            "FROM scratch\nRUN --mount=target=/m,rw [\"put\", \"/m/f\", \"changed\"]\n\
             RUN --mount=target=/m [\"show\", \"/m/f\", \"/out\"]\n",
        );
        assert_eq!(ran.len(), 2);
        assert_eq!(site.files(), ["out=1"]);
        assert_eq!(std::fs::read_to_string(site.context("f")).unwrap(), "1");
    });
}

#[test]
fn a_cache_stays_between_builds_and_is_in_no_key() {
    check(|site| {
        let cache = "type=cache,target=/c";
        assert_eq!(out(site, "", cache, "show /c/f /out").1, "nothing");
        out(site, "", cache, "put /c/f kept");
        assert_eq!(
            out(site, "", cache, "show /c/f /out"),
            (vec![], "nothing".to_owned()),
            "what it holds is in no key"
        );
        let elsewhere = out(site, "", "type=cache,id=/c,target=/other", "show /other/f /out");
        assert_eq!(elsewhere.1, "kept", "its target is its id");
        assert_eq!(
            out(site, "", "type=cache,target=/c,uid=7", "show /c/f /out").1,
            "nothing",
            "another owner is another cache"
        );
        assert!(!site.files().iter().any(|file| file.contains("kept")));
    });
}

#[test]
fn a_step_that_locks_one_cache_twice_does_not_wait_for_itself() {
    check(|site| {
        let lock = "type=cache,id=a,sharing=locked,target";
        site.built(&format!("FROM scratch\nRUN --mount={lock}=/c --mount={lock}=/d [\"put\", \"/c/f\", \"1\"]\n"));
        assert_eq!(out(site, "", "type=cache,id=a,target=/x", "show /x/f /out").1, "1");
    });
}

#[test]
fn a_secret_is_lent_and_its_value_is_in_no_key() {
    check(|site| {
        let give = |value: &str| {
            site.lent.lock().unwrap().secrets.insert("s".to_owned(), Secret::new(value.as_bytes().to_vec()));
        };
        let file = "type=secret,id=s,required";
        give("hush");
        assert_eq!(out(site, "", file, "show /run/secrets/s /out").1, "hush");
        give("changed");
        assert_eq!(out(site, "", file, "show /run/secrets/s /out").0, [""; 0]);
        assert_eq!(out(site, "", "type=secret,id=s,env=S", "env /out").1, "S=changed");
        assert_eq!(out(site, "", "type=secret,id=s,env=S", "show /run/secrets/s /out").1, "nothing");
        let text = store_text(site.store.root());
        assert!(!text.contains("changed,") && !text.contains("\"hush"), "a value is in a record");
    });
}

#[test]
fn what_is_not_given_is_left_out_or_named() {
    check(|site| {
        assert_eq!(out(site, "", "type=secret,id=none", "show /run/secrets/none /out").1, "nothing");
        assert_eq!(out(site, "", "type=ssh", "env /out").1, "");
        let failed = |mount: &str| {
            let built = site.build(&format!("FROM scratch\nRUN --mount={mount},required [\"env\", \"/out\"]\n"));
            let Err(BuildError::Solve(error)) = built else { panic!("nothing is wrong: {built:?}") };
            error
        };
        assert!(matches!(&failed("type=secret,id=none").source, StepError::NoSecret { id } if id == "none"));
        assert!(matches!(&failed("type=ssh").source, StepError::NoAgent { id } if id == "default"));
    });
}

/// Everything in the records of a store.
fn store_text(root: &std::path::Path) -> String {
    let records = std::fs::read_dir(root.join("cache")).unwrap();
    records.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_new_cache_starts_with_files_of_a_stage() {
    check(|site| {
        let stage = "FROM scratch AS s\nRUN [\"write\", \"/x\", \"first\"]\n";
        let cache = "type=cache,from=s,target=/c";
        assert_eq!(out(site, stage, cache, "show /c/x /out").1, "first");
        out(site, stage, cache, "put /c/x changed");
        assert_eq!(out(site, stage, cache, "show /c/x /other").0, ["show /c/x /other"]);
        assert!(site.files().contains(&"other=changed".to_owned()), "it is no new one any more");
        let missing = format!("{stage}FROM scratch\nRUN --mount={cache},source=nope [\"show\", \"/c/x\", \"/out\"]\n");
        let Err(BuildError::Solve(error)) = site.build(&missing) else { panic!("nothing is wrong") };
        assert!(matches!(&error.source, StepError::MountSource { path, .. } if path == "/nope"));
    });
}
