//! The nouns of image-spec and distribution-spec: pure data, no files, no network.
