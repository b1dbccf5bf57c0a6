//! `wharf info`: the store, how its layers are mounted, and the machine.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context;
use layer_store::{DriverInUse, Store};

use crate::listing::{Field, Format, Listing};
use crate::session::Session;
use crate::shown::shown;
use crate::{config, output, size};

/// The names are those of docker's API.
const FIELDS: [Field; 12] = [
    ("ServerVersion", "Version"),
    ("Driver", "Storage Driver"),
    ("DriverStatus", "Driver Status"),
    ("BackingFilesystem", "Backing Filesystem"),
    ("DockerRootDir", "Store"),
    ("Images", "Images"),
    ("KernelVersion", "Kernel Version"),
    ("OperatingSystem", "Operating System"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("NCPU", "CPUs"),
    ("MemTotal", "Total Memory"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// Format: `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Shows what there is to work with.
pub(crate) fn info(args: &InfoArgs, session: &Session) -> anyhow::Result<u8> {
    let store = session.store()?;
    let DriverInUse { driver, obstacle } = store.driver()?;
    let status = obstacle.map(|obstacle| format!("no erofs: {obstacle}")).unwrap_or_default();
    let machine = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let memory = memory.totalram.saturating_mul(memory.mem_unit.into());
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let values = |memory: String| {
        vec![
            env!("CARGO_PKG_VERSION").to_owned(),
            driver.to_string(),
            status.clone(),
            file_system(store.root()),
            store.root().display().to_string(),
            count_images(&store).to_string(),
            text(machine.release()),
            config::host_system_name(),
            "linux".to_owned(),
            text(machine.machine()),
            cpus.to_string(),
            memory,
        ]
    };
    if let Some(format) = &args.format {
        let mut listing = Listing::new(&FIELDS, &FIELDS.map(|(name, _)| name));
        listing.row(values(memory.to_string()));
        output::print(&listing.render(&Format::parse(Some(format))?)?)?;
        return Ok(0);
    }
    let mut lines = String::new();
    for ((_, title), value) in FIELDS.iter().zip(values(size::summed(memory))).filter(|(_, value)| !value.is_empty()) {
        writeln!(lines, "{title}: {}", shown(&value)).context("cannot write")?;
    }
    output::print(&lines)?;
    Ok(0)
}

/// Counts the images, also those that cannot be read.
fn count_images(store: &Store) -> usize {
    store.images().map_or(0, |images| images.len())
}

fn text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}

/// Names a file system as docker does.
fn file_system(path: &Path) -> String {
    let kind = rustix::fs::statfs(path).map(|found| u64::try_from(found.f_type).unwrap_or(0));
    match kind {
        Ok(0xef53) => "extfs".to_owned(),
        Ok(0x5846_5342) => "xfs".to_owned(),
        Ok(0x9123_683e) => "btrfs".to_owned(),
        Ok(0x0102_1994) => "tmpfs".to_owned(),
        Ok(0x794c_7630) => "overlayfs".to_owned(),
        Ok(0x6969) => "nfs".to_owned(),
        Ok(kind) => format!("{kind:#x}"),
        Err(_) => String::new(),
    }
}
