//! Golden cases of checks: `testdata/check/<case>/Dockerfile` gives `expected.txt` beside it.
//!
//! | file of a case | says |
//! |---|---|
//! | `args.txt` | build arguments, `NAME=value` each |
//! | `target.txt` | the stage that is built; without it all are checked |
//! | `bases/*.txt` | an image that is known: lines `name …`, `platform …`, `env …`, `shell …`, `trigger …` |
//! | `dockerignore` | what is left out: paths, `*`, and `!path` |
//!
//! The builder gives the platform arguments of `linux/amd64`. `SNAPSHOTS=overwrite` writes what is found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dockerfile::{BaseFacts, BuildArguments, CheckOptions, Diagnostic, Help, Rule, Severity, Source, check, parse};
use snapbox::{Assert, Data, IntoData as _};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/check");
    let entries = fs::read_dir(root).expect("the cases are in the repository");
    let mut cases: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    cases.sort();
    cases
}

fn pairs(lines: &str) -> BTreeMap<String, String> {
    let pairs = lines.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn builtin() -> BTreeMap<String, String> {
    pairs("TARGETPLATFORM=linux/amd64\nTARGETOS=linux\nTARGETARCH=amd64\nBUILDPLATFORM=linux/amd64\nBUILDARCH=amd64\n")
}

/// Reads an image that is known, and its name.
fn base(text: &str) -> (String, BaseFacts) {
    let mut name = String::new();
    let mut facts = BaseFacts { platform: "linux/amd64".to_owned(), ..BaseFacts::default() };
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match key {
            "name" => value.clone_into(&mut name),
            "platform" => value.clone_into(&mut facts.platform),
            "env" => facts.env.push(value.to_owned()),
            "shell" => facts.shell = Some(value.split(' ').map(str::to_owned).collect()),
            "trigger" => facts.triggers.push(value.to_owned()),
            other => panic!("a base has no `{other}`"),
        }
    }
    (name, facts)
}

fn bases(case: &Path) -> BTreeMap<String, BaseFacts> {
    let Ok(entries) = fs::read_dir(case.join("bases")) else { return BTreeMap::new() };
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    texts.map(|text| base(&text)).collect()
}

/// Finds the line that leaves `path` out, as the builder would, for patterns without wildcards but `*`.
fn ignored_by(patterns: &str, path: &str) -> Option<String> {
    let is_below = |path: &str, directory: &str| path == directory || path.starts_with(&format!("{directory}/"));
    let taken_in = |line: &str| line.strip_prefix('!').is_some_and(|kept| path == "." || is_below(kept, path));
    if patterns.lines().any(taken_in) {
        return None;
    }
    let leaves_out = |line: &str| line == "*" || (path != "." && is_below(path, line));
    patterns.lines().position(leaves_out).map(|at| format!(".dockerignore:{}", at + 1))
}

fn checked(case: &Path, source: &str) -> Vec<Diagnostic> {
    let read = |name: &str| fs::read_to_string(case.join(name)).ok();
    let (target, patterns) = (read("target.txt"), read("dockerignore"));
    let ignored = |path: &str| ignored_by(patterns.as_deref().unwrap_or_default(), path);
    let options = CheckOptions {
        contexts: BTreeSet::new(),
        arguments: BuildArguments { given: pairs(&read("args.txt").unwrap_or_default()), builtin: builtin() },
        target: target.as_deref().map(str::trim),
        bases: bases(case),
        ignored_by: patterns.is_some().then_some(&ignored as &dyn Fn(&str) -> Option<String>),
    };
    check(&parse(source), &options)
}

fn shown(source: &str, diagnostics: &[Diagnostic]) -> String {
    if diagnostics.is_empty() {
        return "nothing\n".to_owned();
    }
    let index = Source::new(source);
    diagnostics.iter().map(|diagnostic| shown_one(source, &index, diagnostic)).collect()
}

fn shown_one(source: &str, index: &Source<'_>, diagnostic: &Diagnostic) -> String {
    let (start, end) = (index.position(diagnostic.span.start), index.position(diagnostic.span.end));
    let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let rule = diagnostic.rule.map(|rule| format!("[{rule}]")).unwrap_or_default();
    let place = format!("{}:{}-{}:{}", start.line, start.column, end.line, end.column);
    let label = diagnostic.label.as_ref().map(|label| format!("  label: {label}\n")).unwrap_or_default();
    let help = match &diagnostic.help {
        Some(Help::DidYouMean(word)) => format!("  did you mean {word}?\n"),
        Some(Help::Note(note)) => format!("  note: {note}\n"),
        None => String::new(),
    };
    let (written, title) = (&source[diagnostic.span.range()], &diagnostic.title);
    format!("{severity}{rule} {place} {written:?}\n  {title}\n{label}{help}")
}

