//! What a container of `wharf run` has mounted: `--volume`, `--mount`, `--tmpfs`, and the volumes that its image declares.
//!
//! ```text
//! flags ─parse (spec, volume_flag, mount_flag, tmpfs_options)─▶ specs ─┐
//! the image's VOLUMEs at other targets ────────────────────────────────┴─open─▶ mounts of the runtime, and what must outlive them
//! ```
//!
//! | source | is | ends |
//! |---|---|---|
//! | a path of the host | opened once, by its handle | – |
//! | a name | a volume of the store, filled from the image if it is empty | with `wharf volume rm` |
//! | none | a volume of the container's own, filled from the image | with the container |
//! | tmpfs | memory | with the container |
//!
//! Paths of the host are the user's own: links in them are followed, and nobody is kept from them.

mod mount_flag;
mod spec;
mod tmpfs_options;
mod volume_flag;

use std::fs::DirBuilder;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use builder::make_working_directory;
use layer_store::{CopyUp, FilledVolume, Store};
use oci::ContainerConfig;
use runtime::{Container, Mount, MountSource};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use self::spec::{Filling, IfMissing, MountSpec, Source};
use crate::ending::Ending;
use crate::shown::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct MountArgs {
    /// Mount a file or directory of the host (a path that begins with `/` or `.`), or a volume of this name; without a source, a
    /// volume that goes with the container
    #[arg(short, long = "volume", value_name = "[SOURCE:]TARGET[:OPTIONS]", value_parser = volume_flag::parse)]
    volumes: Vec<MountSpec>,
    /// Mount something: type=bind|volume|tmpfs, source=, target=, readonly, and options of the type
    #[arg(long = "mount", value_name = "KEY=VALUE,...", value_parser = mount_flag::parse)]
    mounts: Vec<MountSpec>,
    /// Mount an empty directory in memory; options are size=, mode=, uid=, gid=, ro, exec, suid
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = tmpfs_options::parse)]
    tmpfs: Vec<MountSpec>,
}

/// What a container has mounted; dropped, volumes of its own are removed.
#[derive(Debug)]
pub(crate) struct OpenedMounts {
    mounts: Vec<Mount>,
    _handles: Vec<OwnedFd>,
    _volumes: Vec<FilledVolume>,
}

impl MountArgs {
    fn specs(&self) -> impl Iterator<Item = &MountSpec> {
        self.volumes.iter().chain(&self.mounts).chain(&self.tmpfs)
    }

    /// Refuses two mounts at one place.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`].
    pub(crate) fn check(&self) -> Result<(), Ending> {
        let mut seen = Vec::new();
        for spec in self.specs() {
            if seen.contains(&&spec.target) {
                return Err(Ending::usage(format!("duplicate mount point: `{}`", shown(&spec.target))));
            }
            seen.push(&spec.target);
        }
        Ok(())
    }

    /// Opens what is to be mounted in a container on `rootfs`, whose image has this config.
    ///
    /// # Errors
    ///
    /// When a source cannot be opened, or a volume not be made or filled.
    pub(crate) fn open(&self, config: &ContainerConfig, store: &Store, rootfs: &Path) -> anyhow::Result<OpenedMounts> {
        let mut opened = OpenedMounts { mounts: Vec::new(), _handles: Vec::new(), _volumes: Vec::new() };
        let declared = config.volumes.keys().map(|path| MountSpec::declared(path));
        let declared = declared.filter(|declared| self.specs().all(|spec| spec.target != declared.target));
        for spec in self.specs().cloned().chain(declared) {
            let failed = || format!("cannot mount on `{}`", shown(&spec.target));
            opened.add(&spec, store, rootfs).with_context(failed)?;
        }
        Ok(opened)
    }
}

impl OpenedMounts {
    fn add(&mut self, spec: &MountSpec, store: &Store, rootfs: &Path) -> anyhow::Result<()> {
        let source = match &spec.source {
            Source::Tmpfs(tmpfs) => MountSource::Tmpfs(*tmpfs),
            Source::Bind { path, access, if_missing } => {
                let handle = open(path, *if_missing)?;
                let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
                self._handles.push(handle);
                MountSource::Bind { path, access: *access }
            }
            Source::Volume { name, labels, filling, access } => {
                let copy_up = CopyUp { rootfs, target: Path::new(&spec.target) };
                let copy_up = (*filling == Filling::FromImage).then_some(copy_up);
                let volume = match name {
                    Some(name) => store.use_volume(name, labels, copy_up)?,
                    None => store.anonymous_volume(copy_up)?,
                };
                let path = volume.path().to_owned();
                self._volumes.push(volume);
                MountSource::Bind { path, access: *access }
            }
        };
        self.mounts.push(Mount { source, target: spec.target.clone() });
        Ok(())
    }

