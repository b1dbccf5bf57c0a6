//! Image manifests and indexes, OCI's and Docker's schema 2.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Descriptor, Document, DocumentError, ImageConfig, MediaType, Platform};

/// An image manifest: one config and its layers, lowest first.
///
/// Spec: image-spec 1.1, manifest.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the spec's own")]
pub struct Manifest {
    pub schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// An image index: manifests of one image for several platforms.
///
/// Spec: image-spec 1.1, image-index.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields are the spec's own")]
pub struct Index {
    pub schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What a registry may answer for a name: one manifest, or an index of them.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few are held at a time, never a list of them")]
pub enum ManifestOrIndex {
    /// An image manifest.
    Manifest(Document<Manifest>),
    /// An index, or Docker's manifest list.
    Index(Document<Index>),
}

impl Manifest {
    /// Bytes of a manifest that are read at most (distribution-spec 1.1, "Pushing Manifests", asks for 4 MiB).
    pub const MAX_SIZE: usize = 4 << 20;

    /// Makes an OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        let media_type = Some(MediaType::OCI_MANIFEST);
        Self {
            schema_version: 2,
            media_type,
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl Index {
    /// Returns the first manifest that runs on `platform`.
    ///
    /// Attestation entries (`unknown/unknown`) never match.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let runs = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.normalised() == platform.normalised());
        let compatible = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.runs_on(platform));
        self.manifests.iter().find(runs).or_else(|| self.manifests.iter().find(compatible))
    }
}

impl ManifestOrIndex {
    /// Parses `bytes` that were announced as `announced` (a Content-Type, or a descriptor's media type).
    ///
    /// # Errors
    ///
    /// [`DocumentError`] when the announced type, the document's own `mediaType` and its fields do not agree
    /// (CVE-2021-41190), when it is larger than [`Manifest::MAX_SIZE`], or when it is not schema 2.
    pub fn parse(bytes: Vec<u8>, announced: Option<&MediaType>) -> Result<Self, DocumentError> {
        let shape = Document::<Shape>::parse(bytes, "manifest", Manifest::MAX_SIZE)?;
        let (bytes, shape) = shape.into_parts();
        let media_type = shape.media_type(announced)?;
        if shape.schema_version != 2 {
            return Err(DocumentError::SchemaVersion { what: "manifest", version: shape.schema_version });
        }
        if media_type.is_index() {
            Document::parse(bytes, "image index", Manifest::MAX_SIZE).map(Self::Index)
        } else if media_type.is_manifest() {
            Document::parse(bytes, "image manifest", Manifest::MAX_SIZE).map(Self::Manifest)
        } else {
            Err(DocumentError::NotAManifest { media_type })
        }
    }

    /// Returns the bytes as received.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Manifest(document) => document.bytes(),
            Self::Index(document) => document.bytes(),
        }
    }
}

/// The few fields that tell what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u64,
    media_type: Option<MediaType>,
    layers: Option<Value>,
    manifests: Option<Value>,
}

impl Shape {
    fn media_type(&self, announced: Option<&MediaType>) -> Result<MediaType, DocumentError> {
        if self.layers.is_some() && self.manifests.is_some() {
            return Err(DocumentError::Ambiguous);
        }
        match (&self.media_type, announced) {
            (Some(inner), Some(outer)) if inner != outer => {
                Err(DocumentError::MediaTypeMismatch { inner: inner.clone(), outer: outer.clone() })
            }
            (Some(inner), _) => Ok(inner.clone()),
            (None, Some(outer)) => Ok(outer.clone()),
            (None, None) if self.manifests.is_some() => Ok(MediaType::OCI_INDEX),
            (None, None) => Ok(MediaType::OCI_MANIFEST),
        }
    }
}

impl ImageConfig {
    /// Bytes of an image config that are read at most.
    pub const MAX_SIZE: usize = 8 << 20;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str, announced: Option<MediaType>) -> Result<ManifestOrIndex, DocumentError> {
        ManifestOrIndex::parse(json.as_bytes().to_vec(), announced.as_ref())
    }

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn config() -> String {
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{DIGEST}","size":2}}"#)
    }

    #[test]
    fn a_manifest_is_told_from_an_index() {
        let manifest = format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config());
        assert!(matches!(parse(&manifest, None), Ok(ManifestOrIndex::Manifest(_))));
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        assert!(matches!(parse(index, None), Ok(ManifestOrIndex::Index(_))));
        assert!(matches!(parse(index, Some(MediaType::DOCKER_MANIFEST_LIST)), Ok(ManifestOrIndex::Index(_))));
    }

    #[test]
    fn a_document_that_could_be_read_two_ways_is_refused() {
        let both = format!(r#"{{"schemaVersion":2,"config":{},"layers":[],"manifests":[]}}"#, config());
        assert!(matches!(parse(&both, None), Err(DocumentError::Ambiguous)));
        let lying = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        let announced = Some(MediaType::OCI_MANIFEST);
        assert!(matches!(parse(lying, announced), Err(DocumentError::MediaTypeMismatch { .. })));
    }

    #[test]
    fn hostile_manifests_are_refused() {
        let bad = [
            "".to_owned(),
            "[]".to_owned(),
            "\u{feff}{}".to_owned(),
            r#"{"schemaVersion":1,"manifests":[]}"#.to_owned(),
            r#"{"schemaVersion":2,"manifests":[]} x"#.to_owned(),
            r#"{"schemaVersion":2,"schemaVersion":2,"manifests":[]}"#.to_owned(),
            format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                config(),
                config().replace("\"size\":2", "\"size\":-2")
            ),
            format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                config(),
                config().replace("\"size\":2", "\"size\":2.0")
            ),
            format!(
                r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
                config(),
                config().replace(",\"size\":2", "")
            ),
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, config().replace("sha256:", "sha256:../../")),
            format!(r#"{{"schemaVersion":2,"config":{}}}"#, "[".repeat(100_000)),
        ];
        for json in bad {
            assert!(parse(&json, None).is_err(), "accepted {}", &json[..json.len().min(200)]);
        }
    }

    #[test]
    fn an_index_answers_with_the_exact_platform_before_a_compatible_one() {
        let entry = |arch: &str, variant: &str, size: u64| {
            let mut descriptor = Descriptor::new(MediaType::OCI_MANIFEST, DIGEST.parse().unwrap(), size);
            descriptor.platform = Some(format!("linux/{arch}/{variant}").trim_end_matches('/').parse().unwrap());
            descriptor
        };
        let manifests =
            vec![entry("arm", "v6", 1), entry("amd64", "", 2), entry("arm", "v7", 3), entry("arm64", "v8", 4)];
        let index = Index {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        };
        let select = |text: &str| index.select(&text.parse().unwrap()).map(|d| d.size);
        assert_eq!(select("linux/amd64"), Some(2));
        assert_eq!(select("linux/arm64"), Some(4));
        assert_eq!(select("linux/arm/v7"), Some(3));
        assert_eq!(select("linux/arm/v6"), Some(1));
        assert_eq!(select("linux/s390x"), None);
    }
}
