//! Properties that hold for any input: nothing panics, spans lie inside of the file, and printing keeps the meaning.

mod dump;

use std::collections::BTreeMap;

use dockerfile::{Severity, Word, decode, parse, parse_trigger};
use proptest::prelude::*;

/// Pieces of which files are made that come near to being Dockerfiles.
const PIECES: &[&str] = &[
    "FROM",
    "from",
    "scratch",
    "alpine:3",
    "AS",
    "base",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "LABEL",
    "ARG",
    "CMD",
    "ENTRYPOINT",
    "EXPOSE",
    "VOLUME",
    "USER",
    "WORKDIR",
    "STOPSIGNAL",
    "SHELL",
    "ONBUILD",
    "HEALTHCHECK",
    "MAINTAINER",
    "NONE",
    "X",
    " ",
    " ",
    " ",
    "\n",
    "\n",
    "\n",
    "\\\n",
    "`\n",
    "\r\n",
    "\t",
    "#",
    "# escape=`\n",
    "# syntax=docker/dockerfile:1\n",
    "# check=skip=all\n",
    "--",
    "--from=base",
    "--chown=a:b",
    "--link",
    "--mount=type=cache,target=/x",
    "--mount=",
    "--network=none",
    "--platform=",
    "--interval=5s",
    "--exclude=\"a b\"",
    "=",
    "a=b",
    "A",
    "$A",
    "${A}",
    "${A:-",
    "${A#",
    "${A/",
    "}",
    "/",
    "'",
    "\"",
    "\\",
    "<<EOF",
    "<<-EOF",
    "<<\"E F\"",
    "EOF",
    "E F",
    "<",
    "[",
    "]",
    "[\"a\", \"b\"]",
    ",",
    ":",
    "ä",
    "名",
    "\u{a0}",
    "\u{b}",
    "80/tcp",
    "1",
];

fn file() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

/// Files of lines that are mostly right.
fn likely_file() -> impl Strategy<Value = String> {
    let argument = prop::collection::vec(prop::sample::select(PIECES), 1..12).prop_map(|pieces| pieces.concat());
    let keyword = prop::sample::select(&PIECES[6..24]);
    let line = (keyword, argument).prop_map(|(keyword, argument)| format!("{keyword} {}", argument.replace('\n', " ")));
    let escape = prop::sample::select(vec!["", "", "# escape=`\n"]);
    (escape, prop::collection::vec(line, 1..5))
        .prop_map(|(escape, lines)| format!("{escape}FROM scratch\n{}\n", lines.join("\n")))
}

fn check_parse(source: &str) -> Result<(), TestCaseError> {
    let parsed = parse(source);
    for diagnostic in &parsed.diagnostics {
        prop_assert!(source.get(diagnostic.span.range()).is_some(), "{:?}", diagnostic);
    }
    let dump = dump::parsed(source, &parsed);
    if parsed.has_errors() {
        return Ok(());
    }
    let printed = parsed.dockerfile.to_string();
    let again = parse(&printed);
    let errors: Vec<_> = again.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).collect();
    prop_assert!(errors.is_empty(), "printed {printed:?}: {errors:?}\n{dump}");
    prop_assert_eq!(
        dump::without_spans(&again.dockerfile),
        dump::without_spans(&parsed.dockerfile),
        "printed {:?}",
        printed
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_parse_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (text, _) = decode(&bytes);
        check_parse(&text)?;
        let _ = parse_trigger(&text);
    }

    #[test]
    fn any_text_parses_without_panic(text in any::<String>()) {
        check_parse(&text)?;
        check_parse(&format!("FROM scratch\nRUN {text}"))?;
    }

    #[test]
    fn what_is_near_a_dockerfile_survives_printing(text in file()) {
        check_parse(&text)?;
        check_parse(&format!("FROM scratch\n{text}"))?;
        let _ = parse_trigger(&text);
    }

    #[test]
    fn what_is_a_dockerfile_survives_printing(text in likely_file()) {
        check_parse(&text)?;
    }

    #[test]
    fn any_word_expands_without_panic(text in file(), value in any::<String>(), escape in prop::sample::select(vec!['\\', '`'])) {
        let variables = BTreeMap::from([("A".to_owned(), value)]);
        let word = Word::new(text, dockerfile::Span::default(), escape);
        let (string, words) = (word.expand(&variables), word.expand_words(&variables));
        prop_assert_eq!(string.is_ok(), words.is_ok());
        if let (Ok(string), Ok(words)) = (string, words) {
            let packed = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(packed(&string), packed(&words.concat()));
        }
    }
}
