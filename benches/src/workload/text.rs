//! Bytes that compress as source code does, and bytes that do not compress at all.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::python_random::PythonRandom;

const LETTERS: &[u8] = b"etaoinshrdlucmfwypvbgk_";

/// Lines of words from a vocabulary of 4000, the first ones more often: gzip makes about a third of them.
pub(super) fn text_pool(size: usize, seed: u32) -> Vec<u8> {
    let mut random = PythonRandom::new(seed);
    let words: Vec<String> = (0..4000).map(|_| word(&mut random)).collect();
    let weights = (0..words.len()).map(|at| 1.0 / (f64::from(u32::try_from(at).expect("there are 4000")) + 5.0));
    let cumulative: Vec<f64> = weights.scan(0.0, |sum, weight| Some(add(sum, weight))).collect();

    let mut text = String::with_capacity(size + 200);
    while text.len() < size {
        let indentation = random.between(0, 4);
        let _ = write!(text, "{:1$}", "", 4 * indentation);
        for number in 0..random.between(2, 12) {
            let blank = if number == 0 { "" } else { " " };
            let _ = write!(text, "{blank}{}", words[random.weighted(&cumulative)]);
        }
        let _ = writeln!(text, "{}", random.choice(&[";", " {", ",", "()", ""]));
    }
    text.truncate(size);
    text.into_bytes()
}

/// The key stream of AES-256-CTR under the digest of `seed`, by the program `openssl`.
///
/// # Errors
///
/// When `openssl` is not installed or fails.
pub(super) fn incompressible(seed: u32, size: usize) -> anyhow::Result<Vec<u8>> {
    let key = hex::encode(Sha256::digest(seed.to_string()));
    let mut command = Command::new("openssl");
    command.args(["enc", "-aes-256-ctr", "-K", &key, "-iv", &"0".repeat(32)]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run `openssl`, which makes the incompressible files")?;
    let mut input = child.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || input.write_all(&vec![0; size]));
    let output = child.wait_with_output().context("cannot read from `openssl`")?;
    let written = writer.join().expect("writing does not panic");
    if !output.status.success() || output.stdout.len() != size {
        bail!("`openssl enc` made {} of {size} bytes", output.stdout.len());
    }
    written.context("cannot write to `openssl`")?;
    Ok(output.stdout)
}

fn word(random: &mut PythonRandom) -> String {
    (0..random.between(2, 11)).map(|_| char::from(*random.choice(LETTERS))).collect()
}

fn add(sum: &mut f64, weight: f64) -> f64 {
    *sum += weight;
    *sum
}
