//! One directory of blobs, layers, images, tags and cache records.
