//! A test harness for programs whose `main` must run before the first thread, such as those that enter a user namespace.
//!
//! It understands what `cargo test` and `cargo nextest` pass: words to filter by, `--exact`, `--list`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test: its name, and what it does with what was begun for all.
pub type Test<T> = (&'static str, fn(&T));

/// Does what the words of the command line ask for; `begin` is called once, before the first test that runs.
///
/// Prints one line for each test, as the usual harness does.
pub fn run<T>(words: &[String], tests: &[Test<T>], begin: impl FnOnce() -> T) -> ExitCode {
    let selected = select(words, tests);
    if has(words, "--list") {
        let listed = if has(words, "--ignored") { &[][..] } else { &selected };
        listed.iter().for_each(|(name, _)| say(&format!("{name}: test")));
        return ExitCode::SUCCESS;
    }
    let begun = begin();
    let mut failed = 0;
    for (name, test) in &selected {
        let passed = catch_unwind(AssertUnwindSafe(|| test(&begun))).is_ok();
        say(&format!("test {name} ... {}", if passed { "ok" } else { "FAILED" }));
        failed += usize::from(!passed);
    }
    say(&format!("{} passed, {failed} failed", selected.len() - failed));
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn has(words: &[String], flag: &str) -> bool {
    words.iter().any(|word| word == flag)
}

fn select<T>(words: &[String], tests: &[Test<T>]) -> Vec<Test<T>> {
    // `--format terse` is the one flag with a value that is passed
    let filters: Vec<&str> =
        words.iter().map(String::as_str).filter(|word| !word.starts_with("--") && *word != "terse").collect();
    let is_exact = has(words, "--exact");
    let is_meant = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| if is_exact { name == *filter } else { name.contains(filter) })
    };
    tests.iter().copied().filter(|(name, _)| is_meant(name)).collect()
}

#[expect(clippy::print_stdout, reason = "this is what a test harness is for")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TESTS: [Test<()>; 3] = [("one", |()| ()), ("one_more", |()| ()), ("bad", |()| panic!("as it should"))];

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn selected(text: &str) -> Vec<&'static str> {
        select(&words(text), &TESTS).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn words_filter_by_part_or_exactly() {
        assert_eq!(selected("--nocapture"), ["one", "one_more", "bad"]);
        assert_eq!(selected("one"), ["one", "one_more"]);
        assert_eq!(selected("one --exact --nocapture"), ["one"]);
        assert_eq!(selected("--list --format terse"), ["one", "one_more", "bad"]);
    }

    #[test]
    fn one_failure_fails_the_program() {
        let code = |text: &str| format!("{:?}", run(&words(text), &TESTS, || ()));
        assert_eq!(code("one"), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(""), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code("--list"), format!("{:?}", ExitCode::SUCCESS));
    }
}
