//! A JSON document as received, beside what it parses to.
//!
//! Bytes are the truth: a document is digested and passed on as it came, never serialised again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Descriptor, Digest, MediaType};

/// The exact bytes of a document and the value they hold.
#[derive(Clone, Debug)]
pub struct Document<T> {
    bytes: Vec<u8>,
    value: T,
}

/// Why bytes are not the document they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum DocumentError {
    #[error("not a valid {what}")]
    Json { what: &'static str, source: serde_json::Error },
    #[error("{what} is {size} bytes, more than the {limit} bytes that are read")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    #[error("{what} has schemaVersion {version}, want 2")]
    SchemaVersion { what: &'static str, version: u64 },
    #[error("manifest says it is `{inner}`, but it was announced as `{outer}`")]
    MediaTypeMismatch { inner: MediaType, outer: MediaType },
    #[error("media type `{media_type}` is neither an image manifest nor an index")]
    NotAManifest { media_type: MediaType },
    #[error("manifest has both `layers` and `manifests`")]
    Ambiguous,
}

impl<T: DeserializeOwned> Document<T> {
    /// Parses `bytes`, of at most `limit` bytes; `what` names the document in errors.
    ///
    /// # Errors
    ///
    /// [`DocumentError::TooLarge`], or [`DocumentError::Json`] for anything but one JSON value of this shape.
    pub fn parse(bytes: Vec<u8>, what: &'static str, limit: usize) -> Result<Self, DocumentError> {
        if bytes.len() > limit {
            return Err(DocumentError::TooLarge { what, size: bytes.len(), limit });
        }
        let value = serde_json::from_slice(&bytes).map_err(|source| DocumentError::Json { what, source })?;
        Ok(Self { bytes, value })
    }
}

impl<T: Serialize> Document<T> {
    /// Serialises `value`: from here on these bytes are the document.
    pub fn write(value: T) -> Self {
        let bytes = serde_json::to_vec(&value)
            .expect("the documents of this crate have string keys and no failing serialisers");
        Self { bytes, value }
    }
}

impl<T> Document<T> {
    /// Returns the bytes as received or written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what the bytes hold.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns the digest of the bytes.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Describes the document under `media_type`.
    pub fn descriptor(&self, media_type: MediaType) -> Descriptor {
        Descriptor::of(media_type, &self.bytes)
    }

    /// Splits the document into its bytes and its value.
    pub fn into_parts(self) -> (Vec<u8>, T) {
        (self.bytes, self.value)
    }
}
