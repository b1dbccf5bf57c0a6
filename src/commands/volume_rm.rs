//! `wharf volume rm`: removes volumes with all that is in them.

use layer_store::{VolumeError, VolumeName};

use crate::ending::Ending;
use crate::session::Session;
use crate::{output, report};

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeRmArgs {
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<VolumeName>,
    /// No error for what is not there
    #[arg(short, long)]
    force: bool,
}

/// Removes volumes.
pub(crate) fn volume_rm(args: &VolumeRmArgs, session: &Session) -> anyhow::Result<u8> {
    let store = session.store()?;
    let mut has_failed = false;
    for name in &args.names {
        match store.remove_volume(name) {
            Err(VolumeError::NotFound { .. }) if args.force => output::print(&format!("{name}\n"))?,
            Ok(()) => output::print(&format!("{name}\n"))?,
            Err(error) => {
                report::one_of_several(&error.into());
                has_failed = true;
            }
        }
    }
    if has_failed { Err(Ending::Reported.into()) } else { Ok(0) }
}
