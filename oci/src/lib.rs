//! The nouns of image-spec and distribution-spec: pure data, no files, no network.
//!
//! | name | what it is |
//! |---|---|
//! | [`Digest`], [`DiffId`], [`ChainId`] | of a blob as stored, of an uncompressed layer tar, of a stack of layers |
//! | [`Reference`], [`Platform`], [`MediaType`] | what a user writes to name an image, a machine kind, a kind of bytes |
//! | [`Descriptor`], [`Manifest`], [`Index`], [`ImageConfig`] | the JSON documents of image-spec 1.1 |
//! | [`Document`] | the exact bytes of a document beside what they parse to; its digest is of the bytes |
//! | [`BlobSource`], [`BlobSink`] | the two traits through which images move between a store and a registry |
//!
//! Invariants: what exists is valid (parsing is the only way in); maps are ordered, so that equal values serialise to
//! equal bytes; fields that are not known here survive a round trip.

#![forbid(unsafe_code)]

mod blob;
mod descriptor;
mod digest;
mod document;
mod image_config;
mod manifest;
mod media_type;
mod platform;
mod reference;

pub use blob::{BlobError, BlobSink, BlobSource, BlobWriter, Verified};
pub use descriptor::Descriptor;
pub use digest::{Algorithm, ChainId, DiffId, Digest, DigestError, Hasher};
pub use document::{Document, DocumentError};
pub use image_config::{ContainerConfig, Empty, Healthcheck, HistoryEntry, ImageConfig, RootFs};
pub use manifest::{Index, Manifest, ManifestOrIndex};
pub use media_type::{LayerCompression, MediaType};
pub use platform::{Platform, PlatformError};
pub use reference::{Reference, ReferenceError};
