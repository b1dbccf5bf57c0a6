//! Input that is hostile or too large: an error at once, never a panic, a hang or a full memory.

use std::time::{Duration, Instant};

use dockerfile::{Parsed, parse};

/// Parses and says what was found. Optimised, all of these take well under a second; the limit allows for a busy machine and no
/// optimisation, and still catches what grows with the square of the input.
fn check(source: &str) -> Parsed {
    let start = Instant::now();
    let parsed = parse(source);
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}: {:.80}", start.elapsed(), source);
    assert!(parsed.diagnostics.len() <= 1002);
    parsed
}

fn titles(parsed: &Parsed) -> Vec<&str> {
    parsed.diagnostics.iter().map(|diagnostic| diagnostic.title.as_str()).collect()
}

#[test]
fn a_line_of_100_megabytes_is_refused() {
    let parsed = check(&format!("FROM scratch\nRUN {}\n", "x".repeat(100 << 20)));
    assert_eq!(titles(&parsed), ["the file is larger than the 4194304 bytes that are read"]);
}

#[test]
fn a_line_may_be_as_long_as_docker_reads_and_no_longer() {
    let line = |length: usize| format!("FROM scratch\nRUN {}\n", "x".repeat(length - 4));
    assert_eq!(titles(&check(&line(65_535))), [""; 0]);
    assert_eq!(titles(&check(&line(65_536))), ["a line of 65536 bytes, more than the 65535 that docker reads"]);
    // A carriage return counts, the line feed behind it does not.
    let with_return = |length: usize| line(length - 1).replace("x\n", "x\r\n");
    assert_eq!(titles(&check(&with_return(65_535))), [""; 0]);
    assert_eq!(titles(&check(&with_return(65_536))), ["a line of 65536 bytes, more than the 65535 that docker reads"]);
}

#[test]
fn ten_thousand_nested_expansions_are_an_error_where_they_stand() {
    for (open, close) in [("${A:-", "}"), ("${A#", "}"), ("${A/", "/x}")] {
        let source = format!("FROM scratch\nENV A={}{}\n", open.repeat(10_000), close.repeat(10_000));
        let parsed = check(&source);
        let [error] = parsed.diagnostics.iter().filter(|d| !d.title.contains("bytes")).collect::<Vec<_>>()[..] else {
            panic!()
        };
        assert!(error.title.contains("nested more than 200 deep"), "{}", error.title);
        assert_eq!(error.span.start, "FROM scratch\nENV A=".len() + 200 * open.len());
    }
}

/// Makes a file of `size` bytes at most, which says the same again and again.
fn filled(unit: &str, size: usize) -> String {
    format!("FROM scratch\n{}", unit.repeat((size - 20) / unit.len()))
}

#[test]
fn the_largest_files_of_garbage_are_read_in_a_moment() {
    for unit in ["x\n", "RUN a \\\n", "COPY <<A /x\n"] {
        check(&filled(unit, 4 << 20));
    }
}

#[test]
fn files_of_garbage_are_read_in_a_moment() {
    for unit in ["\\\n", "\n", "# c\n", "RUN <<A\nA\n", "ENV A=1\n", "ONBUILD RUN x\n", "RUN --a\n"] {
        check(&filled(unit, 1 << 19));
    }
}

#[test]
fn lines_of_garbage_are_read_in_a_moment() {
    for unit in
        ["RUN <<A ", "${A:-", "\"", "'", "--a ", "<<A ", "[", "[\"a\",", "$A", "a=b ", "\\", "\u{e4}", "${A//a/b}"]
    {
        for keyword in ["RUN", "COPY", "ENV", "LABEL", "ARG", "EXPOSE", "VOLUME", "HEALTHCHECK CMD", "FROM", "X"] {
            check(&format!("FROM scratch\n{keyword} {}\n", unit.repeat(60_000 / unit.len())));
        }
    }
}

#[test]
fn the_mistakes_that_are_kept_have_a_number() {
    let parsed = check(&format!("FROM scratch\n{}", "X\n".repeat(10_000)));
    assert_eq!(parsed.diagnostics.len(), 501);
    assert_eq!(parsed.diagnostics[500].title, "more than 500 errors: the others are not shown");
}

#[test]
fn the_instructions_of_a_file_have_a_number() {
    let source = |count: usize| format!("FROM scratch\n{}", "USER a\n".repeat(count - 1));
    assert_eq!(titles(&check(&source(100_000))), [""; 0]);
    assert_eq!(titles(&check(&source(100_001))), ["more than the 100000 instructions that are read"]);
}

#[test]
fn onbuild_in_onbuild_does_not_recurse() {
    let parsed = check(&format!("FROM scratch\n{} RUN x\n", "ONBUILD ".repeat(8_000)));
    assert_eq!(titles(&parsed), ["ONBUILD cannot be an ONBUILD trigger"]);
}
