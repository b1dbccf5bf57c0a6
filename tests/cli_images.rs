//! `images`, `history`, `inspect`, `tag`, `rmi`, `image prune`, `builder prune`, `system df`, on an image built from scratch.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use test_support::TestEnv;

const DOCKERFILE: &str = "FROM scratch\nCOPY hello.txt /\nENV X=1\nLABEL team=a\nCMD [\"/hello\"]\n";

/// An environment with the image `app:latest`, whose ID is returned too.
fn with_image() -> (TestEnv, String) {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    env.file("Dockerfile", DOCKERFILE);
    env.file("hello.txt", "hello\n");
    let id = build(&env);
    (env, id)
}

fn build(env: &TestEnv) -> String {
    let built = env.wharf(&["build", "-q", "-t", "app", "."]).success();
    assert_eq!(built.stderr, "");
    built.stdout.trim().to_owned()
}

/// Checks what a command prints, with short IDs written as `ID`.
#[track_caller]
fn check(env: &TestEnv, id: &str, line: &str, expected: &str) {
    let arguments: Vec<&str> = line.split(' ').collect();
    let output = env.wharf(&arguments).success();
    let short = &id["sha256:".len()..][..12];
    assert_eq!(output.stdout.replace(id, "WHOLE-ID").replace(short, "ID"), expected, "{line}");
    assert_eq!(output.stderr, "", "{line}");
}

