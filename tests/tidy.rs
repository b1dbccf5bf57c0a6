//! The house rules that neither the compiler nor clippy checks, as tests over the source tree (CONTRIBUTING.md tells why).
//!
//! Each test names its rule. It first lets the rule find the faults planted in the test, so that no rule passes because it
//! sees nothing, and then expects none in the tree; a failure lists `file:line`.
//!
//! Rules about code look at [`Source::code`], where comments and literals are blank, so a planted fault in a string is none.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What git ignores or keeps for itself.
const NOT_OURS: &[&str] = &[".git", "target", "demo-work"];

/// Files that make system calls for which no safe wrapper exists; each opens with `#![expect(unsafe_code, reason = "…")]`.
const UNSAFE_FILES: &[&str] =
    &["runtime/src/child.rs", "runtime/src/network/sys.rs", "runtime/src/sys.rs", "runtime/init/main.rs"];

/// The build script, which cargo talks to through the environment and standard output.
const BUILD_SCRIPT: &str = "runtime/build.rs";

/// The key of a certificate that only the tests trust, for a server on loopback.
const TEST_KEY: &str = "registry-client/tests/against_registry/localhost.key";

/// Who may use whom: crate, its dependencies, its dependencies in tests.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("oci", &[], &[]),
    ("dockerfile", &[], &[]),
    ("runtime", &[], &["test-support"]),
    ("layer-store", &["oci"], &["test-support"]),
    ("http-transport", &[], &[]),
    ("registry-client", &["oci", "http-transport"], &["test-support"]),
    ("remote-files", &["oci", "http-transport"], &["test-support"]),
    ("ssh-agent", &[], &[]),
    (
        "builder",
        &["oci", "layer-store", "registry-client", "remote-files", "ssh-agent", "runtime", "dockerfile"],
        &["test-support"],
    ),
    (
        "wharf",
        &[
            "oci",
            "layer-store",
            "http-transport",
            "registry-client",
            "remote-files",
            "ssh-agent",
            "runtime",
            "dockerfile",
            "builder",
        ],
        &["test-support"],
    ),
    ("test-support", &["oci"], &[]),
    ("benches", &[], &[]),
];

/// Crates that are plain blocking code.
const BLOCKING: &[&str] = &["oci", "layer-store", "dockerfile", "ssh-agent", "runtime"];

/// A line at which a rule is broken.
type Faults = Vec<usize>;

#[test]
fn every_rust_file_opens_with_what_it_is_for() {
    check(is_rust, rust("fn main() {}\n"), rust("//! Starts the program.\n"), |source| {
        lines_where(&first_line(&source.text), |line| !line.starts_with("//! "))
    });
}

#[test]
fn no_rust_file_has_more_than_800_lines() {
    let (long, short) = ("\n".repeat(801), "\n".repeat(800));
    check(is_rust, rust(&long), rust(&short), |source| {
        let lines = source.text.lines().count();
        if lines > 800 { vec![lines] } else { vec![] }
    });
}

#[test]
fn unsafe_code_stands_only_in_the_listed_files() {
    let planted = rust("fn f() { unsafe { g() } }\n");
    check(is_rust, planted, rust("#![forbid(unsafe_code)]\nlet x = \"unsafe\"; // unsafe\n"), |source| {
        if UNSAFE_FILES.contains(&source.path.as_str()) {
            return vec![];
        }
        let relaxed = ["expect(unsafe_code", "allow(unsafe_code", "warn(unsafe_code"];
        lines_where(&source.code, |line| has_word(line, "unsafe") || has_any(line, &relaxed))
    });
}

#[test]
fn no_module_is_named_for_nothing() {
    const NAMES: &[&str] = &["util", "utils", "common", "misc", "types", "manager", "helpers"];
    let planted = Source::new("oci/src/util.rs", "//! Things.\n");
    check(is_rust, planted, Source::new("oci/src/digest.rs", "mod types_of_layers;\n"), |source| {
        let named = Path::new(&source.path).iter().any(|part| {
            let part = part.to_string_lossy();
            NAMES.contains(&part.strip_suffix(".rs").unwrap_or(&part))
        });
        if named {
            return vec![1];
        }
        lines_where(&source.code, |line| NAMES.iter().any(|name| has_any(line, &[&format!("mod {name} {{")])))
    });
}

#[test]
fn nothing_is_unfinished_switched_off_or_left_from_debugging() {
    const MARKS: &[&str] = &["todo!(", "unimplemented!(", "#[ignore", "dbg!("];
    let planted = rust("#[ignore = \"slow\"]\nfn f() { todo!() }\n");
    check(is_rust, planted, rust("// todo!() is banned\nlet x = \"dbg!(x)\";\n"), |source| {
        lines_where(&source.code, |line| has_any(line, MARKS))
    });
}

