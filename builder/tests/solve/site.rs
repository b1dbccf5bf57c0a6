//! A store, a build context and a sandbox of toys: what the tests of this program build with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use builder::{
    Backend, BaseImage, BuildError, BuildRequest, Built, Cache, Dockerignore, Ended, Entitlements, Event, Exec,
    FileTree, ImageError, ImageSource, Lending, Lent, NamedContexts, Owners, Pin, Pinned, Progress, Pull, Remote,
    RemoteError, RemoteFiles, RunNetwork, Sandbox, SandboxError, build,
};
use layer_store::Store;
use oci::{Platform, Reference};
use runtime::{ExitStatus, MountSource};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;
use tokio_util::sync::CancellationToken;

/// Long enough for anything that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct ToySandbox {
    pub(crate) ran: Mutex<Vec<String>>,
    pub(crate) met: (Mutex<usize>, Condvar),
}

impl Sandbox for ToySandbox {
    fn run(
        &self,
        (rootfs, exec): (&Path, &Exec),
        lending: &Lending,
        output: &mut dyn FnMut(&[u8]),
        stop: &CancellationToken,
    ) -> Result<Ended, SandboxError> {
        let ended = |status| Ok(Ended { status, limit_hit: None });
        self.ran.lock().unwrap().push(exec.args.join(" "));
        let args: Vec<&str> = exec.args.iter().map(String::as_str).collect();
        match args[..] {
            ["write", path, text] => std::fs::write(at(rootfs, path), text).unwrap(),
            ["show", path, to] => std::fs::write(at(rootfs, to), show(lending, path)).unwrap(),
            ["put", path, text] => std::fs::write(mounted(lending, path).unwrap(), text).unwrap(),
            ["env", to] => std::fs::write(at(rootfs, to), lending.env.join(" ")).unwrap(),
            ["exit", code] => {
                output(b"about to fail\n");
                return ended(ExitStatus::Code(code.parse().unwrap()));
            }
            ["meet", ..] => self.meet(),
            ["wait"] => {
                self.meet();
                let start = Instant::now();
                while !stop.is_cancelled() && start.elapsed() < PATIENCE {
                    std::thread::yield_now();
                }
                return ended(ExitStatus::Signal(9));
            }
            _ => panic!("no such toy: {args:?}"),
        }
        ended(ExitStatus::Code(0))
    }
}

pub(crate) fn at(rootfs: &Path, path: &str) -> PathBuf {
    rootfs.join(path.trim_start_matches('/'))
}

/// Returns where the file is that a mount shows at `path`.
pub(crate) fn mounted(lending: &Lending, path: &str) -> Option<PathBuf> {
    lending.mounts.iter().find_map(|mount| match &mount.source {
        MountSource::Bind { path: source, .. } if mount.target == path => Some(source.clone()),
        MountSource::Bind { path: source, .. } => {
            Some(source.join(path.strip_prefix(&mount.target)?.strip_prefix('/')?))
        }
        MountSource::Tmpfs(_) => None,
    })
}

/// Returns the text that is lent at `path`, or that nothing is.
pub(crate) fn show(lending: &Lending, path: &str) -> String {
    if let Some(file) = lending.files.iter().find(|file| file.path == path) {
        return String::from_utf8(file.contents.clone()).unwrap();
    }
    let found = mounted(lending, path).and_then(|path| std::fs::read_to_string(path).ok());
    found.unwrap_or_else(|| "nothing".to_owned())
}

impl ToySandbox {
    fn meet(&self) {
        let (count, changed) = &self.met;
        let mut count = count.lock().unwrap();
        *count += 1;
        changed.notify_all();
        let (_count, timeout) = changed.wait_timeout_while(count, PATIENCE, |count| *count < 2).unwrap();
        assert!(!timeout.timed_out(), "nobody else came: steps do not run at the same time");
    }
}

pub(crate) struct NoImages;

impl ImageSource for NoImages {
    fn resolve<'a>(
        &'a self,
        name: &'a Reference,
        _: &'a Platform,
        _: Pull,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<BaseImage, ImageError>> + Send + 'a>> {
        panic!("{name} was asked for");
    }

    fn fetch<'a>(
        &'a self,
        base: &'a BaseImage,
        _: &'a Arc<dyn Progress>,
        _: &'a CancellationToken,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), ImageError>> + Send + 'a>> {
        panic!("{} was fetched", base.name);
    }
}

/// Elsewhere: every file holds the same text, and every tree has it in a file `f`.
#[derive(Default)]
pub(crate) struct Elsewhere {
    pub(crate) text: Mutex<String>,
    /// What was asked for since somebody looked.
    pub(crate) asked: Mutex<Vec<String>>,
}

