//! Images made by `tar` and `gzip` alone, as OCI layouts: no peer has made what the peers are measured with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::{Value, json};

use crate::measure::run;
use crate::workload::digest_of_file;

/// The tag of images in layouts that have only one.
pub(crate) const ONLY: &str = "only";

/// A directory in the form of image-spec's "image layout".
#[derive(Debug)]
pub(crate) struct ImageLayout {
    directory: PathBuf,
    manifests: Vec<Value>,
}

/// A layer that is in a layout.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    descriptor: Value,
    diff_id: String,
}

impl ImageLayout {
    /// Begins a layout in the new directory `directory`; it is complete when [`ImageLayout::finish`] has returned.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made.
    pub(crate) fn begin(directory: &Path) -> anyhow::Result<Self> {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot make `{}`", blobs.display()))?;
        Ok(Self { directory: directory.to_owned(), manifests: vec![] })
    }

    /// Adds the layer that has the directory `name` of `parent`, or, of `.`, what is in `parent`.
    ///
    /// # Errors
    ///
    /// When `tar` or `gzip` fails.
    pub(crate) fn add_layer(&self, parent: &Path, name: &str) -> anyhow::Result<Layer> {
        let tar = self.directory.join("layer.tar");
        let mut command = Command::new("tar");
        command
            .args(["--sort=name", "--numeric-owner", "--exclude=./dev/*", "-C"])
            .arg(parent)
            .arg("-cf")
            .arg(&tar)
            .arg(name);
        run(&mut command)?;
        let diff_id = format!("sha256:{}", digest_of_file(&tar)?);
        run(Command::new("gzip").args(["-6", "--no-name"]).arg(&tar))?;
        let descriptor =
            self.keep(&self.directory.join("layer.tar.gz"), "application/vnd.oci.image.layer.v1.tar+gzip")?;
        Ok(Layer { descriptor, diff_id })
    }

    /// Adds an image of layers of this layout under `tag`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn add_image(&mut self, tag: &str, layers: &[Layer]) -> anyhow::Result<()> {
        let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
        let history: Vec<_> = layers.iter().map(|_| json!({"created_by": "tar"})).collect();
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"], "Labels": {"tag": tag}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": history,
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.keep_json(&config, "application/vnd.oci.image.config.v1+json")?,
            "layers": layers.iter().map(|layer| &layer.descriptor).collect::<Vec<_>>(),
        });
        let mut descriptor = self.keep_json(&manifest, "application/vnd.oci.image.manifest.v1+json")?;
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.manifests.push(descriptor);
        Ok(())
    }

    /// Writes the index.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        write(&self.directory.join("oci-layout"), &json!({"imageLayoutVersion": "1.0.0"}))?;
        write(&self.directory.join("index.json"), &json!({"schemaVersion": 2, "manifests": self.manifests}))
    }

    fn keep_json(&self, document: &Value, media_type: &str) -> anyhow::Result<Value> {
        let path = self.directory.join("document");
        write(&path, document)?;
        self.keep(&path, media_type)
    }

    /// Makes the file a blob, and returns its descriptor.
    fn keep(&self, path: &Path, media_type: &str) -> anyhow::Result<Value> {
        let digest = digest_of_file(path)?;
        let blob = self.directory.join("blobs/sha256").join(&digest);
        let kept = fs::rename(path, &blob).and_then(|()| fs::metadata(&blob));
        let size = kept.with_context(|| format!("cannot keep `{}`", path.display()))?.len();
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size}))
    }
}

fn write(path: &Path, document: &Value) -> anyhow::Result<()> {
    fs::write(path, document.to_string()).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_holds_each_blob_under_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("l0")).unwrap();
        fs::write(directory.path().join("l0/file"), "content").unwrap();
        let root = directory.path().join("layout");
        let mut layout = ImageLayout::begin(&root).unwrap();
        let layer = layout.add_layer(directory.path(), "l0").unwrap();
        layout.add_image(ONLY, &[layer]).unwrap();
        layout.finish().unwrap();

        let blobs: Vec<_> = fs::read_dir(root.join("blobs/sha256")).unwrap().map(|blob| blob.unwrap().path()).collect();
        assert_eq!(blobs.len(), 3, "layer, config and manifest");
        for blob in blobs {
            assert_eq!(digest_of_file(&blob).unwrap(), blob.file_name().unwrap().to_string_lossy());
        }
        let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], ONLY);
    }
}
