//! Small images to start from, put into a [`Registry`] without any client.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use oci::{ContainerConfig, Descriptor, DiffId, Digest, Document, ImageConfig, Manifest, MediaType, Platform};
use tar::{EntryType, Header};

use crate::Registry;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Returns the statically linked busybox of this machine (Debian's `busybox-static`); `None` when there is none.
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(Path::new).find(|path| path.is_file()).map(Path::to_owned)
}

/// Returns the tar of a root filesystem with this machine's busybox and a link for each of its applets.
///
/// # Panics
///
/// When [`busybox`] finds none.
pub fn busybox_rootfs() -> Vec<u8> {
    busybox_rootfs_of(&busybox().expect("`busybox-static` is installed"))
}

/// Returns the tar of a root filesystem with the busybox at `program` and a link for each of its applets.
pub fn busybox_rootfs_of(program: &Path) -> Vec<u8> {
    let listed = Command::new(program).arg("--list").output().expect("busybox starts");
    let applets = String::from_utf8(listed.stdout).expect("applets have plain names");
    let mut rootfs = Tar::default();
    for (path, mode) in [("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("root", 0o700)] {
        rootfs = rootfs.directory(path, mode);
    }
    rootfs = rootfs.directory("sys", 0o755).directory("tmp", 0o1777);
    rootfs = rootfs.file("bin/busybox", 0o755, &std::fs::read(program).expect("busybox can be read"));
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        rootfs = rootfs.symlink(&format!("bin/{applet}"), "busybox");
    }
    rootfs.file("etc/passwd", 0o644, PASSWD.as_bytes()).file("etc/group", 0o644, GROUP.as_bytes()).finish()
}

/// Writes a tar, entry by entry, owned by root and dated 1970.
pub struct Tar(tar::Builder<Vec<u8>>);

impl fmt::Debug for Tar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tar").finish_non_exhaustive()
    }
}

impl Default for Tar {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Tar {
    /// Adds a directory.
    #[must_use]
    pub fn directory(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, &format!("{path}/"), mode, &[])
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, mode, content)
    }

    /// Adds a symbolic link at `path` to `target`.
    #[must_use]
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).expect("memory does not fail");
        self
    }

    fn entry(mut self, kind: EntryType, path: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = header(kind, mode, content.len() as u64);
        self.0.append_data(&mut header, path, content).expect("memory does not fail");
        self
    }

    /// Returns the bytes of the tar.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory does not fail")
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Compresses `bytes` as registries hold layers.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory does not fail");
    encoder.finish().expect("memory does not fail")
}

/// Puts an image of these tars, lowest first, into `registry` as `name` (`path:tag`), for this machine's platform, with a
/// `PATH` and the command `sh`; returns its manifest's descriptor.
pub fn push_base(registry: &Registry, name: &str, layers: &[Vec<u8>]) -> Descriptor {
    let config =
        ContainerConfig { env: vec![PATH.to_owned()], cmd: Some(vec!["sh".to_owned()]), ..ContainerConfig::default() };
    push_image(registry, name, layers, config)
}

/// Puts an image of these tars, lowest first, with this config into `registry` as `name` (`path:tag`); returns its manifest's
/// descriptor.
pub fn push_image(registry: &Registry, name: &str, layers: &[Vec<u8>], config: ContainerConfig) -> Descriptor {
    let (repository, tag) = name.rsplit_once(':').expect("the name has a tag");
    let mut image = ImageConfig::empty(Platform::host());
    image.created = Some("1970-01-01T00:00:00Z".to_owned());
    image.config = config;
    image.rootfs.diff_ids = layers.iter().map(|layer| DiffId(Digest::of(layer))).collect();
    let put = |layer: &Vec<u8>| registry.put_blob(repository, MediaType::OCI_LAYER_GZIP, &gzip(layer));
    let layers = layers.iter().map(put).collect();
    let config = registry.put_blob(repository, MediaType::OCI_CONFIG, Document::write(image).bytes());
    let manifest = Document::write(Manifest::new(config, layers));
    registry.put_manifest(repository, tag, MediaType::OCI_MANIFEST, manifest.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Auth;

    #[test]
    fn a_base_image_is_whole() {
        let registry = Registry::start(Auth::None);
        let layer = Tar::default().directory("etc", 0o755).file("etc/motd", 0o644, b"hello").symlink("m", "etc/motd");
        let layer = layer.finish();
        let descriptor = push_base(&registry, "demo/base:1", std::slice::from_ref(&layer));
        let (_, bytes) = registry.manifest("demo/base", "1").unwrap();
        assert_eq!(Digest::of(&bytes), descriptor.digest);
        let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
        let config = registry.blob("demo/base", &manifest.config.digest).unwrap();
        let config: ImageConfig = serde_json::from_slice(&config).unwrap();
        assert_eq!(config.rootfs.diff_ids, [DiffId(Digest::of(&layer))]);
        assert!(registry.blob("demo/base", &manifest.layers[0].digest).is_some());
    }

    #[test]
    fn a_busybox_root_filesystem_has_its_shell() {
        let program = busybox().expect("busybox-static is installed: `scripts/need.sh test` does it");
        let rootfs = busybox_rootfs_of(&program);
        let mut archive = tar::Archive::new(rootfs.as_slice());
        let paths: Vec<_> = archive.entries().unwrap().map(|e| e.unwrap().path().unwrap().into_owned()).collect();
        assert!(paths.contains(&PathBuf::from("bin/sh")) && paths.contains(&PathBuf::from("bin/busybox")));
    }
}
