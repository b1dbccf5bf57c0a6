//! `wharf import`: makes an image of a root file system, a tar archive of any compression.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, bail};
use builder::{Import, Remote};
use layer_store::Store;
use oci::{Platform, Reference};
use remote_files::{HttpSource, RemoteSource, Use};
use time::OffsetDateTime;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::Access;
use crate::ending::Ending;
use crate::input::{StandardInput, Stoppable};
use crate::session::{Interrupt, Session};
use crate::shown::shown;
use crate::{age, output};

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The archive: a file, a URL, or `-` for standard input
    #[arg(value_name = "FILE|URL|-")]
    source: String,
    /// Name of the image; without a tag, `latest` is meant
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
    /// Instruction that changes the image's config, such as 'CMD ["sh"]'; repeatable
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<String>,
    /// Comment of the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Platform of the files, such as linux/arm64; this machine's by default
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

/// Where the archive comes from.
#[derive(Clone, Debug)]
enum Source {
    StandardInput,
    File(String),
    Url(HttpSource),
}

/// The archive, open.
type Archive = Box<dyn Read + Send>;

/// Imports a root file system.
pub(crate) fn import(args: &ImportArgs, session: &Session) -> anyhow::Result<u8> {
    let source = Source::of(&args.source)?;
    let asked = Import {
        name: name(args.name.as_deref())?,
        changes: args.changes.clone(),
        comment: args.message.clone().unwrap_or_else(|| source.comment()),
        platform: args.platform.clone().unwrap_or_else(Platform::host),
        created: age::rfc3339(Some(OffsetDateTime::from(SystemTime::now()))),
    };
    let store = session.store()?;
    let imported = session.block_on(async {
        let interrupt = Interrupt::watch()?;
        let importing = async {
            let archive = source.open(session, &store, interrupt.stop()).await?;
            let import = move || builder::import(&store, archive, &asked);
            Ok(spawn_blocking(import).await.expect("importing does not panic")?)
        };
        interrupt.or_stop(importing).await
    });
    let id = imported.with_context(|| format!("cannot import {}", source.shown()))?;
    output::line(&id.to_string())?;
    Ok(0)
}

fn name(given: Option<&str>) -> anyhow::Result<Option<Reference>> {
    let Some(given) = given else { return Ok(None) };
    let name: Reference = given.parse()?;
    if name.digest().is_some() {
        return Err(Ending::usage(format!("`{}` has a digest, which no image can be given", shown(given))).into());
    }
    Ok(Some(name.or_latest()))
}

impl Source {
    fn of(given: &str) -> anyhow::Result<Self> {
        if given == "-" {
            if std::io::stdin().is_terminal() {
                let advice = "give it an archive, as in `wharf import - < FILE`";
                return Err(Ending::usage(format!("standard input is a terminal: {advice}")).into());
            }
            return Ok(Self::StandardInput);
        }
        let is_url = given.starts_with("http://") || given.starts_with("https://");
        match RemoteSource::parse(given, Use::Add).filter(|_| is_url) {
            Some(Ok(RemoteSource::Http(source))) => Ok(Self::Url(source)),
            Some(Ok(RemoteSource::Git(source))) => {
                Err(Ending::usage(format!("a git repository is no archive: {source}")).into())
            }
            Some(Err(error)) => Err(Ending::usage(format!("{error}: {}", error.source)).into()),
            None => Ok(Self::File(given.to_owned())),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::StandardInput => "from standard input".to_owned(),
            Self::File(path) => format!("`{}`", shown(path)),
            Self::Url(source) => source.to_string(),
        }
    }

    /// Returns what docker puts into the history: of a file, no more than that it was one.
    fn comment(&self) -> String {
        match self {
            Self::StandardInput | Self::File(_) => "Imported from -".to_owned(),
            Self::Url(source) => format!("Imported from {source}"),
        }
    }

    async fn open(&self, session: &Session, store: &Store, stop: &CancellationToken) -> anyhow::Result<Archive> {
        let stop = stop.clone();
        match self {
            Self::StandardInput => Ok(Box::new(StandardInput { stop })),
            Self::File(path) => {
                let bytes = File::open(path).context("it cannot be opened")?;
                Ok(Box::new(Stoppable { bytes, stop }))
            }
            Self::Url(source) => {
                let files = session.network_files(store.clone(), &Access::default())?;
                let tree = files.get(&Remote::File { source: source.clone(), checksum: None }).await?;
                let Some(entry) = tree.list(Path::new(""))?.into_iter().next() else { bail!("nothing was fetched") };
                Ok(Box::new(Fetched { bytes: tree.open_file(&entry.path)?, _directory: tree }))
            }
        }
    }
}

/// A fetched file, which is gone when it has been read.
struct Fetched {
    bytes: File,
    _directory: builder::FileTree,
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.bytes.read(buffer)
    }
}
