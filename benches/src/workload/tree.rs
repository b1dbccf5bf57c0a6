//! Trees like those of source code: log-normal sizes, some twenty files a directory, one symbolic link in a hundred.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::EPOCH;
use super::digest::paths_below;
use super::text::text_pool;
use crate::python_random::PythonRandom;

/// What a tree is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tree {
    pub(super) files: usize,
    /// Bytes of all files together, about.
    pub(super) size: u64,
    pub(super) seed: u32,
}

impl Tree {
    /// Writes the tree into the new directory `root`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(super) fn write(self, root: &Path) -> anyhow::Result<()> {
        let mut random = PythonRandom::new(self.seed);
        let text = text_pool(8 << 20, self.seed + 1);
        let binary = PythonRandom::new(self.seed + 2).bytes(4 << 20);
        let directories = self.directories(&mut random);
        let sizes = self.sizes(&mut random);
        for directory in &directories {
            make_directory(&root.join(directory))?;
        }

        let mut previous: Option<PathBuf> = None;
        for (number, size) in sizes.into_iter().enumerate() {
            let directory = random.choice(&directories).clone();
            let extension = random.choice(&["py", "js", "c", "json", "md"]);
            let path = Path::new(&directory).join(format!("f{number}.{extension}"));
            if let Some(target) = previous.as_ref().filter(|_| number % 100 == 99) {
                link(&root.join(&path), &relative(target, Path::new(&directory)))?;
                continue;
            }
            let source = if number % 10 == 0 { &binary } else { &text };
            let start = random.below(source.len() - size.min(source.len() - 1));
            let mut content = format!("// {number}\n").into_bytes();
            content.extend_from_slice(&source[start..(start + size).min(source.len())]);
            put(&root.join(&path), &content, if number % 50 == 0 { 0o755 } else { 0o644 })?;
            previous = Some(path);
        }
        Ok(())
    }

    fn directories(self, random: &mut PythonRandom) -> Vec<String> {
        let mut directories = vec![String::from("pkg")];
        while directories.len() < self.files / 20 {
            let parent = random.choice(&directories).clone();
            if parent.matches('/').count() < 4 {
                directories.push(format!("{parent}/m{}", directories.len()));
            }
        }
        directories
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "rounded towards zero as the reference does; sizes are positive and small"
    )]
    fn sizes(self, random: &mut PythonRandom) -> Vec<usize> {
        let drawn: Vec<u64> = (0..self.files).map(|_| (random.log_normal(8.2, 1.25) as u64).min(400_000)).collect();
        let factor = self.size as f64 / drawn.iter().sum::<u64>() as f64;
        drawn.into_iter().map(|size| (size as f64 * factor) as usize).collect()
    }
}

/// Gives every file and directory below `root`, and `root`, the time [`EPOCH`].
///
/// # Errors
///
/// When a time cannot be set.
pub(super) fn set_times(root: &Path) -> anyhow::Result<()> {
    paths_below(root)?.iter().try_for_each(|path| set_time(&root.join(path), EPOCH))
}

/// Gives a file, or a link itself, a time of modification in seconds since 1970.
///
/// # Errors
///
/// When the time cannot be set.
pub(super) fn set_time(path: &Path, seconds: i64) -> anyhow::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("cannot set the time of `{}`", path.display()))
}

/// The way from the directory `from` to `target`, both relative to the same root.
fn relative(target: &Path, from: &Path) -> PathBuf {
    let shared = target.components().zip(from.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(shared).map(|_| "..");
    up.map(PathBuf::from).chain(target.components().skip(shared).map(|part| PathBuf::from(part.as_os_str()))).collect()
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(path).with_context(|| format!("cannot make the directory `{}`", path.display()))
}

fn link(path: &Path, target: &Path) -> anyhow::Result<()> {
    symlink(target, path).with_context(|| format!("cannot make the link `{}`", path.display()))
}

fn put(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let written = fs::write(path, content).and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}
