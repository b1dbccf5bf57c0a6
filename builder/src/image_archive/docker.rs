//! Docker archives: `manifest.json` lists images as files, by name.
//!
//! ```json
//! [{"Config": "<hex>.json", "RepoTags": ["app:1"], "Layers": ["<id>/layer.tar", …]}]
//! ```
//!
//! Nothing here promises a digest but names that look like one and the diff IDs of the config: the former are compared when the
//! config is read, the latter when its layers are.

use std::sync::Arc;

use oci::{Algorithm, BlobError, Digest, Document, Hasher, ImageConfig, Manifest, Reference};
use serde::{Deserialize, Serialize};

use super::archived_image::{ArchivedImage, layers};
use super::files::{Files, ImageArchiveError};

/// One image of `manifest.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    /// Its names, as docker shows them; `null` when it has none.
    pub(super) repo_tags: Option<Vec<String>>,
    /// The files of its layers, lowest first.
    pub(super) layers: Option<Vec<String>>,
}

/// Reads the documents of all images; `bytes` are those of `manifest.json`.
pub(super) fn images(files: &Arc<Files>, bytes: Vec<u8>) -> Result<Vec<ArchivedImage>, ImageArchiveError> {
    let list = Document::<Vec<DockerImage>>::parse(bytes, "list of images", Manifest::MAX_SIZE);
    let path = files.shown("manifest.json");
    let list = list.map_err(|source| ImageArchiveError::Document { path, source })?;
    list.value().iter().map(|image| read(files, image)).collect()
}

fn read(files: &Arc<Files>, image: &DockerImage) -> Result<ArchivedImage, ImageArchiveError> {
    let bytes = files.read(&image.config, "image config", ImageConfig::MAX_SIZE)?;
    let path = files.shown(&image.config);
    if let Some(expected) = digest_of_name(&image.config) {
        let mut hasher = Hasher::new(expected.algorithm());
        hasher.update(&bytes);
        let actual = hasher.finish();
        if actual != expected {
            let source = BlobError::DigestMismatch { expected, actual };
            return Err(ImageArchiveError::Blob { path, source });
        }
    }
    let config = Document::<ImageConfig>::parse(bytes, "image config", ImageConfig::MAX_SIZE);
    let config = config.map_err(|source| ImageArchiveError::Document { path, source })?;
    let of_layers = image.layers.iter().flatten().map(|file| (file.clone(), None)).collect();
    let layers = layers(config.value(), of_layers)?;
    let names = image.repo_tags.iter().flatten().map(|name| name.parse::<Reference>().map(Reference::or_latest));
    let names = names.collect::<Result<Vec<_>, _>>().map_err(|source| ImageArchiveError::Name { source })?;
    Ok(ArchivedImage { names, config, files: Arc::clone(files), manifest: None, layers })
}

/// Reads the digest that the name of a config says: `<hex>.json`, `sha256:<hex>` or `blobs/sha256/<hex>`.
fn digest_of_name(name: &str) -> Option<Digest> {
    let (directory, last) = name.rsplit_once('/').unwrap_or(("", name));
    let algorithm = directory.strip_prefix("blobs/").unwrap_or(Algorithm::Sha256.name());
    let hex = last.strip_suffix(".json").unwrap_or(last);
    last.parse().or_else(|_| format!("{algorithm}:{hex}").parse()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_config_may_say_its_digest() {
        let hex = "0".repeat(64);
        let sha512 = "1".repeat(128);
        for (name, expected) in [
            (format!("{hex}.json"), Some(format!("sha256:{hex}"))),
            (format!("sha256:{hex}"), Some(format!("sha256:{hex}"))),
            (format!("blobs/sha256/{hex}"), Some(format!("sha256:{hex}"))),
            (format!("blobs/sha512/{sha512}"), Some(format!("sha512:{sha512}"))),
            ("config.json".to_owned(), None),
            (format!("blobs/sha512/{hex}"), None),
        ] {
            assert_eq!(digest_of_name(&name).map(|digest| digest.to_string()), expected, "{name}");
        }
    }
}
