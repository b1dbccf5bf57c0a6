//! Encodings: what kind of blob is made of a layer's tar, and for which layers.
//!
//! | encoding | levels | without a level | pieces, each compressed by itself |
//! |---|---|---|---|
//! | gzip | 1–9 | chosen for each piece by samples | members of 1 MiB |
//! | zstd | 1–19 | 3 | frames of 4 MiB |
//! | uncompressed | none | | |
//!
//! An encoding gives the same bytes for the same tar on every machine. Its name in a layer's record is how it is shown here.

use std::fmt;

use oci::{Descriptor, LayerCompression, MediaType};

const ZSTD_LEVEL: u8 = 3;

/// How a blob is made of a layer's tar; gzip, as densely as each part is worth, by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding {
    compression: LayerCompression,
    level: Option<u8>,
}

/// What the layers of an image that goes out are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// How blobs are made.
    pub encoding: Encoding,
    /// Whether layers that came in another blob get one too; else they go out as they came.
    pub is_forced: bool,
}

/// Why a level cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum EncodingError {
    #[error("{compression} has the levels 1 to {highest}, not {level}")]
    Level { compression: LayerCompression, highest: u8, level: u8 },
    #[error("layers that are not compressed have no level")]
    NoLevels,
}

impl Encoding {
    /// Makes an encoding; without a level, the one that is the best value.
    ///
    /// # Errors
    ///
    /// [`EncodingError`] when there is no such level.
    pub fn new(compression: LayerCompression, level: Option<u8>) -> Result<Self, EncodingError> {
        let highest = match compression {
            LayerCompression::None => 0,
            LayerCompression::Gzip => 9,
            LayerCompression::Zstd => 19,
        };
        match level {
            Some(_) if highest == 0 => Err(EncodingError::NoLevels),
            Some(level) if !(1..=highest).contains(&level) => Err(EncodingError::Level { compression, highest, level }),
            level => Ok(Self { compression, level }),
        }
    }

    /// Returns the format of the blob.
    pub fn compression(self) -> LayerCompression {
        self.compression
    }

    /// Returns the level that every part is compressed at; `None` when there is none, or each part has its own.
    pub fn level(self) -> Option<u8> {
        match self.compression {
            LayerCompression::Zstd => self.level.or(Some(ZSTD_LEVEL)),
            _ => self.level,
        }
    }

    /// Returns the media type of the blob.
    pub(crate) fn media_type(self) -> MediaType {
        MediaType::oci_layer(self.compression)
    }

    /// Returns how many bytes of the tar are compressed by themselves.
    pub(crate) fn piece(self) -> usize {
        match self.compression {
            LayerCompression::None | LayerCompression::Gzip => 1 << 20,
            LayerCompression::Zstd => 4 << 20,
        }
    }

    /// Returns how many bytes the encoder of one thread takes, at most.
    pub(crate) fn memory(self) -> usize {
        match (self.compression, self.level()) {
            (LayerCompression::Zstd, Some(9..)) => 48 << 20,
            (LayerCompression::Zstd, _) => 8 << 20,
            _ => 2 << 20,
        }
    }
}

impl Default for Encoding {
    fn default() -> Self {
        Self { compression: LayerCompression::Gzip, level: None }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level() {
            Some(level) => write!(f, "{}:{level}", self.compression),
            None => self.compression.fmt(f),
        }
    }
}

impl Compression {
    /// Tells whether a blob in which a layer came goes out as it is: always, unless forced to another format or to a level.
    pub(crate) fn keeps(self, received: &Descriptor) -> bool {
        let is_same = received.media_type.layer_compression() == Some(self.encoding.compression);
        !self.is_forced || is_same && self.encoding.level.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_that_the_encoding_has() {
        let shown = |compression, level| Encoding::new(compression, level).map(|encoding| encoding.to_string());
        assert_eq!(shown(LayerCompression::Gzip, None), Ok("gzip".into()));
        assert_eq!(shown(LayerCompression::Gzip, Some(9)), Ok("gzip:9".into()));
        assert_eq!(shown(LayerCompression::Zstd, None), shown(LayerCompression::Zstd, Some(3)));
        assert_eq!(shown(LayerCompression::None, None), Ok("uncompressed".into()));
        assert_eq!(shown(LayerCompression::None, Some(1)), Err(EncodingError::NoLevels));
        for (compression, level) in
            [(LayerCompression::Gzip, 0), (LayerCompression::Gzip, 10), (LayerCompression::Zstd, 20)]
        {
            assert!(matches!(shown(compression, Some(level)), Err(EncodingError::Level { .. })), "{level}");
        }
    }
}
