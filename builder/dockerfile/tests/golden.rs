//! Golden cases: `testdata/dockerfile/<case>/Dockerfile` parses to `ast.txt` beside it.
//!
//! `SNAPSHOTS=overwrite` writes what is found. Every case also has to print to a file that parses to the same AST, unless it
//! has errors, and all of its spans have to lie inside of it.

mod dump;

use std::path::{Path, PathBuf};

use snapbox::{Assert, Data, IntoData as _};

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/dockerfile");
    let mut cases: Vec<_> = std::fs::read_dir(root)
        .expect("the cases are in the repository")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    cases.sort();
    cases
}

fn check(case: &Path) -> Result<(), String> {
    let bytes = std::fs::read(case.join("Dockerfile")).map_err(|error| format!("{}: {error}", case.display()))?;
    let (source, not_text) = dockerfile::decode(&bytes);
    let mut parsed = dockerfile::parse(&source);
    parsed.diagnostics.splice(0..0, not_text);
    for diagnostic in &parsed.diagnostics {
        let range = diagnostic.span.range();
        assert!(source.get(range.clone()).is_some(), "{}: {range:?} is no part of the file", case.display());
    }
    if !parsed.has_errors() {
        let printed = parsed.dockerfile.to_string();
        let again = dockerfile::parse(&printed);
        let (before, after) = (dump::without_spans(&parsed.dockerfile), dump::without_spans(&again.dockerfile));
        assert_eq!(before, after, "{} printed as\n{printed}", case.display());
    }
    let found = dump::parsed(&source, &parsed);
    let expected = Data::read_from(&case.join("ast.txt"), None).raw();
    let assert = Assert::new().action_env("SNAPSHOTS");
    assert.try_eq(Some(&case.display()), found.into_data().raw(), expected).map_err(|error| error.to_string())
}

#[test]
fn every_case_parses_to_its_ast() {
    let cases = cases();
    assert!(cases.len() >= 330, "only {} cases were found", cases.len());
    let failures: Vec<_> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
