//! Damaged indexes: looking into one ends in an answer or in an error, and never in a panic.

use std::io;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::shown::index;
use super::tar::{directory, file, symlink, tar};
use crate::index::format::{CHECKSUM, HEAD, SUPERBLOCK, checksum};
use crate::index::{Found, IndexFile};

const PATHS: [&[u8]; 9] = [b"", b"d", b"d/f050", b"d/f099", b"d/none", b"e/l", b"e/s", b"e/.wh.none", b"e/deep/er/x"];

fn sound() -> Vec<u8> {
    let mut entries: Vec<_> = (0..100).map(|n| file(&format!("d/f{n:03}"), n.to_string())).collect();
    entries.push(directory("e").pax("SCHILY.xattr.user.a", "b").pax("SCHILY.xattr.trusted.c", "d"));
    entries.push(symlink("e/l", "x").pax("linkpath", "t".repeat(700)));
    entries
        .push(file("e/s", [b's'; 8192]).pax("GNU.sparse.map", "4096,4096,16384,4096").pax("GNU.sparse.size", "30000"));
    entries.extend([file("e/.wh.w", ""), file("e/deep/er/x", "x"), file("e/deep/.wh..wh..opq", "")]);
    index(&tar(&entries)).unwrap().1
}

/// Asks an index for everything that there may be.
fn look(bytes: &[u8]) -> io::Result<Vec<Found>> {
    let file = tempfile::tempfile()?;
    file.write_all_at(bytes, 0)?;
    let index = IndexFile::open(&file)?;
    let contents: io::Result<Vec<_>> = PATHS.iter().map(|path| index.content(path)).collect();
    let found = PATHS.iter().map(|path| index.look(path)).collect();
    contents
        .map(drop)
        .or_else(|error| if error.kind() == io::ErrorKind::InvalidInput { Ok(()) } else { Err(error) })?;
    found
}

/// Puts in the checksum that the bytes should have, so that the damage is not noticed at once.
fn seal(bytes: &mut [u8]) {
    if let Some(head) = bytes.first_chunk_mut::<HEAD>() {
        let sum = checksum(head);
        head[SUPERBLOCK + CHECKSUM..SUPERBLOCK + CHECKSUM + 4].copy_from_slice(&sum.to_le_bytes());
    }
}

fn damaged(error: &io::Error) -> String {
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error:?}");
    error.to_string()
}

#[test]
fn a_damaged_index_is_never_a_panic() {
    let sound = sound();
    let length = sound.len();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(3000) });
    let value = prop_oneof![Just(0), Just(0xff), any::<u8>()];
    let damages = prop::collection::vec((SUPERBLOCK..length, 1..9_usize, value), 1..6);
    let tested = runner.run(&damages, |damages| {
        let mut bytes = sound.clone();
        for (at, count, value) in damages {
            let end = (at + count).min(length);
            bytes[at..end].fill(value);
        }
        seal(&mut bytes);
        if let Err(error) = look(&bytes) {
            let is_answer = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::NotFound);
            prop_assert!(is_answer, "{error:?}");
        }
        Ok(())
    });
    tested.unwrap();
}

#[test]
fn what_is_no_index_is_refused() {
    let sound = sound();
    assert_eq!(damaged(&look(&[]).unwrap_err()), "it is too short");
    assert_eq!(damaged(&look(&sound[..1024]).unwrap_err()), "it is too short");
    assert_eq!(damaged(&look(&sound[..1536]).unwrap_err()), "it does not have the size that it tells");
    let mut flipped = sound.clone();
    flipped[1300] ^= 1;
    assert_eq!(damaged(&look(&flipped).unwrap_err()), "its superblock is not one of an index");
    let mut compact = sound;
    compact[SUPERBLOCK + 12] = 12;
    seal(&mut compact);
    assert_eq!(damaged(&look(&compact).unwrap_err()), "its superblock is not one of an index");
}
