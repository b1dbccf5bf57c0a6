//! The file of a layer's tar: hashed and written by a second thread while the first reads.
//!
//! - The thread starts with the first full piece: a small layer costs none.
//! - Long runs of zeros stay holes in the file, and so does a source's: the tar of a sparse file takes no more disk than that.
//! - The file ends at a whole block, as its last one is read as a whole (`erofs`): bytes after those of the tar are zeros.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use oci::{Digest, Hasher};

use crate::sys;
use crate::tree_tar::header::BLOCK;
use crate::tree_tar::writer::Pieces;

/// Pieces between the two threads, at most.
const PIECES: usize = 4;
/// Bytes that become a hole when all of them are zero.
const HOLE: usize = 64 << 10;

/// A tar that is being written.
#[derive(Debug)]
pub(crate) enum Output {
    Here(Target),
    Beside(Beside),
    /// It failed.
    Nowhere,
}

/// The file, and what is known of its bytes.
#[derive(Debug)]
pub(crate) struct Target {
    file: File,
    hasher: Hasher,
    size: u64,
}

/// A thread that has the file.
#[derive(Debug)]
pub(crate) struct Beside {
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
    /// Pieces that were made for it.
    made: usize,
    thread: JoinHandle<io::Result<Target>>,
}

impl Output {
    pub(crate) fn create(path: &Path, hasher: Hasher) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Self::Here(Target { file, hasher, size: 0 }))
    }

    /// Waits until everything is written, and returns the digest and the bytes of the tar.
    pub(crate) fn finish(self) -> io::Result<(Digest, u64)> {
        let target = match self {
            Self::Here(target) => target,
            Self::Beside(beside) => beside.join()?,
            Self::Nowhere => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        target.file.set_len(target.size.next_multiple_of(BLOCK as u64))?;
        Ok((target.hasher.finish(), target.size))
    }
}

impl Pieces for Output {
    fn take(&mut self, piece: Vec<u8>, filled: usize) -> io::Result<Vec<u8>> {
        match std::mem::replace(self, Self::Nowhere) {
            Self::Here(mut target) if filled < piece.len() => {
                target.write(&piece[..filled])?;
                *self = Self::Here(target);
                Ok(piece)
            }
            Self::Here(target) => {
                *self = Self::Beside(Beside::start(target)?);
                self.take(piece, filled)
            }
            Self::Beside(mut beside) => {
                let size = piece.len();
                if beside.full.send((piece, filled)).is_err() {
                    return Err(beside.join().err().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into()));
                }
                let empty = beside.empty(size);
                *self = Self::Beside(beside);
                Ok(empty)
            }
            Self::Nowhere => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Target {
    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.hasher.update(piece);
        let mut start = 0;
        for at in (0..piece.len()).step_by(HOLE) {
            let end = at + HOLE;
            if piece.get(at..end).is_some_and(sys::is_zero) {
                self.file.write_all_at(&piece[start..at], self.size + start as u64)?;
                start = end;
            }
        }
        self.file.write_all_at(&piece[start..], self.size + start as u64)?;
        self.size += piece.len() as u64;
        Ok(())
    }
}

impl Beside {
    fn start(mut target: Target) -> io::Result<Self> {
        let (full, pieces) = sync_channel::<(Vec<u8>, usize)>(PIECES);
        let (used, empty) = channel();
        let thread = std::thread::Builder::new().name("layer-tar".to_owned()).spawn(move || {
            for (piece, filled) in pieces {
                target.write(&piece[..filled])?;
                // the other side may not need it any more
                let _ = used.send(piece);
            }
            Ok(target)
        })?;
        Ok(Self { full, empty, made: 1, thread })
    }

    /// Returns an empty piece: a used one, or while there are few a new one.
    fn empty(&mut self, size: usize) -> Vec<u8> {
        if let Ok(piece) = self.empty.try_recv() {
            return piece;
        }
        if self.made < PIECES {
            self.made += 1;
            return vec![0; size];
        }
        // a thread that has failed gives none back; the next piece says why
        self.empty.recv().unwrap_or_else(|_| vec![0; size])
    }

    fn join(self) -> io::Result<Target> {
        let Self { full, thread, .. } = self;
        drop(full);
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