#[test]
fn unwrap_is_for_tests() {
    let planted = rust("#[cfg(test)]\nmod tests;\nfn f() { g().unwrap() }\n");
    let innocent = rust("fn f() { g().unwrap_or(1); }\n#[cfg(test)]\nmod tests {\n    fn t() { f().unwrap() }\n}\n");
    check(is_product, planted, innocent, |source| {
        lines_where(before_tests(&source.code), |line| line.contains(".unwrap()"))
    });
}

#[test]
fn work_to_be_done_names_its_issue() {
    let planted = rust(concat!("// TO", "DO: later\n"));
    let innocent = rust("// TODO(#12): later\nlet todo = 1;\n");
    check(is_rust, planted, innocent, |source| {
        lines_where(&source.comments, |line| {
            let issue = |rest: &str| {
                let number = rest.strip_prefix("(#").and_then(|rest| rest.split_once("):")).map(|(number, _)| number);
                number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
            };
            let marks = ["TODO", "FIXME", "XXX"];
            marks.iter().any(|mark| has_word(line, mark) && !line.split(mark).skip(1).all(issue))
        })
    });
}

#[test]
fn only_the_configuration_of_the_command_line_reads_the_environment() {
    const READS: &[&str] = &["env::var", "env::temp_dir", "env::home_dir", "env::set_var", "env::remove_var"];
    check(is_rust, rust("let x = std::env::var(\"HOME\");\n"), rust("let x = env!(\"CARGO_PKG_NAME\");\n"), |source| {
        if source.path == "src/config.rs" || source.path == BUILD_SCRIPT {
            return vec![];
        }
        lines_where(&source.code, |line| has_any(line, READS) || (line.contains("env::{") && line.contains("var")))
    });
}

#[test]
fn libraries_print_nothing_and_do_not_end_the_process() {
    const PRINTS: &[&str] = &["println!(", "print!(", "process::exit("];
    let planted = Source::new("oci/src/digest.rs", "fn f() { eprintln!(\"hi\") }\n");
    let innocent = Source::new("src/main.rs", "fn f() { println!(\"hi\") }\n");
    check(is_product, planted, innocent, |source| {
        if source.path.starts_with("src/") || source.path == BUILD_SCRIPT {
            return vec![];
        }
        lines_where(before_tests(&source.code), |line| has_any(line, PRINTS))
    });
}

#[test]
fn no_file_names_the_host_of_a_package_registry() {
    let hosts = [
        concat!("crates", ".io"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("npmjs", ".org"),
        concat!("npmjs", ".com"),
        concat!("deb.debian", ".org"),
        concat!("security.debian", ".org"),
        concat!("snapshot.debian", ".org"),
        concat!("proxy.golang", ".org"),
    ];
    let planted = Source::new("README.md", &format!("from {}\n", hosts[5]));
    check(is_ours, planted, Source::new("README.md", "from Debian\n"), |source| {
        lines_where(&source.text, |line| has_any(line, &hosts))
    });
}

#[test]
fn no_file_holds_a_secret() {
    let marks = [
        concat!("PRIVATE ", "KEY-----"),
        concat!("AK", "IA"),
        concat!("gh", "p_"),
        concat!("github", "_pat_"),
        concat!("gl", "pat-"),
        concat!("xox", "b-"),
    ];
    let planted = Source::new("testdata/key.pem", &format!("-----BEGIN {}\n", marks[0]));
    let judged = |source: &Source| is_ours(source) && source.path != TEST_KEY;
    check(judged, planted, Source::new("README.md", "keep your keys\n"), |source| {
        lines_where(&source.text, |line| has_any(line, &marks))
    });
}

#[test]
fn no_line_ends_in_white_space() {
    let judged = |source: &Source| is_ours(source) && !source.path.starts_with("testdata/");
    check(judged, Source::new("README.md", "a \n"), Source::new("README.md", "a\n"), |source| {
        source
            .text
            .split('\n')
            .enumerate()
            .filter(|(_, line)| line.ends_with([' ', '\t', '\r']))
            .map(|(n, _)| n + 1)
            .collect()
    });
}

#[test]
fn manifests_take_versions_and_lints_from_the_workspace() {
    let planted = Source::new("oci/Cargo.toml", "[dependencies]\nserde = \"1\"\n[lints]\nworkspace = true\n");
    let innocent = Source::new("oci/Cargo.toml", "[dependencies]\nserde.workspace = true\n[lints]\nworkspace = true\n");
    let judged = |source: &Source| source.path.ends_with("/Cargo.toml") && !source.path.starts_with("fuzz/");
    check(judged, planted, innocent, |source| {
        let mut section = "";
        let mut faults = vec![];
        for (number, line) in source.text.lines().enumerate() {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") && line.contains('=') && !line.contains("workspace = true") {
                faults.push(number + 1);
            }
        }
        if !source.text.contains("[lints]\nworkspace = true") {
            faults.push(1);
        }
        faults
    });
}

