//! The file that a download goes into: hashed and written on a thread of its own, a few chunks behind the network.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};

use bytes::Bytes;
use oci::{Algorithm, Digest, Hasher};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const CHUNKS_AHEAD: usize = 16;

/// Takes the pieces of a file in their order.
#[derive(Debug)]
pub(super) struct Writer {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<Written>>,
    /// Bytes that were handed over since the beginning of the file.
    received: u64,
}

#[derive(Debug)]
enum Piece {
    Bytes(Bytes),
    /// What came so far is not the beginning of the file.
    Restart,
}

/// The whole file.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) size: u64,
    pub(super) sha256: Digest,
}

impl Writer {
    /// Starts at the beginning of `file`, which loses its content.
    pub(super) fn start(file: File) -> Self {
        let (pieces, received) = mpsc::channel(CHUNKS_AHEAD);
        let thread = tokio::task::spawn_blocking(move || write(file, received));
        Self { pieces, thread, received: 0 }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next bytes; false when the file takes no more, for a reason that [`finish`](Self::finish) tells.
    pub(super) async fn write(&mut self, bytes: Bytes) -> bool {
        self.received += bytes.len() as u64;
        self.pieces.send(Piece::Bytes(bytes)).await.is_ok()
    }

    /// Begins anew; false as for [`write`](Self::write).
    pub(super) async fn restart(&mut self) -> bool {
        self.received = 0;
        self.pieces.send(Piece::Restart).await.is_ok()
    }

    /// Waits until everything is written.
    pub(super) async fn finish(self) -> io::Result<Written> {
        drop(self.pieces);
        self.thread.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

fn write(mut file: File, mut pieces: mpsc::Receiver<Piece>) -> io::Result<Written> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut size = 0;
    rewind(&mut file)?;
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => {
                hasher.update(&bytes);
                file.write_all(&bytes)?;
                size += bytes.len() as u64;
            }
            Piece::Restart => {
                rewind(&mut file)?;
                (hasher, size) = (Hasher::new(Algorithm::Sha256), 0);
            }
        }
    }
    Ok(Written { size, sha256: hasher.finish() })
}

fn rewind(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}
