//! The environment that a command line gives a container: `--env-file`, then `--env`.
//!
//! A file is read as docker reads it: a line is `NAME=value` or `NAME`, nothing is quoted or expanded, what follows `=` belongs to
//! the value as it stands, and lines that begin with `#` do not count. A name alone takes the caller's value, or sets nothing.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::caller_variable;
use crate::ending::Ending;
use crate::shown::shown;

/// Returns the entries of the files and those given one by one, as `NAME=value`; later ones count.
///
/// # Errors
///
/// A file that cannot be read, or a line or word that names no variable.
pub(crate) fn environment(files: &[PathBuf], given: &[String]) -> anyhow::Result<Vec<String>> {
    let mut env = Vec::new();
    for path in files {
        let name = || shown(&path.display().to_string());
        let bytes = read(path).with_context(|| format!("cannot read the environment file `{}`", name()))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Ending::usage(format!("the environment file `{}` is not UTF-8", name())))?;
        for (number, line) in lines(&text) {
            let entry = entry(line).map_err(|why| Ending::usage(format!("{}:{number}: {why}", name())))?;
            env.extend(entry);
        }
    }
    for word in given {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        if name.is_empty() {
            return Err(Ending::usage(format!("`{}` is not the name of a variable", shown(word))).into());
        }
        env.extend(completed(word));
    }
    Ok(env)
}

/// No environment fits into more.
const LARGEST_FILE: u64 = 16 << 20;

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(fs::File::open(path)?, LARGEST_FILE + 1), &mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE { Err(std::io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// The lines that count, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().map(str::trim_start);
    (1..).zip(lines).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn entry(line: &str) -> Result<Option<String>, String> {
    let name = line.split_once('=').map_or(line, |(name, _)| name);
    if name.is_empty() {
        return Err(format!("no variable is named in `{}`", shown(line)));
    }
    if name.contains([' ', '\t']) {
        return Err(format!("the variable `{}` contains white space", shown(name)));
    }
    Ok(completed(line))
}

/// A name alone takes the caller's value, or is nothing if there is none.
fn completed(word: &str) -> Option<String> {
    if word.contains('=') {
        Some(word.to_owned())
    } else {
        caller_variable(word).map(|value| format!("{word}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_file(text: &str) -> Result<Vec<String>, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        fs::write(&path, text).unwrap();
        environment(&[path], &[]).map_err(|error| error.to_string().rsplit("env:").next().unwrap().to_owned())
    }

    #[test]
    fn a_file_is_read_as_docker_reads_it() {
        let text =
            "\u{feff}A=1\n  B=two words \r\n#C=3\n\n  # D\nE='quoted \"$A\"'\nF=\nG=a=b#c\nWHARF_SURELY_NOT_SET\n";
        assert_eq!(of_file(text).unwrap(), ["A=1", "B=two words ", "E='quoted \"$A\"'", "F=", "G=a=b#c"]);
        assert_eq!(of_file("A=1\n=x\n").unwrap_err(), "2: no variable is named in `=x`");
        assert_eq!(of_file("A B=1\n").unwrap_err(), "1: the variable `A B` contains white space");
    }

    #[test]
    fn a_word_without_a_value_is_the_callers_and_comes_after_the_files() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(environment(&[], &words(&["A=1", "B="])).unwrap(), ["A=1", "B="]);
        assert_eq!(environment(&[], &words(&["WHARF_SURELY_NOT_SET"])).unwrap(), [""; 0]);
        assert!(environment(&[], &words(&["=x"])).is_err());
        assert!(environment(&[PathBuf::from("/no/such/file")], &[]).is_err());
    }
}