#[test]
fn decisions_say_context_decision_and_consequences() {
    let planted = Source::new("docs/adr/0001-x.md", "# 1. X\n\n## Context\n\n## Decision\n");
    let innocent = Source::new("docs/adr/0001-x.md", "# 1. X\n\n## Context\n\n## Decision\n\n## Consequences\n");
    check(
        |source| source.path.starts_with("docs/adr/"),
        planted,
        innocent,
        |source| {
            let complete =
                ["## Context", "## Decision", "## Consequences"].iter().all(|part| source.text.contains(part));
            if complete { vec![] } else { vec![1] }
        },
    );
}

#[test]
fn what_architecture_names_exists() {
    let planted = Source::new("ARCHITECTURE.md", "the `oci/src/no_such_file.rs`\n");
    let innocent = Source::new("ARCHITECTURE.md", "the `oci/src/digest.rs` in `oci/`, never `blobs/sha256/<hex>/`\n");
    check(
        |source| source.path == "ARCHITECTURE.md",
        planted,
        innocent,
        |source| {
            let is_missing = |name: &str| {
                let is_path = name.contains('/') && (name.ends_with(".rs") || name.ends_with('/'));
                is_path
                    && !name.contains(['<', ' ', '*', '$'])
                    && !name.starts_with(['~', '/'])
                    && !root().join(name).exists()
            };
            // Inside of the map, names are relative to the heading; the next rule looks at them.
            let prose = source.text.lines().filter(|line| !line.starts_with("| `")).collect::<Vec<_>>().join("\n");
            lines_where(&prose, |line| line.split('`').skip(1).step_by(2).any(is_missing))
        },
    );
}

#[test]
fn the_code_map_names_every_source_file_and_no_other() {
    let map = "### `a/src/`\n\n| `x.rs` | X. |\n\n## Then\n\n| `y.rs` | Y. |\n";
    assert_eq!(mapped(map), BTreeSet::from(["a/src/x.rs".to_owned()]), "the map is read wrongly");

    let files = tree();
    let in_tree = files.iter().filter(|file| is_rust(file) && file.path.contains("src/")).map(|file| file.path.clone());
    let (in_tree, mapped): (BTreeSet<_>, _) = (in_tree.collect(), mapped(&text_of(&files, "ARCHITECTURE.md")));
    let differences: Vec<_> = in_tree.symmetric_difference(&mapped).collect();
    assert!(differences.is_empty(), "run scripts/code-map.sh: {differences:#?}");
}

#[test]
fn architecture_and_changelog_know_every_crate() {
    let files = tree();
    let mut missing = vec![];
    for (_, directory) in members() {
        let named = format!("`{directory}/`");
        // The change log is for users, who see the crates that can be used alone.
        let is_library = !directory.starts_with("tests") && directory != "src" && directory != "benches";
        let pages = if is_library { &["ARCHITECTURE.md", "CHANGELOG.md"][..] } else { &["ARCHITECTURE.md"] };
        let lacking = pages.iter().filter(|page| !text_of(&files, page).contains(&named));
        missing.extend(lacking.map(|page| format!("{page}: {named}")));
    }
    assert!(missing.is_empty(), "missing:\n  {}", missing.join("\n  "));
}

#[test]
fn crates_depend_downward_only() {
    let planted =
        [("oci".to_owned(), "runtime".to_owned(), Kind::Normal), ("oci".to_owned(), "tokio".to_owned(), Kind::Dev)];
    assert_eq!(wrong_edges(&planted).len(), 2, "the rule does not see what it is for");
    let fine = ("builder".to_owned(), "oci".to_owned(), Kind::Normal);
    assert!(wrong_edges(&[fine]).is_empty(), "the rule sees what is not there");

    let edges = edges();
    assert!(edges.len() > 30, "found only {} edges", edges.len());
    let wrong = wrong_edges(&edges);
    assert!(wrong.is_empty(), "edges that may not be (see EDGES):\n  {}", wrong.join("\n  "));
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "let a = \"x // y\"; // c\nlet b = r#\"\"q\"\"#; /* d /* e */ f */ let c = '\"'; let d: &'a str = b\"\\\"z\";\n";
    let source = rust(text);
    assert_eq!(source.code.split_whitespace().collect::<String>(), "leta=;letb=;letc=;letd:&'astr=;");
    assert_eq!(source.comments.split_whitespace().collect::<String>(), "//c/*d/*e*/f*/");
    assert_eq!(source.code.len(), text.len());
}

