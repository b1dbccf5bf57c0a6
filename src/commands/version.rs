//! `wharf version`.

use crate::listing::{Field, Format, Listing};
use crate::output;

const FIELDS: [Field; 3] = [("Version", "VERSION"), ("Os", "OS"), ("Arch", "ARCHITECTURE")];

#[derive(Debug, clap::Args)]
pub(crate) struct VersionArgs {
    /// Format: `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Prints the version.
pub(crate) fn version(args: &VersionArgs) -> anyhow::Result<u8> {
    let platform = oci::Platform::host();
    let version = env!("CARGO_PKG_VERSION");
    let Some(format) = &args.format else {
        output::line(&format!("wharf {version} ({platform})"))?;
        return Ok(0);
    };
    let mut listing = Listing::new(&FIELDS, &["Version", "Os", "Arch"]);
    listing.row(vec![version.to_owned(), platform.os, platform.architecture]);
    output::print(&listing.render(&Format::parse(Some(format))?)?)?;
    Ok(0)
}
