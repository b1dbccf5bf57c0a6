//! `system prune`, `builder prune --keep-storage`, `build --keep-storage`, `system df -v`, on images built from scratch.

use test_support::TestEnv;

/// Two stages: the layers of the first are in no image.
const STAGES: &str = "FROM scratch AS made\nCOPY big /big\nFROM scratch\nCOPY small /\nCOPY --from=made /big /out\n";

fn environment() -> TestEnv {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", STAGES);
    env.file("small", "small\n");
    env
}

/// Builds `name` with a stage of its own that takes 200 kB in the build cache; returns its ID and what was said.
fn build(env: &TestEnv, name: &str, flags: &[&str]) -> (String, String) {
    env.file("big", name.repeat(200_000 / name.len()));
    env.file("Dockerfile", STAGES.replace("/big", &format!("/{name}")));
    let built = env.wharf(&[&["build", "--iidfile", "id", "-t", name], flags, &["."]].concat()).success();
    (std::fs::read_to_string(env.work().join("id")).expect("the ID is written"), built.stderr)
}

#[test]
fn a_system_prune_says_what_goes_and_why_and_leaves_what_is_named() {
    let env = environment();
    let (first, _) = build(&env, "app", &[]);
    env.file("small", "other\n");
    build(&env, "app", &[]);
    env.wharf(&["volume", "create"]).success();
    env.wharf(&["volume", "create", "named"]).success();

    let planned = env.wharf(&["system", "prune", "--dry-run", "--volumes"]).success().stdout;
    assert!(planned.contains(&format!("would remove image {first} (")), "{planned}");
    assert!(
        planned.contains(": no name means it\n") && planned.contains(": no running command uses it\n"),
        "{planned}"
    );
    assert!(planned.lines().rev().skip(1).all(|line| line.contains("): ")), "{planned}");
    let asked = env.wharf_with_input(&["system", "prune", "--filter", "label!=keep"], "n\n").success().stdout;
    let expected = "WARNING! This will remove:\n  - all dangling images\n  - unused build cache\n\n\n  \
                    Items to be pruned will be filtered with:\n  - label!=keep\n\n\
                    Are you sure you want to continue? [y/N] ";
    assert_eq!(asked, expected);

    let pruned = env.wharf(&["system", "prune", "-f"]).success().stdout;
    assert!(pruned.starts_with(&format!("Deleted Images:\ndeleted: {first}\n")), "{pruned}");
    assert!(
        pruned.contains("\n\nDeleted build cache objects:\n") && pruned.contains("\n\nTotal reclaimed space: "),
        "{pruned}"
    );
    assert_eq!(env.wharf(&["images", "--format", "{{.Repository}}"]).success().stdout, "app\n");
    // what the image shares was not forgotten
    let rebuilt = env.wharf(&["build", "--progress=plain", "."]).success().stderr;
    assert!(rebuilt.contains("COPY small /\n") && rebuilt.contains("CACHED"), "{rebuilt}");

    env.wharf(&["system", "prune", "--volumes", "--filter", "until=1h"]).exits_with(125);
    let pruned = env.wharf(&["system", "prune", "-a", "-f", "--volumes"]).success().stdout;
    assert!(pruned.starts_with("Deleted Volumes:\n") && pruned.contains("\nuntagged: app:latest\n"), "{pruned}");
    assert_eq!(env.wharf(&["volume", "ls", "-q"]).success().stdout, "named\n");
    let rows = env.wharf(&["system", "df", "--format", "{{.Type}} {{.TotalCount}}"]).success().stdout;
    assert!(rows.contains("Images 0\n") && rows.contains("Build Cache 0\n"), "{rows}");
}

#[test]
fn a_build_first_brings_the_cache_below_its_limit() {
    let mut env = environment();
    build(&env, "one", &[]);
    build(&env, "two", &[]);
    let (_, said) = build(&env, "two", &["--keep-storage", "1k"]);
    assert!(!said.contains("removed"), "a build without anything to write removes nothing: {said}");
    let (_, said) = build(&env, "three", &["--keep-storage", "10m"]);
    assert!(!said.contains("removed"), "{said}");
    env.set("WHARF_KEEP_STORAGE", "100k");
    let (_, said) = build(&env, "four", &[]);
    assert!(said.contains("of the build cache, least recently used first\n"), "{said}");
    // the stage of the build that came last is all that is left
    let planned = env.wharf(&["builder", "prune", "--dry-run"]).success().stdout;
    let layers = planned.lines().filter(|line| line.starts_with("would remove layer ")).count();
    assert_eq!(layers, 1, "{planned}");
    let planned = env.wharf(&["builder", "prune", "--dry-run", "--keep-storage", "10m"]).success().stdout;
    assert_eq!(planned, "Total reclaimable space: 0B\n");
    env.set("WHARF_KEEP_STORAGE", "lots");
    let refused = env.wharf(&["build", "."]).exits_with(1).stderr;
    assert_eq!(refused, "error: `WHARF_KEEP_STORAGE` is no size: invalid size: 'lots'\n");
}

#[test]
fn df_shows_each_image_volume_and_item_of_the_cache() {
    let env = environment();
    build(&env, "app", &[]);
    env.wharf(&["volume", "create", "vol"]).success();
    let text = env.wharf(&["system", "df", "-v"]).success().stdout;
    let headers = [
        "REPOSITORY TAG IMAGE ID CREATED SIZE SHARED SIZE UNIQUE SIZE CONTAINERS",
        "VOLUME NAME LINKS SIZE",
        "CACHE ID CACHE TYPE SIZE CREATED LAST USED USAGE SHARED",
    ];
    let lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(headers.iter().all(|header| lines.iter().any(|line| line == header)), "{text}");
    let json = env.wharf(&["system", "df", "-v", "--format", "json"]).success().stdout;
    let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(value["Images"][0]["Repository"], "app");
    assert_eq!(
        value["Volumes"][0],
        serde_json::json!({ "Name": "vol", "Links": "0", "Size": value["Volumes"][0]["Size"] })
    );
    let shared = |shared: &str| {
        let items = value["BuildCache"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter(|item| item["CacheType"] == "regular" && item["Shared"] == shared).count()
    };
    // two layers are the image's, one is the other stage's
    assert_eq!((shared("true"), shared("false")), (2, 1), "{json}");
    let template = ["system", "df", "-v", "--format", "{{range .Images}}{{.Tag}} {{.Containers}}{{end}}"];
    assert_eq!(env.wharf(&template).success().stdout, "latest 0\n");
}

#[test]
fn a_build_loses_none_of_its_own_cache_to_its_limit() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    // `late` is only looked for when `early`, which has to be made anew, is there; a linked copy is found on any base
    env.file("Dockerfile", "FROM scratch\nCOPY early /\nCOPY --link late /\n");
    env.file("early", "1".repeat(100_000));
    env.file("late", "2".repeat(100_000));
    env.wharf(&["build", "-t", "app", "."]).success();
    env.wharf(&["rmi", "app"]).success();
    env.file("early", "3".repeat(100_000));
    let said = env.wharf(&["build", "--progress=plain", "--keep-storage", "1k", "."]).success().stderr;
    let step = said.lines().find_map(|line| line.strip_suffix(" [3/3] COPY --link late /")).expect("the step is shown");
    assert!(said.contains(&format!("{step} CACHED\n")), "{said}");
}