impl RemoteFiles for Elsewhere {
    fn pin<'a>(
        &'a self,
        remote: &'a Remote,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Pinned, RemoteError>> + Send + 'a>> {
        self.asked.lock().unwrap().push(format!("pin {remote}"));
        let pin = Pin::File(self.text.lock().unwrap().clone());
        Box::pin(std::future::ready(Ok(Pinned { pin, fetched: None })))
    }

    fn fetch<'a>(
        &'a self,
        remote: &'a Remote,
        _: &'a Pin,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<FileTree, RemoteError>> + Send + 'a>> {
        self.asked.lock().unwrap().push(format!("fetch {remote}"));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("f"), &*self.text.lock().unwrap()).unwrap();
        let tree = FileTree::open(directory.path(), Dockerignore::default(), Owners::Root).unwrap();
        Box::pin(std::future::ready(Ok(tree.kept_by(directory))))
    }
}

pub(crate) struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// A store, a build context, and what ran.
pub(crate) struct Site {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) sandbox: Arc<ToySandbox>,
    pub(crate) elsewhere: Arc<Elsewhere>,
    pub(crate) lent: Mutex<Lent>,
}

impl Site {
    pub(crate) fn context(&self, path: &str) -> PathBuf {
        self.directory.path().join("context").join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        std::fs::write(self.context(path), text).unwrap();
    }

    pub(crate) fn build(&self, dockerfile: &str) -> Result<Built, BuildError> {
        self.build_with(dockerfile, NamedContexts::new())
    }

    pub(crate) fn build_with(&self, dockerfile: &str, contexts: NamedContexts) -> Result<Built, BuildError> {
        let context = FileTree::open(&self.context(""), Dockerignore::default(), Owners::Root).unwrap();
        let request = BuildRequest {
            dockerfile: dockerfile.to_owned(),
            context: Some(context),
            build_args: BTreeMap::new(),
            contexts,
            target: None,
            names: vec!["test/image:latest".parse().unwrap()],
            labels: BTreeMap::new(),
            platform: Platform::host(),
            pull: Pull::Missing,
            cache: Cache::Used,
            keep_storage: None,
            network: RunNetwork::None,
            extra_hosts: Vec::new(),
            allowed: Entitlements::new(),
        };
        let backend = Backend {
            store: self.store.clone(),
            images: Arc::new(NoImages),
            remote_files: Arc::clone(&self.elsewhere) as Arc<dyn RemoteFiles>,
            sandbox: Arc::clone(&self.sandbox) as Arc<dyn Sandbox>,
            lent: Arc::new(self.lent.lock().unwrap().clone()),
            progress: Arc::new(Silent),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(build(request, &backend, &CancellationToken::new())).map_err(|failed| failed.error)
    }

    /// Returns what ran since the last call, sorted: steps side by side have no order.
    pub(crate) fn ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.sandbox.ran.lock().unwrap());
        ran.sort();
        ran
    }

    /// Builds and returns the image ID and what ran.
    pub(crate) fn built(&self, dockerfile: &str) -> (String, Vec<String>) {
        let built = self.build(dockerfile).unwrap();
        (built.id.to_string(), self.ran())
    }

    /// Returns the paths of the files in the image.
    pub(crate) fn files(&self) -> Vec<String> {
        let id = self.store.find("test/image").unwrap();
        let image = self.store.image(&id).unwrap();
        let layers: Vec<_> =
            image.config.value().rootfs.diff_ids.iter().cloned().map(layer_store::Lower::Layer).collect();
        let view = self.store.view(&layers).unwrap();
        let mut files = Vec::new();
        list(view.path(), Path::new(""), &mut files);
        files
    }
}

pub(crate) fn list(root: &Path, below: &Path, files: &mut Vec<String>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(root.join(below)).unwrap().map(|entry| below.join(entry.unwrap().file_name())).collect();
    entries.sort();
    for entry in entries {
        if root.join(&entry).is_dir() {
            list(root, &entry, files);
        } else {
            let text = std::fs::read_to_string(root.join(&entry)).unwrap();
            files.push(format!("{}={text}", entry.display()));
        }
    }
}

pub(crate) fn check(body: impl FnOnce(&Site) + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            #[expect(
                deprecated,
                reason = "these two flags concern this thread and those it starts, which is what is wanted"
            )]
            rustix::thread::unshare(UnshareFlags::FS | UnshareFlags::NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir(directory.path().join("context")).unwrap();
            let store = Store::open(&directory.path().join("store")).unwrap();
            body(&Site {
                directory,
                store,
                sandbox: Arc::default(),
                elsewhere: Arc::default(),
                lent: Mutex::default(),
            });
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
