//! Archives of images: what `save` writes and `load` reads, as docker, podman, skopeo and buildah do.
//!
//! ```text
//! directory, or tar (files) ─┬─ oci-layout, index.json        (layout) ─┐
//!                            ├─ manifest.json: a list         (docker)  ├─▶ ArchivedImage ─verify, apply▶ store ─▶ image, tags
//!                            └─ manifest.json: one manifest   (layout) ─┘    (archived_image)               (load)
//! image in the store ─manifest▶ blobs, documents ─▶ tar, or directory                                       (save)
//! root file system, a tar ─▶ layer ─▶ image                                                                 (import)
//! ```
//!
//! | an archive with | is read as | written by |
//! |---|---|---|
//! | `oci-layout` and `index.json` | an image layout, also if it is a docker archive besides | docker from 25, buildx, podman, skopeo, buildah, umoci |
//! | `manifest.json`, a list | a docker archive: names of files, whose digests nobody has promised | docker since 1.10, podman, skopeo, kaniko, crane |
//! | `manifest.json`, a manifest or an index | a directory of skopeo's, `dir:` | podman, skopeo, buildah |
//!
//! - Nothing is believed: every document and every layer is what its descriptor or its config says, or nothing is loaded.
//! - No image is visible before all images of the archive are complete.
//! - A plain layer is kept as its layer's tar, not as a blob: it is compressed when it is first pushed or saved.

mod archived_image;
mod docker;
mod files;
mod import;
mod layout;
mod load;
mod open;
mod save;
#[cfg(test)]
mod tests;

pub use archived_image::ArchivedImage;
pub use files::ImageArchiveError;
pub use import::{Import, ImportError, import};
pub use layout::{ImageLayout, LayoutName};
pub use load::{LoadError, LoadedImage, LoadedName, load};
pub use open::ImageArchive;
pub use save::{SaveError, SaveFormat, SaveTo, SavedImage, save};
