//! Opens an archive of images, whatever it is in, and tells what it is.
//!
//! A plain tar in a regular file is read where it is; what is compressed, or comes through a pipe, is spooled as it passes.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use layer_store::{ArchiveError, Store};
use oci::{Manifest, Platform};

use super::archived_image::ArchivedImage;
use super::docker;
use super::files::{Files, ImageArchiveError};
use super::layout::{ImageLayout, Shape};
use crate::archive::{Content, content, is_tar_header};

/// An archive of images.
#[derive(Clone, Debug)]
pub struct ImageArchive {
    files: Arc<Files>,
}

impl ImageArchive {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError::Read`] when it cannot be opened.
    pub fn directory(path: &Path) -> Result<Self, ImageArchiveError> {
        Ok(Self { files: Arc::new(Files::directory(path)?) })
    }

    /// Looks into the plain tar that begins where `file` stands, and leaves it there; `None` when that is none, or no regular file.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError::Archive`] when the tar is broken.
    pub fn in_place(store: &Store, mut file: File) -> Result<Option<Self>, ImageArchiveError> {
        let looked = is_plain_tar(&mut file);
        if !looked.map_err(|source| ImageArchiveError::Archive(ArchiveError::Look(source)))? {
            return Ok(None);
        }
        let files = store.archive_in_place(file)?;
        Ok(Some(Self { files: Arc::new(Files::Tar(files)) }))
    }

    /// Reads a tar, perhaps compressed, to its end; `store` takes its files.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError`] when no tar comes out of it.
    pub fn stream(store: &Store, input: impl Read + Send + 'static) -> Result<Self, ImageArchiveError> {
        let found = content(input).map_err(|source| ImageArchiveError::Archive(ArchiveError::Look(source)))?;
        let files = match found {
            Content::Tar(tar) => store.spool_archive(tar)?,
            Content::Compressed(method) => return Err(ImageArchiveError::Compressed { method }),
            Content::Other(_) => return Err(ImageArchiveError::NotATar),
        };
        Ok(Self { files: Arc::new(Files::Tar(files)) })
    }

    /// Reads the documents of all images.
    ///
    /// Where an image is there for several platforms, it is the one for `platform`, or for this machine.
    ///
    /// # Errors
    ///
    /// [`ImageArchiveError`] when one of them is not what it should be, or none is there for `platform`.
    pub fn images(&self, platform: Option<&Platform>) -> Result<Vec<ArchivedImage>, ImageArchiveError> {
        let images = self.read_images(platform)?;
        if images.is_empty() {
            return Err(ImageArchiveError::NoImages);
        }
        let runs = |image: &ArchivedImage, wanted: &Platform| image.config.value().platform.runs_on(wanted);
        match platform {
            Some(wanted) if !images.iter().all(|image| runs(image, wanted)) => {
                Err(ImageArchiveError::NoPlatform { wanted: wanted.clone() })
            }
            _ => Ok(images),
        }
    }

    fn read_images(&self, platform: Option<&Platform>) -> Result<Vec<ArchivedImage>, ImageArchiveError> {
        let is_layout = self.files.has("oci-layout")? && self.files.has("index.json")?;
        if !is_layout && !self.files.has("manifest.json")? {
            let is_old = self.files.has("repositories")?;
            return Err(if is_old { ImageArchiveError::TooOld } else { ImageArchiveError::NotImages });
        }
        self.refuse_strange()?;
        if is_layout {
            let layout = ImageLayout::new(Arc::clone(&self.files), Shape::Layout);
            layout.check_version()?;
            return layout.images(platform);
        }
        let bytes = self.files.read("manifest.json", "manifest", Manifest::MAX_SIZE)?;
        let is_list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if is_list {
            return docker::images(&self.files, bytes);
        }
        ImageLayout::new(Arc::clone(&self.files), Shape::Directory).images(platform)
    }

    /// Refuses an archive with entries that no archive of images has.
    fn refuse_strange(&self) -> Result<(), ImageArchiveError> {
        match &*self.files {
            Files::Tar(files) => files.refused().map_or(Ok(()), |refused| Err(refused.clone().into())),
            Files::Directory { .. } => Ok(()),
        }
    }
}

/// Tells whether a tar begins where a regular file stands; the file is not moved.
fn is_plain_tar(input: &mut File) -> io::Result<bool> {
    if !input.metadata()?.is_file() {
        return Ok(false);
    }
    let mut header = [0; 512];
    let at = input.stream_position()?;
    let mut read = 0;
    while read < header.len() {
        match input.read_at(&mut header[read..], at + read as u64)? {
            0 => return Ok(false),
            count => read += count,
        }
    }
    Ok(is_tar_header(&header))
}
