//! Media types: what kind of bytes a descriptor points at.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The media type of a blob or manifest; unknown ones are kept as they are.
///
/// Spec: image-spec 1.1, media-types.md; the `vnd.docker` ones are those of Docker image manifest version 2, schema 2.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MediaType(Cow<'static, str>);

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// gzip, possibly of several members.
    Gzip,
    /// zstd, possibly of several frames.
    Zstd,
}

impl fmt::Display for LayerCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: Self = Self::known("application/vnd.oci.image.manifest.v1+json");
    /// An OCI image index.
    pub const OCI_INDEX: Self = Self::known("application/vnd.oci.image.index.v1+json");
    /// An OCI image config.
    pub const OCI_CONFIG: Self = Self::known("application/vnd.oci.image.config.v1+json");
    /// An OCI layer: a plain tar.
    pub const OCI_LAYER: Self = Self::known("application/vnd.oci.image.layer.v1.tar");
    /// An OCI layer: a gzip-compressed tar.
    pub const OCI_LAYER_GZIP: Self = Self::known("application/vnd.oci.image.layer.v1.tar+gzip");
    /// An OCI layer: a zstd-compressed tar.
    pub const OCI_LAYER_ZSTD: Self = Self::known("application/vnd.oci.image.layer.v1.tar+zstd");
    /// A Docker schema 2 image manifest.
    pub const DOCKER_MANIFEST: Self = Self::known("application/vnd.docker.distribution.manifest.v2+json");
    /// A Docker manifest list, the older form of an index.
    pub const DOCKER_MANIFEST_LIST: Self = Self::known("application/vnd.docker.distribution.manifest.list.v2+json");
    /// A Docker image config.
    pub const DOCKER_CONFIG: Self = Self::known("application/vnd.docker.container.image.v1+json");
    /// A Docker layer: a plain tar.
    pub const DOCKER_LAYER: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar");
    /// A Docker layer: a gzip-compressed tar.
    pub const DOCKER_LAYER_GZIP: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar.gzip");
    /// A Docker layer: a zstd-compressed tar.
    pub const DOCKER_LAYER_ZSTD: Self = Self::known("application/vnd.docker.image.rootfs.diff.tar.zstd");

    const fn known(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// Returns the text without parameters such as `; charset=utf-8`.
    pub fn from_content_type(header: &str) -> Self {
        let essence = header.split(';').next().unwrap_or_default().trim();
        Self(Cow::Owned(essence.to_ascii_lowercase()))
    }

    /// Returns the media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Tells whether this is an image manifest, OCI's or Docker's.
    pub fn is_manifest(&self) -> bool {
        *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST
    }

    /// Tells whether this is an index, OCI's or Docker's manifest list.
    pub fn is_index(&self) -> bool {
        *self == Self::OCI_INDEX || *self == Self::DOCKER_MANIFEST_LIST
    }

    /// Tells whether this is an image config, OCI's or Docker's.
    pub fn is_config(&self) -> bool {
        *self == Self::OCI_CONFIG || *self == Self::DOCKER_CONFIG
    }

    /// Returns OCI's type of a layer that is compressed so.
    pub fn oci_layer(compression: LayerCompression) -> Self {
        match compression {
            LayerCompression::None => Self::OCI_LAYER,
            LayerCompression::Gzip => Self::OCI_LAYER_GZIP,
            LayerCompression::Zstd => Self::OCI_LAYER_ZSTD,
        }
    }

    /// Returns how a layer of this type is compressed; `None` when it is no layer that can be applied.
    pub fn layer_compression(&self) -> Option<LayerCompression> {
        let is = |types: [Self; 2]| types.contains(self);
        if is([Self::OCI_LAYER_GZIP, Self::DOCKER_LAYER_GZIP]) {
            Some(LayerCompression::Gzip)
        } else if is([Self::OCI_LAYER_ZSTD, Self::DOCKER_LAYER_ZSTD]) {
            Some(LayerCompression::Zstd)
        } else if is([Self::OCI_LAYER, Self::DOCKER_LAYER]) {
            Some(LayerCompression::None)
        } else {
            None
        }
    }
}

impl From<String> for MediaType {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_of_a_content_type_do_not_matter() {
        let header = "Application/vnd.oci.image.manifest.v1+json; charset=utf-8";
        assert_eq!(MediaType::from_content_type(header), MediaType::OCI_MANIFEST);
    }

    #[test]
    fn every_layer_type_names_its_compression() {
        assert_eq!(MediaType::DOCKER_LAYER_GZIP.layer_compression(), Some(LayerCompression::Gzip));
        assert_eq!(MediaType::OCI_LAYER_ZSTD.layer_compression(), Some(LayerCompression::Zstd));
        assert_eq!(MediaType::OCI_LAYER.layer_compression(), Some(LayerCompression::None));
        assert_eq!(MediaType::OCI_CONFIG.layer_compression(), None);
        for compression in [LayerCompression::None, LayerCompression::Gzip, LayerCompression::Zstd] {
            assert_eq!(MediaType::oci_layer(compression).layer_compression(), Some(compression));
        }
    }
}
