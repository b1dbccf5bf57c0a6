//! The workloads: build contexts and Dockerfiles, deterministic, so that figures of different machines can be compared.
//!
//! | | what |
//! |---|---|
//! | w1 | 20 instructions |
//! | w2 | 50 tiny RUN steps |
//! | w3, w3s | COPY of 50,000 files in 400 MB, then a RUN; the small one has 10,000 files in 80 MB |
//! | w6 | four stages of `sleep 2`, joined |
//! | w7 | Debian and six layers of mixed files, about 500 MB: what w7 pulls and w8 pushes |
//! | w11 | ten images that share Debian and a layer of 60 MB |
//!
//! Content, modes and times of everything are those of the reference generator; what was made is compared with its digests.
//! (w10 is a matter of many images, not of what is in them: `listings.rs` makes them.)

mod digest;
mod text;
mod tree;

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub(crate) use self::digest::{digest_of_file, digest_of_tree};
use self::text::text_pool;
use self::tree::{Tree, set_times};

/// The prefix of the base images in the Dockerfiles; [`Workload::dockerfile`] puts the real one in its place.
const BASES: &str = "localhost:5000/base";

/// The time of every file, in seconds since 1970.
const EPOCH: i64 = 1_700_000_000;

/// A build context with its Dockerfiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    W1,
    W2,
    W3,
    W3s,
    W6,
    W7,
    W11,
}

impl Workload {
    /// Its name, and that of its directory.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::W1 => "w1",
            Self::W2 => "w2",
            Self::W3 => "w3",
            Self::W3s => "w3s",
            Self::W6 => "w6",
            Self::W7 => "w7",
            Self::W11 => "w11",
        }
    }

    /// Makes the context below `contexts`, unless it is there, and returns its directory.
    ///
    /// # Errors
    ///
    /// When a file cannot be written, or what was made is not what the reference makes.
    pub(crate) fn make(self, contexts: &Path) -> anyhow::Result<PathBuf> {
        let context = contexts.join(self.name());
        if context.exists() {
            return Ok(context);
        }
        let unfinished = contexts.join(format!("{}.unfinished", self.name()));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove `{}`", unfinished.display()))?;
        }
        self.write(&unfinished)?;
        let made = digest_of_tree(&unfinished)?;
        if made != self.digest() {
            bail!("{} was made with the digest {made}, but it should be {}", self.name(), self.digest());
        }
        fs::rename(&unfinished, &context).with_context(|| format!("cannot make `{}`", context.display()))?;
        Ok(context)
    }

    /// The text of a Dockerfile in `context`, with the base images under `bases`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub(crate) fn dockerfile(context: &Path, name: &str, bases: &str) -> anyhow::Result<String> {
        let path = context.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(text.replace(BASES, bases))
    }

    /// What [`digest_of_tree`] says of the reference's output.
    fn digest(self) -> &'static str {
        match self {
            Self::W1 => "a792cc966e7f92214b7ee6e9eb540e7dc246eb9d2f5d9f8c8539b8ebe673ddbb",
            Self::W2 => "f8d4ce81bcdb6f8830e397a980c005a6bb2c927f7a9fa781844c06daf98898da",
            Self::W3 => "eb5494ee7b414d814571b684176f47f5c4fb0d8a873aec35094df529a398458b",
            Self::W3s => "469fd0d66796c635b5a0fb4eb2aeacb1d0535a69fc50246ed915db551494f930",
            Self::W6 => "7638bf95dc0f4d4fe74ada7d4b4d55aa23d7579c8d5dcef593ce8939c6a93d66",
            Self::W7 => "fc599920baf4774e1664454ad9761cf4735a1445ca1aff3c60ab93c30726993c",
            Self::W11 => "e532db4d41c988a50aa5b7ee3dacc8e2e363e824ff674c62b1f54c8533476e1d",
        }
    }

    fn write(self, context: &Path) -> anyhow::Result<()> {
        match self {
            Self::W1 => write_w1(context)?,
            Self::W2 => write_w2(context)?,
            Self::W3 => write_w3(context, 50_000, 400_000_000)?,
            Self::W3s => write_w3(context, 10_000, 80_000_000)?,
            Self::W6 => write_w6(context)?,
            Self::W7 => write_w7(context)?,
            Self::W11 => write_w11(context)?,
        }
        set_times(context)
    }
}

/// Changes one file of the context of w3: content and time depend on `number`.
///
/// # Errors
///
/// When the file cannot be found or written.
pub(crate) fn touch_one(context: &Path, number: i64) -> anyhow::Result<()> {
    let package = context.join("tree/pkg");
    let entries = fs::read_dir(&package).with_context(|| format!("cannot read `{}`", package.display()))?;
    let is_source = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c") && !path.is_symlink();
    let first = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_source).min();
    let first = first.with_context(|| format!("no C file in `{}`", package.display()))?;
    fs::write(&first, format!("// changed {number}\n"))
        .with_context(|| format!("cannot write `{}`", first.display()))?;
    tree::set_time(&first, EPOCH + number)
}