fn check_case(case: &Path) -> Result<BTreeSet<Rule>, String> {
    let source = fs::read_to_string(case.join("Dockerfile")).map_err(|error| format!("{}: {error}", case.display()))?;
    let diagnostics = checked(case, &source);
    let expected = Data::read_from(&case.join("expected.txt"), None).raw();
    let found = shown(&source, &diagnostics).into_data().raw();
    let assert = Assert::new().action_env("SNAPSHOTS");
    assert.try_eq(Some(&case.display()), found, expected).map_err(|error| error.to_string())?;
    Ok(diagnostics.iter().filter_map(|diagnostic| diagnostic.rule).collect())
}

#[test]
fn every_case_gives_what_it_expects_and_every_rule_has_one() {
    let found: Vec<_> = cases().iter().map(|case| check_case(case)).collect();
    let failures: Vec<_> = found.iter().filter_map(|found| found.as_ref().err().cloned()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let seen: BTreeSet<Rule> = found.into_iter().filter_map(Result::ok).flatten().collect();
    let unseen: Vec<_> = Rule::ALL.iter().filter(|rule| !seen.contains(rule)).collect();
    assert!(unseen.is_empty(), "no case for {unseen:?}");
}

#[test]
fn whatever_is_cut_off_a_file_what_is_found_stands_in_it() {
    for case in cases() {
        let source = fs::read_to_string(case.join("Dockerfile")).expect("every case has a Dockerfile");
        for (end, _) in source.char_indices() {
            let cut = &source[..end];
            for diagnostic in checked(&case, cut) {
                let is_inside = cut.get(diagnostic.span.range()).is_some();
                assert!(is_inside, "{}: {diagnostic:?} of {cut:?}", case.display());
            }
        }
    }
}

/// Checks a hostile file. Optimised, all of these take well under a second; the limit allows for a busy machine and no
/// optimisation, and still catches what grows with the square of the input.
fn check_hostile(source: &str) -> Vec<Diagnostic> {
    let parsed = parse(source);
    let start = Instant::now();
    let diagnostics = check(&parsed, &CheckOptions::default());
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}: {:.80}", start.elapsed(), source);
    assert!(diagnostics.len() <= 1002, "{} diagnostics: {source:.80}", diagnostics.len());
    diagnostics
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

#[test]
fn long_chains_of_stages_are_checked_in_a_moment() {
    check_hostile(&lines(
        99_999,
        |n| if n == 0 { "FROM a AS s0\n".into() } else { format!("FROM s{} AS s{n}\n", n - 1) },
    ));
    let chain = |n: usize| format!("FROM s{} AS s{}\nENV A{n}=1\nFROM s{} AS leaf{n}\n", n, n + 1, n + 1);
    check_hostile(&format!("FROM scratch AS s0\n{}", lines(33_000, chain)));
    let copies = |n: usize| format!("FROM scratch AS s{n}\nCOPY --from=s{} / /\n", n + 1);
    check_hostile(&lines(49_999, copies));
    check_hostile(&lines(49_999, |n| format!("FROM scratch AS s\nCOPY --from={} / /\n", n.saturating_sub(1))));
    check_hostile(&lines(99_999, |_| "FROM s AS s\n".to_owned()));
}

#[test]
fn triggers_do_not_multiply_without_bound() {
    let triggers = lines(50_000, |_| "ONBUILD COPY --from=x $a /\n".to_owned());
    check_hostile(&format!("FROM scratch AS s\n{triggers}{}", lines(49_999, |_| "FROM s\n".to_owned())));
}

#[test]
fn variables_without_end_are_checked_in_a_moment() {
    let full = |unit: &str| unit.repeat(60_000 / unit.len());
    check_hostile(&format!("FROM scratch\n{}", lines(68, |_| format!("COPY {} /\n", full("$A ")))));
    check_hostile(&format!("FROM scratch\n{}", lines(68, |_| format!("COPY {} /\n", full("$A")))));
    check_hostile(&format!("FROM scratch\n{}", lines(99_000, |n| format!("ENV A{n}=$B{n}\n"))));
    check_hostile(&lines(99_000, |n| if n % 2 == 0 { format!("ARG A{n}=1\n") } else { format!("FROM a$B{n}\n") }));
    let doubled = lines(20, |_| "ENV A=$A$A\n".to_owned());
    for line in ["ENV B{}=$A\n", "ENV B=${A//x/y}\n", "LABEL b=${A%x*}\n", "EXPOSE $A\n"] {
        let again = lines(50_000, |n| line.replace("{}", &n.to_string()));
        check_hostile(&format!("FROM scratch\nENV A=xxxx\n{doubled}{again}"));
    }
}

#[test]
fn what_is_found_has_a_number_whatever_finds_it() {
    let warnings = check_hostile(&format!("FROM scratch\n{}", lines(10_000, |_| "MAINTAINER a\nENV a b\n".to_owned())));
    assert_eq!(warnings.len(), 501);
    let errors = check_hostile(&format!(
        "# check=error=true\nFROM scratch\n{}",
        lines(10_000, |_| "X\nMAINTAINER a\nENV a b\nSTOPSIGNAL x\n".to_owned())
    ));
    assert_eq!(errors.len(), 501);
    assert!(errors.iter().all(|error| error.severity == Severity::Error));
}