/// Checks that `rule` finds what is planted, nothing in the innocent, and nothing in the files of the tree that are `judged`.
#[track_caller]
fn check(judged: impl Fn(&Source) -> bool, planted: Source, innocent: Source, rule: impl Fn(&Source) -> Faults) {
    assert!(judged(&planted) && !rule(&planted).is_empty(), "the rule does not see what it is for");
    assert!(rule(&innocent).is_empty(), "the rule sees what is not there: lines {:?}", rule(&innocent));
    let files = tree();
    let judged: Vec<_> = files.iter().filter(|source| judged(source)).collect();
    assert!(!judged.is_empty(), "no file is judged");
    let mut faults = String::new();
    for source in judged {
        for line in rule(source) {
            let text = source.text.lines().nth(line - 1).unwrap_or_default().trim();
            write!(faults, "\n  {}:{line}: {text}", source.path).expect("a string can be written");
        }
    }
    assert!(faults.is_empty(), "the rule is broken at{faults}");
}

/// A text file of the tree.
struct Source {
    /// Relative to the root of the workspace.
    path: String,
    text: String,
    /// The text of a Rust file with everything but code blank, line by line as long as before; empty for other files.
    code: String,
    /// The same for comments.
    comments: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let (code, comments) = if path.ends_with(".rs") { views(text) } else { (String::new(), String::new()) };
        Self { path: path.to_owned(), text: text.to_owned(), code, comments }
    }
}

fn rust(text: &str) -> Source {
    Source::new("oci/src/planted.rs", text)
}

fn is_rust(source: &Source) -> bool {
    source.path.ends_with(".rs")
}

/// Written by us; the lock file is cargo's.
fn is_ours(source: &Source) -> bool {
    !source.path.ends_with("Cargo.lock")
}

/// Rust that ends up in the binary.
fn is_product(source: &Source) -> bool {
    is_rust(source)
        && !Path::new(&source.path).iter().any(|part| part == "tests" || part == "tests.rs" || part == "benches")
}

/// The code up to the module of tests that closes the file.
fn before_tests(code: &str) -> &str {
    let opens = |at: &usize| code[*at..].lines().nth(1).is_some_and(|line| line.ends_with('{'));
    let end = code.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| at).find(opens);
    end.map_or(code, |at| &code[..at])
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn lines_where(view: &str, broken: impl Fn(&str) -> bool) -> Faults {
    let numbered = if view.is_empty() { vec![(0, "")] } else { view.lines().enumerate().collect() };
    numbered.into_iter().filter(|(_, line)| broken(line)).map(|(number, _)| number + 1).collect()
}

fn has_any(line: &str, needles: &[&str]) -> bool {
    needles.iter().any(|needle| line.contains(needle))
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == word)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(files: &[Source], path: &str) -> String {
    files.iter().find(|file| file.path == path).map(|file| file.text.clone()).unwrap_or_default()
}

/// The files that a code map names: the first column of each table, below the directory of its heading.
fn mapped(text: &str) -> BTreeSet<String> {
    let (mut directory, mut files) = (None, BTreeSet::new());
    for line in text.lines() {
        if line.starts_with('#') {
            directory = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`'));
        } else if let (Some(directory), Some(rest)) = (directory, line.strip_prefix("| `")) {
            files.insert(format!("{directory}{}", rest.split('`').next().unwrap_or_default()));
        }
    }
    files
}

/// Reads every text file of the workspace.
fn tree() -> Vec<Source> {
    let (mut sources, mut directories) = (vec![], vec![root()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the workspace can be read") {
            let entry = entry.expect("a directory of the workspace can be read");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && !NOT_OURS.contains(&name.as_str()) {
                directories.push(path);
            } else if kind.is_file()
                && !name.ends_with(".swp")
                && let Ok(text) = fs::read_to_string(&path)
            {
                let relative =
                    path.strip_prefix(root()).expect("it lies below the root").to_string_lossy().into_owned();
                sources.push(Source::new(&relative, &text));
            }
        }
    }
    assert!(sources.len() > 50, "found only {} files", sources.len());
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

/// Splits Rust into code and comments; what does not belong to a view is blank there.
fn views(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments, mut at) = (String::new(), String::new(), 0);
    while at < chars.len() {
        let rest = &chars[at..];
        let comment = comment_length(rest);
        let joined = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        let literal = if joined { string_length(rest) } else { literal_length(rest) };
        let length = comment.or(literal).unwrap_or(1);
        for &c in &rest[..length] {
            let is_code = comment.is_none() && literal.is_none();
            push(&mut code, c, is_code);
            push(&mut comments, c, comment.is_some());
        }
        at += length;
    }
    (code, comments)
}