fn write_w1(context: &Path) -> anyhow::Result<()> {
    let pool = text_pool(64 << 10, 1);
    let mut dockerfile = format!("FROM {BASES}/busybox:1\n");
    for (number, content) in pool.chunks(4096).take(6).enumerate() {
        put(&context.join(format!("src/f{number}.txt")), content)?;
        let _ = write!(
            dockerfile,
            "ENV V{number}=value{number}\nRUN mkdir -p /d{number} && echo {number} > /d{number}/f\nCOPY src/f{number}.txt /d{number}/\n"
        );
    }
    put(&context.join("Dockerfile"), format!("{dockerfile}CMD [\"/bin/sh\"]\n"))
}

fn write_w2(context: &Path) -> anyhow::Result<()> {
    let mut dockerfile = format!("FROM {BASES}/busybox:1\nARG NONCE=0\n");
    for number in 0..50 {
        let _ = writeln!(dockerfile, "RUN echo {number} > /f{number}");
    }
    put(&context.join("Dockerfile"), dockerfile)
}

fn write_w3(context: &Path, files: usize, size: u64) -> anyhow::Result<()> {
    Tree { files, size, seed: 3 }.write(&context.join("tree"))?;
    let dockerfile = format!("FROM {BASES}/busybox:1\nARG NONCE=0\nCOPY tree /app\nRUN echo done > /done\n");
    put(&context.join("Dockerfile"), dockerfile)
}

fn write_w6(context: &Path) -> anyhow::Result<()> {
    let mut dockerfile = String::from("ARG NONCE=0\n");
    for number in 0..4 {
        let _ = write!(
            dockerfile,
            "FROM {BASES}/busybox:1 AS s{number}\nARG NONCE\nRUN sleep 2 && echo {number}$NONCE > /o{number}\n"
        );
    }
    let _ = writeln!(dockerfile, "FROM {BASES}/busybox:1");
    for number in 0..4 {
        let _ = writeln!(dockerfile, "COPY --from=s{number} /o{number} /");
    }
    put(&context.join("Dockerfile"), dockerfile)
}

fn write_w7(context: &Path) -> anyhow::Result<()> {
    let mut dockerfile = format!("FROM {BASES}/debian:bookworm\n");
    for number in 0..6 {
        let layer = context.join(format!("l{number}"));
        Tree { files: 3000, size: 50_000_000, seed: 70 + number }.write(&layer)?;
        put(&layer.join("blob.bin"), text::incompressible(700 + number, 12_000_000)?)?;
        let _ = writeln!(dockerfile, "COPY l{number} /l{number}");
    }
    put(&context.join("Dockerfile"), format!("{dockerfile}CMD [\"/bin/sh\"]\n"))
}

fn write_w11(context: &Path) -> anyhow::Result<()> {
    Tree { files: 4000, size: 60_000_000, seed: 110 }.write(&context.join("common"))?;
    for number in 0..10 {
        Tree { files: 200, size: 2_000_000, seed: 120 + number }.write(&context.join(format!("own{number}")))?;
        let dockerfile = format!("FROM {BASES}/debian:bookworm\nCOPY common /common\nCOPY own{number} /own\n");
        put(&context.join(format!("Dockerfile.{number}")), dockerfile)?;
    }
    Ok(())
}

/// Writes a file with its parents, for everyone to read.
fn put(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let parent = path.parent().expect("a file has a directory");
    let written = fs::create_dir_all(parent)
        .and_then(|()| fs::write(path, content))
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)));
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(expected: &str, write: impl FnOnce(&Path) -> anyhow::Result<()>) {
        let directory = tempfile::tempdir().unwrap();
        let context = directory.path().join("context");
        write(&context).unwrap();
        set_times(&context).unwrap();
        assert_eq!(digest_of_tree(&context).unwrap(), expected);
    }

    #[test]
    fn instructions_steps_and_stages_are_those_of_the_reference() {
        for workload in [Workload::W1, Workload::W2, Workload::W6] {
            check(workload.digest(), |context| workload.write(context));
        }
    }

    #[test]
    fn a_tree_of_files_is_that_of_the_reference() {
        check("a85dbc0b13103a03af011af63491f66b128afbfe4023fe92d0bd83ace429c8af", |context| {
            Tree { files: 300, size: 1_000_000, seed: 3 }.write(&context.join("tree"))
        });
    }

    #[test]
    fn incompressible_bytes_are_those_of_the_reference() {
        check("e9b94a2756ec20820288016d37264309149b376f23d0602d6f05608d8a7f57ad", |context| {
            put(&context.join("blob.bin"), text::incompressible(700, 12_345)?)
        });
    }

    #[test]
    fn one_changed_file_has_the_content_and_the_time_of_its_number() {
        check("934d680b4d5bac8451e1dea800ab0e0a9f92addc574c5e8bd3a76e105fd8c430", |context| {
            put(&context.join("tree/pkg/f1.c"), "one")?;
            put(&context.join("tree/pkg/f0.py"), "two")?;
            set_times(context)?;
            touch_one(context, 7)?;
            let changed = fs::metadata(context.join("tree/pkg/f1.c")).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::mtime(&changed), EPOCH + 7);
            Ok(())
        });
    }

    #[test]
    fn a_dockerfile_names_the_bases_where_they_are() {
        let directory = tempfile::tempdir().unwrap();
        Workload::W6.write(directory.path()).unwrap();
        let text = Workload::dockerfile(directory.path(), "Dockerfile", "127.0.0.1:4321/base").unwrap();
        assert!(text.contains("FROM 127.0.0.1:4321/base/busybox:1 AS s3\n"), "{text}");
        assert!(!text.contains(BASES), "{text}");
    }
}
