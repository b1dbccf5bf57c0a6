//! Terminals: the one that a container gets, and the caller's own, which is switched to raw while bytes are copied between them.
//!
//! ```text
//! caller's terminal ⇄ (raw mode; the caller copies bytes) ⇄ master │ slave = 0, 1, 2 of the container
//! ```
//!
//! Blocking functions; who copies, and on which threads, is the caller's choice.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// Size of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { rows: 24, columns: 80 }
    }
}

/// Whether `file` is a terminal.
pub fn is_terminal(file: impl AsFd) -> bool {
    rustix::termios::isatty(file)
}

/// Returns the size of a terminal.
///
/// # Errors
///
/// The system's, `ENOTTY` when it is none.
pub fn size(terminal: impl AsFd) -> io::Result<Size> {
    let size = tcgetwinsize(terminal)?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets the size of a terminal; what runs in it is told by `SIGWINCH`.
///
/// # Errors
///
/// The system's, `ENOTTY` when it is none.
pub fn resize(terminal: impl AsFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// A terminal in raw mode: bytes pass as they are. Dropped, it is as it was before.
#[derive(Debug)]
pub struct RawMode<F: AsFd> {
    terminal: F,
    before: Termios,
}

impl<F: AsFd> RawMode<F> {
    /// Switches `terminal` to raw mode.
    ///
    /// # Errors
    ///
    /// The system's, `ENOTTY` when it is none.
    pub fn enter(terminal: F) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Flush, &raw)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for RawMode<F> {
    fn drop(&mut self) {
        let _gone_with_its_terminal = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// Both ends of a new terminal.
pub(crate) struct Pair {
    pub(crate) master: OwnedFd,
    pub(crate) slave: OwnedFd,
}

/// Opens a terminal in the `devpts` instance behind `pts`, owned by `uid` and, where it exists, the tty group.
///
/// The instance is ours and not yet mounted: no path of the image is involved.
pub(crate) fn open(pts: &OwnedFd, size: Size, uid: u32, tty_group: Option<u32>) -> Result<Pair, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat(pts, "ptmx", flags, Mode::empty())?;
    rustix::pty::unlockpt(&master)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, peer)?;
    rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), tty_group.map(Gid::from_raw))?;
    tcsetwinsize(&master, Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok(Pair { master, slave })
}