fn push(view: &mut String, c: char, is_kept: bool) {
    if is_kept || c == '\n' {
        view.push(c);
    } else {
        (0..c.len_utf8()).for_each(|_| view.push(' '));
    }
}

fn comment_length(rest: &[char]) -> Option<usize> {
    match rest {
        ['/', '/', ..] => Some(rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())),
        ['/', '*', ..] => {
            let (mut depth, mut at) = (1, 2);
            while depth > 0 && at < rest.len() {
                let (change, length) = match &rest[at..] {
                    ['/', '*', ..] => (1, 2),
                    ['*', '/', ..] => (-1, 2),
                    _ => (0, 1),
                };
                (depth, at) = (depth + change, at + length);
            }
            Some(at)
        }
        _ => None,
    }
}

/// The length of the literal that starts here, which may have a prefix.
fn literal_length(rest: &[char]) -> Option<usize> {
    let prefix = usize::from(matches!(rest, ['b' | 'c', '"' | '\'' | 'r', ..]));
    let (raw, rest_of_it) = match &rest[prefix..] {
        ['r', after @ ..] => (true, after),
        other => (false, other),
    };
    if !raw {
        return string_length(rest_of_it).map(|length| prefix + length);
    }
    let hashes = rest_of_it.iter().take_while(|c| **c == '#').count();
    if rest_of_it.get(hashes) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = &rest_of_it[hashes + 1..];
    let length = body
        .windows(end.len())
        .position(|window| window == end.as_slice())
        .unwrap_or(body.len().saturating_sub(end.len()));
    Some(prefix + 1 + hashes + 1 + length + end.len())
}

/// The length of the plain string or character that starts here; a lifetime is none.
fn string_length(rest: &[char]) -> Option<usize> {
    let quote = *rest.first()?;
    let is_character = quote == '\'' && (rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\''));
    if quote != '"' && !is_character {
        return None;
    }
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    Some((at + 1).min(rest.len()))
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Normal,
    Dev,
    Build,
}

fn wrong_edges(edges: &[(String, String, Kind)]) -> Vec<String> {
    let is_wrong = |(from, to, kind): &&(String, String, Kind)| {
        let Some((_, normal, dev)) = EDGES.iter().find(|(name, ..)| name == from) else { return true };
        let is_ours = EDGES.iter().any(|(name, ..)| name == to);
        let is_allowed = normal.contains(&to.as_str()) || (*kind == Kind::Dev && dev.contains(&to.as_str()));
        (is_ours && (!is_allowed || *kind == Kind::Build)) || (to == "tokio" && BLOCKING.contains(&from.as_str()))
    };
    edges.iter().filter(is_wrong).map(|(from, to, _)| format!("{from} -> {to}")).collect()
}

/// Every dependency that a crate of the workspace names: from, to, kind; our crates by the names of [`EDGES`].
fn edges() -> Vec<(String, String, Kind)> {
    let mut edges = vec![];
    for package in packages() {
        for dependency in package["dependencies"].as_array().expect("it is a list") {
            let kind = match dependency["kind"].as_str() {
                None => Kind::Normal,
                Some("dev") => Kind::Dev,
                Some(_) => Kind::Build,
            };
            edges.push((short_name(&package["name"]), short_name(&dependency["name"]), kind));
        }
    }
    edges
}

/// The crates of the workspace with their directories.
fn members() -> Vec<(String, String)> {
    let directory = |package: &serde_json::Value| {
        let manifest = PathBuf::from(package["manifest_path"].as_str().expect("it is a path"));
        let directory = manifest.parent().expect("a file has a directory").strip_prefix(root()).expect("it is below");
        if directory.as_os_str().is_empty() { "src".to_owned() } else { directory.to_string_lossy().into_owned() }
    };
    packages().iter().map(|package| (short_name(&package["name"]), directory(package))).collect()
}

fn short_name(name: &serde_json::Value) -> String {
    let name = name.as_str().expect("it is a name");
    name.strip_prefix("wharf-").unwrap_or(name).to_owned()
}

fn packages() -> Vec<serde_json::Value> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(root());
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"].as_array().expect("it is a list").clone()
}
