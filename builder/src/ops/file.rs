//! COPY, ADD and WORKDIR: changes to files without a process, written as a finished layer.
//!
//! Nothing is mounted, but for the stage that a COPY takes files from.
//!
//! Not here: what COPY and ADD do (`copy.rs`).

use std::error::Error;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use layer_store::{LayerFiles, LayerRecord, Lower};
use runtime::{LARGEST_ACCOUNT_FILE, User, UserError};

use super::copy::copy_files;
use super::{Change, Executed, StepError, Taken};
use crate::content_digest::Holdings;
use crate::context_index::Pass;
use crate::copy::CopyError;
use crate::draft::{Below, Draft, Standing, There};
use crate::graph::FileAction;
use crate::layer_writer::LayerWriter;
use crate::rootfs::WriteError;
use crate::solve::Solver;

pub(super) fn file(
    solver: &Solver,
    action: &FileAction,
    inputs: &[Vec<Lower>],
    taken: Taken,
) -> Result<Executed, StepError> {
    let files = solver.backend.store.files(&inputs[0]).map_err(|source| StepError::Files { source })?;
    let executed = match action {
        FileAction::Copy(action) => copy_files(solver, action, &files, inputs.get(1).map(Vec::as_slice), taken),
        FileAction::MakeDirectory { path, user, time } => make_directory(solver, &files, path, (user, *time)),
    };
    if solver.stop.is_cancelled() { Err(StepError::Cancelled) } else { executed }
}

fn make_directory(
    solver: &Solver,
    files: &LayerFiles,
    path: &str,
    (user, time): (&str, Option<i64>),
) -> Result<Executed, StepError> {
    let owner = User::find(user, &|path| account_file(files, path));
    let owner = owner.map_err(|source| StepError::Owner { owner: user.to_owned(), source })?;
    let mut draft = Draft::new(Below::Files(files)).made_at(time);
    let failed = |source| StepError::MakeDirectory { source };
    let made = draft.make_directory(Path::new(path), (owner.uid, owner.gid));
    let (_, standing) = made.map_err(|source| failed(source.into()))?;
    if standing == Standing::Below {
        return Ok(Executed { change: Change::None, content: None });
    }
    let (layer, _) = write(solver, draft, Pass::new(None), Holdings::new()).map_err(failed)?;
    Ok(Executed { change: Change::Layer(layer.diff_id), content: None })
}

/// Writes a draft as a layer.
pub(super) fn write(
    solver: &Solver,
    draft: Draft<'_>,
    pass: Pass<'_>,
    holdings: Holdings,
) -> Result<(LayerRecord, Holdings), CopyError> {
    let layer = solver.backend.store.begin_tar()?;
    LayerWriter::new(layer, pass, holdings, &solver.stop).write(draft)
}

/// Reads one of the files that know the users of an image, found inside it, links and all; one that is not there is empty.
pub(super) fn account_file(files: &LayerFiles, path: &Path) -> Result<Vec<u8>, UserError> {
    type Cause = Box<dyn Error + Send + Sync>;
    let read = |source: Cause| UserError::Read { path: path.to_owned(), source: io::Error::other(source) };
    let mut draft = Draft::new(Below::Files(files));
    let place = match draft.place(path, (0, 0)) {
        Ok(place) => place,
        Err(WriteError::NotADirectory { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(read(Box::new(error))),
    };
    match place.there {
        There::Nothing => Ok(Vec::new()),
        There::File(size) if size > LARGEST_ACCOUNT_FILE => Err(UserError::TooLarge { path: path.to_owned() }),
        There::File(_) => {
            let found = draft.path(place.parent).join(OsStr::from_bytes(&place.name));
            let bytes = files.read(&found, LARGEST_ACCOUNT_FILE).map_err(|error| read(Box::new(error)))?;
            Ok(bytes.unwrap_or_default())
        }
        There::Directory(_) | There::Link(_) | There::Other => Err(UserError::NotAFile { path: path.to_owned() }),
    }
}
