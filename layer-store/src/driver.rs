//! The two ways in which layers become directories that overlay takes.
//!
//! | driver | a layer that came from elsewhere | where |
//! |---|---|---|
//! | `erofs` | keeps its tar, which the kernel reads through an index (`erofs`) | Linux 6.12 and later, root, on ext4, xfs or btrfs |
//! | `tree` | is unpacked (`apply`) | everywhere |
//!
//! Both show the same files and give the same digests; a store may hold layers of both. Which one works is tried with a real index, once
//! per process that needs to know.

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;
use std::sync::PoisonError;

use crate::file_error::failed;
use crate::index::IndexBuilder;
use crate::overlay::OverlayXattrs;
use crate::{FileError, Store, erofs};

/// How layers become mountable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kernel reads their tars.
    Erofs,
    /// They are unpacked.
    Tree,
}

/// Which driver a store is to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The best one that works.
    #[default]
    Auto,
    /// This one or none.
    Only(Driver),
}

/// A driver, and why it is no better one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriverInUse {
    /// What is used.
    pub driver: Driver,
    /// Why `erofs` does not work here; `None` when it does, or was not tried.
    pub obstacle: Option<String>,
}

/// Why a driver that was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum DriverError {
    #[error("storage driver `{driver}` does not work here: {obstacle}")]
    Unavailable { driver: Driver, obstacle: String },
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why a text names no driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("`{}` is no storage driver: there are `auto`, `erofs` and `tree`", .text.escape_debug())]
pub struct DriverNameError {
    /// What was given, cut to 200 characters.
    pub text: String,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Erofs => "erofs",
            Self::Tree => "tree",
        })
    }
}

impl FromStr for DriverChoice {
    type Err = DriverNameError;

    fn from_str(text: &str) -> Result<Self, DriverNameError> {
        match text {
            "auto" => Ok(Self::Auto),
            "erofs" => Ok(Self::Only(Driver::Erofs)),
            "tree" => Ok(Self::Only(Driver::Tree)),
            _ => Err(DriverNameError { text: text.chars().take(200).collect() }),
        }
    }
}

impl Store {
    /// Returns the driver that layers get here.
    ///
    /// # Errors
    ///
    /// [`DriverError::Unavailable`] when another one was asked for, [`DriverError::File`] when nothing can be tried.
    pub fn driver(&self) -> Result<DriverInUse, DriverError> {
        let choice = self.0.driver_choice;
        if choice == DriverChoice::Only(Driver::Tree) {
            return Ok(DriverInUse { driver: Driver::Tree, obstacle: None });
        }
        let mut known = self.0.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match &*known {
            Some(found) => found.clone(),
            None => known.insert(self.find_driver()?).clone(),
        };
        match (choice, found) {
            (DriverChoice::Only(driver), DriverInUse { obstacle: Some(obstacle), .. }) => {
                Err(DriverError::Unavailable { driver, obstacle })
            }
            (_, found) => Ok(found),
        }
    }

    /// Tells whether it is clear, without trying it, that no index can be mounted or none is to be.
    pub(crate) fn is_tree_only(&self) -> Result<bool, FileError> {
        let known = self.0.driver.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = known.as_ref().is_some_and(|known| known.driver == Driver::Tree);
        let is_chosen = self.0.driver_choice == DriverChoice::Only(Driver::Tree);
        Ok(is_known || is_chosen || self.overlay_xattrs()? == OverlayXattrs::User)
    }

    fn find_driver(&self) -> Result<DriverInUse, FileError> {
        let obstacle = match self.overlay_xattrs()? {
            OverlayXattrs::User => Some("only root of the machine may mount it, and no user namespace".to_owned()),
            OverlayXattrs::Trusted => self.try_index()?.err().map(|error| obstacle(&error)),
        };
        let driver = if obstacle.is_none() { Driver::Erofs } else { Driver::Tree };
        Ok(DriverInUse { driver, obstacle })
    }

    /// Mounts the index of an empty tar, and lets it go.
    fn try_index(&self) -> Result<io::Result<()>, FileError> {
        let scratch = self.scratch("driver")?;
        let (tar, index) = (scratch.directory.join("tar"), scratch.directory.join("index"));
        std::fs::write(&tar, [0; 1024]).map_err(failed("write", &tar))?;
        let (_, image) = IndexBuilder::new().finish(1024).expect("an index can show an empty tar");
        let written = File::create_new(&index).and_then(|mut file| image.write(&mut file));
        written.map_err(failed("write", &index))?;
        Ok(erofs::detached(&index, &tar).map(drop))
    }
}

fn obstacle(error: &io::Error) -> String {
    match rustix::io::Errno::from_io_error(error) {
        Some(rustix::io::Errno::NODEV) => "this kernel has no EROFS".to_owned(),
        Some(rustix::io::Errno::NOTBLK) => {
            "this kernel, or the file system of the store, has no EROFS in files (Linux 6.12; ext4, xfs, btrfs)"
                .to_owned()
        }
        _ => format!("an index cannot be mounted: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_chosen_by_name() {
        for (text, choice) in [
            ("auto", DriverChoice::Auto),
            ("erofs", DriverChoice::Only(Driver::Erofs)),
            ("tree", DriverChoice::Only(Driver::Tree)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
        }
        let error = "overlay2".parse::<DriverChoice>().unwrap_err();
        assert_eq!(error.to_string(), "`overlay2` is no storage driver: there are `auto`, `erofs` and `tree`");
    }
}
