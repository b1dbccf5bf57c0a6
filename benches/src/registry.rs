//! A registry: the program `docker-registry`, on a free port of loopback, with its content in a directory.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cgroup::Cgroup;
use crate::disk::remove;
use crate::measure::run;

/// A running registry; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Registry {
    directory: PathBuf,
    port: u16,
    /// Its own, so that the next run ends it if this one is killed.
    group: Cgroup,
    program: Child,
}

impl Registry {
    /// Starts a registry with the content of `directory`, which may be new, in the group `group`.
    ///
    /// # Errors
    ///
    /// When `docker-registry` is not installed or does not start.
    pub(crate) fn start(directory: &Path, group: &Cgroup) -> anyhow::Result<Self> {
        let content = directory.join("content");
        fs::create_dir_all(&content).with_context(|| format!("cannot make `{}`", content.display()))?;
        let listener = TcpListener::bind("127.0.0.1:0").context("no free port on loopback")?;
        let port = listener.local_addr().context("no free port on loopback")?.port();
        drop(listener);

        let config = directory.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            content.display()
        );
        fs::write(&config, text).with_context(|| format!("cannot write `{}`", config.display()))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let program =
            group.enter(|| command.spawn().context("cannot run `docker-registry` (package docker-registry)"))?;
        let mut registry = Self { directory: directory.to_owned(), port, group: group.clone(), program };
        registry.wait()?;
        Ok(registry)
    }

    /// The full name of an image here.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Copies the image `tag` of an OCI layout here, unless there is one of that name.
    ///
    /// # Errors
    ///
    /// When `skopeo` is not installed or fails.
    pub(crate) fn fill(&self, layout: &Path, tag: &str, name: &str) -> anyhow::Result<()> {
        let (repository, to_tag) = name.rsplit_once(':').expect("names here have a tag");
        let repositories = self.directory.join("content/docker/registry/v2/repositories");
        if repositories.join(repository).join("_manifests/tags").join(to_tag).join("current/link").exists() {
            return Ok(());
        }
        let source = format!("oci:{}:{tag}", layout.display());
        let target = format!("docker://{}", self.reference(name));
        run(Command::new("skopeo").args(["copy", "--quiet", "--dest-tls-verify=false", &source, &target])).map(drop)
    }

    /// The directory of its blobs.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.directory.join("content/docker/registry/v2/blobs")
    }

    /// Ends it, and starts an empty one in its place.
    ///
    /// # Errors
    ///
    /// When its content cannot be removed, or it does not start.
    pub(crate) fn empty(&mut self) -> anyhow::Result<()> {
        self.stop();
        remove(&self.directory)?;
        *self = Self::start(&self.directory, &self.group)?;
        Ok(())
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.program.try_wait() {
                bail!("`docker-registry` ended at once ({status})");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("`docker-registry` does not answer on port {}", self.port)
    }

    fn stop(&mut self) {
        // It holds nothing that must be written: what is stored is complete or not there.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}
