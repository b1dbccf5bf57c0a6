//! A second opinion on every golden Dockerfile that is right: the crate `parse-dockerfile`.
//!
//! Both must see the same instructions in the same order, and stages of the same bases and names. Where they do not, [`DISAGREEMENTS`] says why ours is what docker does
//! (`docs/adr/0001-own-dockerfile-parser.md`); a case that is listed there and agrees after all fails, so the list stays true.

use std::collections::BTreeSet;
use std::path::Path;

use parse_dockerfile::Instruction;

/// A case, and what the other crate makes of it.
const DISAGREEMENTS: &[(&str, &str)] = &[
    ("heredoc-run-several", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-blank-before-the-name", "knows no blank between `<<` and the name"),
    ("heredoc-run-names-of-two-that-are-equal", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-with-a-command", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-with-a-descriptor", "knows no descriptor before `<<`"),
    ("heredoc-run-behind-a-continuation", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-after-a-colon-trim-is-none", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-in-a-subshell", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-name-with-a-variable", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-name-with-an-escape", "knows heredocs of RUN as its first word only"),
    ("heredoc-run-with-backtick-as-escape", "knows heredocs of RUN as its first word only"),
    ("heredoc-copy-with-a-descriptor", "knows no descriptor before `<<`"),
    ("run-heredoc-mixed", "knows heredocs of RUN as its first word only"),
    ("run-heredoc-empty-body", "knows heredocs of RUN as its first word only"),
    ("copy-heredocs", "knows no name that is quoted in part"),
    ("copy-all-flags", "does not know `--` as the end of the flags"),
    ("flag-quoted-double-dash", "does not know `--` as the end of the flags"),
    ("flag-double-dash-ends-flags", "does not know `--` as the end of the flags"),
    ("directive-flush-then-indented", "knows no blanks before a directive"),
    ("directive-indented", "knows no blanks before a directive"),
    ("directive-without-a-value", "takes `# escape=` for a directive, not for a comment"),
    ("continuations", "goes on after an escaped escape character"),
    ("line-continuation-escaped", "goes on after an escaped escape character"),
    ("line-ends-with-three-backslashes", "goes on after an escaped escape character"),
    ("cmd-forms", "wants a command after ENTRYPOINT"),
];

/// Writes down what both parsers have for the FROM of a stage.
fn from(image: &str, name: Option<&str>) -> String {
    name.map_or_else(|| format!("FROM {image}"), |name| format!("FROM {image} AS {name}"))
}

/// Returns the FROMs and the keywords of a file as this crate reads them; `None` when it has mistakes.
fn ours(source: &str) -> Option<Vec<String>> {
    let parsed = dockerfile::parse(source);
    if parsed.has_errors() {
        return None;
    }
    let dockerfile = parsed.dockerfile;
    let mut keywords = vec!["ARG".to_owned(); dockerfile.global_args.len()];
    for stage in &dockerfile.stages {
        let name = stage.from.value.name.as_ref().map(|name| name.text.as_str());
        keywords.push(from(stage.from.value.image.text(), name));
        keywords.extend(stage.instructions.iter().map(|located| located.value.keyword().to_owned()));
    }
    Some(keywords)
}

/// Returns the same as the other crate reads it; its variants are named for the keywords.
fn theirs(source: &str) -> Result<Vec<String>, String> {
    let parsed = parse_dockerfile::parse(source).map_err(|error| error.to_string())?;
    let shown = |instruction: &Instruction<'_>| match instruction {
        Instruction::From(found) => from(&found.image.value, found.as_.as_ref().map(|(_, name)| name.value.as_ref())),
        other => format!("{other:?}").split('(').next().unwrap_or_default().to_uppercase(),
    };
    Ok(parsed.instructions.iter().map(shown).collect())
}

fn compare(case: &Path) -> Option<(String, String)> {
    let bytes = std::fs::read(case.join("Dockerfile")).expect("a case has a Dockerfile");
    let (source, not_text) = dockerfile::decode(&bytes);
    let ours = ours(&source).filter(|_| not_text.is_empty())?;
    let name = case.file_name()?.to_string_lossy().into_owned();
    match theirs(&source) {
        Ok(theirs) if theirs == ours => Some((name, String::new())),
        Ok(theirs) => Some((name, format!("reads {theirs:?} instead of {ours:?}"))),
        Err(error) => Some((name, error)),
    }
}

#[test]
fn another_parser_sees_the_same_instructions_but_where_it_is_known_to_err() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile");
    let cases = std::fs::read_dir(cases).expect("the cases are in the repository");
    let opinions: Vec<_> = cases.filter_map(|case| compare(&case.ok()?.path())).collect();
    assert!(opinions.len() > 215, "only {} cases were compared", opinions.len());
    let known: BTreeSet<_> = DISAGREEMENTS.iter().map(|(case, _)| *case).collect();
    let unexpected: Vec<_> = opinions
        .iter()
        .filter(|(name, difference)| difference.is_empty() == known.contains(name.as_str()))
        .map(|(name, difference)| format!("{name}: {}", if difference.is_empty() { "agrees" } else { difference }))
        .collect();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
}