    /// Puts the mounts into `container`, in the place of generated files where they have one's.
    ///
    /// # Errors
    ///
    /// When the working directory lies in a mount and cannot be made there.
    pub(crate) fn put_into(&self, container: &mut Container) -> anyhow::Result<()> {
        container.files.retain(|file| self.mounts.iter().all(|mount| mount.target != file.path));
        container.mounts.extend(self.mounts.iter().cloned());
        let covers = |mount: &&Mount| Path::new(&container.cwd).starts_with(&mount.target);
        let deepest = self.mounts.iter().filter(covers).max_by_key(|mount| mount.target.len());
        // what cannot be written is left to say so itself
        let Some(Mount { source: MountSource::Bind { path, access: runtime::Access::ReadWrite }, target }) = deepest
        else {
            return Ok(());
        };
        let below = container.cwd.strip_prefix(target.as_str()).unwrap_or_default();
        if path.is_dir() {
            make_working_directory(path, below, &container.user)?;
        }
        Ok(())
    }
}

/// Opens a file or directory of the host.
fn open(path: &Path, if_missing: IfMissing) -> anyhow::Result<OwnedFd> {
    let open = || rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let opened = match open() {
        Err(Errno::NOENT) if if_missing == IfMissing::MakeDirectory => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.with_context(|| format!("cannot make the directory `{}`", shown(&path.to_string_lossy())))?;
            open()
        }
        opened => opened,
    };
    opened.with_context(|| format!("cannot open `{}`", shown(&path.to_string_lossy())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        mounts: MountArgs,
    }

    fn read(line: &str) -> Result<MountArgs, clap::Error> {
        clap::Parser::try_parse_from(format!("run {line}").split(' ')).map(|line: Line| line.mounts)
    }

    #[test]
    fn two_mounts_at_one_place_are_refused_however_they_are_written() {
        for (line, is_refused) in [
            ("-v /a:/x --tmpfs /y --mount type=volume,target=/z", false),
            ("-v /a:/x -v /b:/x", true),
            ("-v /a:/x/ --tmpfs /y/../x", true),
            ("--mount type=tmpfs,target=/x --tmpfs /x", true),
        ] {
            assert_eq!(read(line).unwrap().check().is_err(), is_refused, "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_an_error_of_its_flag() {
        let error = read("-v a/b:/x").unwrap_err().to_string();
        assert!(error.contains("`a/b` is not a volume name") && error.contains("--volume"), "{error}");
        let error = read("--mount type=bind,source=/x").unwrap_err().to_string();
        assert!(error.contains("target") && error.contains("--mount"), "{error}");
    }

    #[test]
    fn a_missing_source_is_made_only_where_docker_makes_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        assert!(open(&path, IfMissing::Refuse).is_err());
        assert!(!path.exists());
        open(&path, IfMissing::MakeDirectory).unwrap();
        assert!(path.is_dir());
        let file = path.join("f");
        std::fs::write(&file, "").unwrap();
        open(&file, IfMissing::MakeDirectory).unwrap();
        let error = open(&file.join("x"), IfMissing::MakeDirectory).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot open `{}`", file.join("x").display()));
    }

    #[test]
    fn declared_volumes_give_way_and_so_do_generated_files() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let rootfs = directory.path().join("rootfs");
        std::fs::create_dir_all(rootfs.join("data")).unwrap();
        std::fs::write(rootfs.join("data/f"), "x").unwrap();
        let config = ContainerConfig {
            volumes: ["/data", "/other/", "rel"].map(|path| (path.to_owned(), oci::Empty {})).into(),
            ..ContainerConfig::default()
        };
        let args = read("--tmpfs /data --mount type=volume,source=named,target=/etc/hosts").unwrap();
        let opened = args.open(&config, &store, &rootfs).unwrap();
        let targets: Vec<_> = opened.mounts.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!(targets, ["/etc/hosts", "/data", "/other", "/rel"]);
        assert!(store.volume(&"named".parse().unwrap()).is_ok());
        let opened = read("-v /data").unwrap().open(&config, &store, &rootfs).unwrap();
        let MountSource::Bind { path, .. } = &opened.mounts[0].source else { panic!("{opened:?}") };
        assert!(path.join("f").exists());
        let path = path.clone();
        drop(opened);
        assert!(!path.exists());
    }
}