#[test]
fn an_image_is_listed_under_each_of_its_names() {
    let (env, id) = with_image();
    env.wharf(&["tag", "app", "team/app:2"]).success();
    let format = ["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}}"];
    let listed = env.wharf(&format).success().stdout;
    let short = &id["sha256:".len()..][..12];
    assert_eq!(listed, format!("app:latest {short} 6B\nteam/app:2 {short} 6B\n"));
    let table = env.wharf(&["images"]).success().stdout;
    let header: Vec<&str> = table.lines().next().unwrap_or_default().split("  ").map(str::trim).collect();
    let header: Vec<&str> = header.into_iter().filter(|title| !title.is_empty()).collect();
    assert_eq!(header, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    check(&env, &id, "images -q", "ID\nID\n");
    check(&env, &id, "image ls -q --no-trunc app", "WHOLE-ID\n");
    check(&env, &id, "images -q --filter label=team=a --filter reference=team/*", "ID\n");
    check(&env, &id, "images -q --filter dangling=true", "");
    check(&env, &id, "images -q --filter label=team=b", "");
}

#[test]
fn history_shows_each_instruction_and_what_it_added() {
    let (env, id) = with_image();
    let expected = "\
ID|CMD [\"/hello\"]|0B
<missing>|LABEL team=a|0B
<missing>|ENV X=1|0B
<missing>|COPY hello.txt / # buildkit|6B
";
    check(&env, &id, "history --format {{.ID}}|{{.CreatedBy}}|{{.Size}} app", expected);
    check(&env, &id, "image history -q app", "ID\n<missing>\n<missing>\n<missing>\n");
}

#[test]
fn inspect_gives_dockers_json_and_finds_images_by_any_name() {
    let (env, id) = with_image();
    let json = env.wharf(&["inspect", "app"]).success().stdout;
    let value: serde_json::Value = serde_json::from_str(&json).expect("inspect prints JSON");
    assert_eq!(value[0]["Id"], id.as_str());
    assert_eq!(value[0]["RepoTags"], serde_json::json!(["app:latest"]));
    assert_eq!(value[0]["Config"]["Labels"], serde_json::json!({ "team": "a" }));
    assert_eq!(value[0]["RootFS"]["Layers"].as_array().map(Vec::len), Some(1));
    for name in [&id, &id["sha256:".len()..], &id["sha256:".len()..][..4], "app:latest", "docker.io/library/app"] {
        check(&env, &id, &format!("inspect -f {{{{.Id}}}} {name}"), "WHOLE-ID\n");
    }
}

#[test]
fn inspect_with_its_verb_in_the_wrong_place_shows_what_exists_and_says_so() {
    let (env, id) = with_image();
    let output = env.wharf(&["inspect", "-f", "{{.Id}}", "image", "app"]).exits_with(1);
    assert_eq!(output.stdout, format!("{id}\n"));
    assert_eq!(output.stderr, "error: no image is called `image`\nhint: did you mean `wharf image inspect`?\n");
    let output = env.wharf(&["image", "inspect", "nope"]).exits_with(1);
    assert_eq!(output.stdout, "[]\n");
}

#[test]
fn the_last_name_takes_the_image_with_it() {
    let (env, id) = with_image();
    env.wharf(&["tag", "app", "app:2"]).success();
    check(&env, &id, "rmi app:2", "Untagged: app:2\n");
    let removed = env.wharf(&["rmi", "nope", "app"]).exits_with(1);
    assert_eq!(removed.stdout, format!("Untagged: app:latest\nDeleted: {id}\n"));
    assert!(removed.stderr.starts_with("error: no image is called `nope`\n"), "{}", removed.stderr);
    check(&env, &id, "images -q", "");
    env.wharf(&["rmi", "-f", "nope"]).success();
}

#[test]
fn an_id_with_names_in_several_repositories_is_only_removed_by_force() {
    let (env, id) = with_image();
    env.wharf(&["tag", "app", "other:1"]).success();
    let refused = env.wharf(&["rmi", &id]).exits_with(1);
    assert!(refused.stderr.contains("app:latest") && refused.stderr.contains("other:1"), "{}", refused.stderr);
    check(&env, &id, "rmi -f app", "Untagged: app:latest\n");
    check(&env, &id, &format!("rmi {id}"), "Untagged: other:1\nDeleted: WHOLE-ID\n");
}

#[test]
fn prune_removes_what_has_no_name_and_says_what_it_would() {
    let (env, first) = with_image();
    env.file("hello.txt", "hello again\n");
    let second = build(&env);
    check(&env, &first, "images -q --no-trunc --filter dangling=true", "WHOLE-ID\n");
    let planned = env.wharf(&["image", "prune", "--dry-run"]).success().stdout;
    assert!(planned.contains(&format!("would remove image {first}")), "{planned}");
    let declined = env.wharf_with_input(&["image", "prune"], "n\n").success().stdout;
    assert!(declined.ends_with("[y/N] "), "{declined}");
    check(&env, &first, "images -q --no-trunc --filter dangling=true", "WHOLE-ID\n");
    let pruned = env.wharf(&["image", "prune", "-f"]).success().stdout;
    assert!(pruned.starts_with(&format!("Deleted Images:\ndeleted: {first}\n")), "{pruned}");
    assert!(pruned.contains("\nTotal reclaimed space: "), "{pruned}");
    check(&env, &second, "images -q --no-trunc", "WHOLE-ID\n");
    let pruned = env.wharf_with_input(&["image", "prune", "-a"], "y\n").success().stdout;
    assert!(pruned.contains("untagged: app:latest\n"), "{pruned}");
    env.wharf(&["builder", "prune", "-af"]).success();
    let is_its_own =
        |file: &String| ["leases/lock", "/version.json", "/flushed"].iter().any(|name| file.ends_with(name));
    let left: Vec<_> = files(&env.store()).into_iter().filter(|file| !is_its_own(file)).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn the_rows_of_df_add_up_to_what_du_finds() {
    let (env, _) = with_image();
    let rows = env.wharf(&["system", "df", "--format", "{{.Type}}={{.Size}}"]).success().stdout;
    let titles: Vec<&str> = rows.lines().filter_map(|row| row.split('=').next()).collect();
    assert_eq!(titles, ["Images", "Containers", "Local Volumes", "Build Cache", "Other"]);
    let sum: f64 = rows.lines().filter_map(|row| row.split('=').nth(1)).map(bytes).sum();
    let du = std::process::Command::new("du").args(["-s", "--block-size=1"]).arg(env.store()).output();
    let du = String::from_utf8(du.expect("du runs").stdout).expect("du prints text");
    let du: f64 = du.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("du prints bytes");
    // four digits are shown of each row
    assert!((sum - du).abs() < du / 500.0, "{sum} {du}\n{rows}");
}

/// Reads a size as `system df` prints it.
fn bytes(size: &str) -> f64 {
    let units = [("MB", 1e6), ("kB", 1e3), ("B", 1.0)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| size.strip_suffix(unit).map(|number| (number, factor)))
        .expect("a size has a unit");
    number.parse::<f64>().expect("a size is a number") * factor
}

fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("the store can be read") {
        let path = entry.expect("the store can be read").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

#[test]
fn a_reader_that_stops_ends_the_command_quietly() {
    let (env, _) = with_image();
    let mut command = env.command();
    let child = command.args(["inspect", "app"]).stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    let mut child = child.spawn().expect("the program starts");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("it is piped").read_to_string(&mut stderr).expect("stderr can be read");
    let code = child.wait().expect("a child can be waited for").code();
    // whether it noticed depends on who was faster
    assert!(code == Some(141) || code == Some(0), "{code:?}");
    assert_eq!(stderr, "");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_with_125() {
    let env = TestEnv::new(env!("CARGO_BIN_EXE_wharf"));
    for line in ["images --tree", "nope", "tag a", "images --filter nope", "run -d app", "build -f - -"] {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert_eq!(env.wharf(&arguments).exits_with(125).stdout, "", "{line}");
    }
    env.wharf(&["--help"]).success();
}
