//! Runs a step's process: the builder's only way to run anything.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use runtime::network::{Attachment, Network, NetworkConfig, NetworkError};
use runtime::{
    Confinement, Container, ExitStatus, GeneratedFile, GeneratedKind, NetworkNamespace, RunError, Runtime, Stdio, User,
    UserError, WaitError,
};
use rustix::pipe::PipeFlags;
use tokio_util::sync::CancellationToken;

use crate::graph::{Exec, RunNetwork};
use crate::rootfs::{Rootfs, WriteError};

const HOSTNAME: &str = "buildkitsandbox";

/// A place where processes run, with a root filesystem given.
pub trait Sandbox: Send + Sync {
    /// Runs `exec` on `rootfs` and hands what it writes to `output`; kills it when `stop` is cancelled.
    ///
    /// Must be called from a blocking thread of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when the process could not be started; an exit code is no error.
    fn run(
        &self,
        rootfs: &Path,
        exec: &Exec,
        output: &mut dyn FnMut(&[u8]),
        stop: &CancellationToken,
    ) -> Result<ExitStatus, SandboxError>;
}

/// Why a process could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum SandboxError {
    #[error("cannot tell who `{user}` is")]
    User { user: String, source: UserError },
    #[error("cannot make the working directory")]
    WorkingDirectory { source: WriteError },
    #[error("cannot start the network of the build")]
    Network { source: Arc<NetworkError> },
    #[error("cannot read what the process writes")]
    Output { source: std::io::Error },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Wait(#[from] WaitError),
}

/// Containers of this machine, with one network for all steps of a build.
#[derive(Debug)]
pub struct ContainerSandbox {
    runtime: Arc<Runtime>,
    network_config: NetworkConfig,
    network: OnceLock<Result<Network, Arc<NetworkError>>>,
}

/// The network of one container; dropped, nothing gets through any more.
#[derive(Debug)]
pub struct Connection {
    /// What the container joins.
    pub namespace: NetworkNamespace,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: String,
    _attachment: Option<Attachment>,
}

impl ContainerSandbox {
    /// Makes a sandbox; its network is started by the first step that needs one.
    pub fn new(runtime: Arc<Runtime>, network_config: NetworkConfig) -> Self {
        Self { runtime, network_config, network: OnceLock::new() }
    }

    fn network(&self) -> &Result<Network, Arc<NetworkError>> {
        self.network.get_or_init(|| Network::start(&self.network_config).map_err(Arc::new))
    }

    /// Makes a network namespace for one container.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Network`] when the network cannot be started or joined.
    pub fn attach(&self, network: RunNetwork) -> Result<Connection, SandboxError> {
        if network == RunNetwork::None {
            return Ok(Connection { namespace: NetworkNamespace::None, resolv_conf: String::new(), _attachment: None });
        }
        let network = self.network().as_ref().map_err(|source| SandboxError::Network { source: Arc::clone(source) })?;
        let failed = |source| SandboxError::Network { source: Arc::new(source) };
        let attachment = network.attach().map_err(failed)?;
        let namespace = attachment.namespace().try_clone_to_owned();
        let namespace = namespace.map_err(|source| SandboxError::Output { source })?;
        Ok(Connection {
            namespace: NetworkNamespace::Given(Arc::new(namespace)),
            resolv_conf: network.resolv_conf(),
            _attachment: Some(attachment),
        })
    }
}

impl Sandbox for ContainerSandbox {
    fn run(
        &self,
        rootfs: &Path,
        exec: &Exec,
        output: &mut dyn FnMut(&[u8]),
        stop: &CancellationToken,
    ) -> Result<ExitStatus, SandboxError> {
        let connection = self.attach(exec.network)?;
        let container = container(rootfs, exec, &connection)?;
        let broken = |errno: rustix::io::Errno| SandboxError::Output { source: errno.into() };
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(broken)?;
        let stderr = writer.try_clone().map_err(|source| SandboxError::Output { source })?;
        let mut running = self.runtime.start(&container, Stdio::Piped { stdin: None, stdout: writer, stderr })?;
        let killer = running.killer();
        let stop = stop.clone();
        let watch = tokio::runtime::Handle::current().spawn(async move {
            stop.cancelled().await;
            // a process that has just ended needs no signal
            let _ = killer.kill();
        });
        let read = pass_on(reader.into(), output);
        let status = running.wait();
        watch.abort();
        read.map_err(|source| SandboxError::Output { source })?;
        Ok(status?)
    }
}

fn container(rootfs: &Path, exec: &Exec, connection: &Connection) -> Result<Container, SandboxError> {
    let user =
        User::resolve(rootfs, &exec.user).map_err(|source| SandboxError::User { user: exec.user.clone(), source })?;
    make_working_directory(rootfs, &exec.cwd, &user)?;
    let mut env = exec.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    Ok(Container {
        rootfs: rootfs.to_owned(),
        args: exec.args.clone(),
        env,
        cwd: exec.cwd.clone(),
        user,
        hostname: HOSTNAME.to_owned(),
        mounts: Vec::new(),
        files: generated_files(HOSTNAME, connection).into_iter().chain(script(exec)).collect(),
        network: connection.namespace.clone(),
        confinement: Confinement::default(),
    })
}

/// Returns the program that a RUN holds itself, at the place where its arguments name it.
fn script(exec: &Exec) -> Option<GeneratedFile> {
    let script = exec.script.as_ref()?;
    let contents = script.content.clone().into_bytes();
    Some(GeneratedFile { path: script.program_path(), contents, kind: GeneratedKind::Program })
}

/// Makes the files of `/etc` that belong to a container, not to its image.
pub fn generated_files(hostname: &str, connection: &Connection) -> Vec<GeneratedFile> {
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n");
    let file = |path: &str, contents: String| GeneratedFile {
        path: path.to_owned(),
        contents: contents.into_bytes(),
        kind: GeneratedKind::Data,
    };
    vec![
        file("/etc/hosts", hosts),
        file("/etc/hostname", format!("{hostname}\n")),
        file("/etc/resolv.conf", connection.resolv_conf.clone()),
    ]
}

/// Makes the working directory of a container if its image does not have it, as docker does.
///
/// # Errors
///
/// [`SandboxError::WorkingDirectory`] when it cannot be made.
pub fn make_working_directory(rootfs: &Path, cwd: &str, user: &User) -> Result<(), SandboxError> {
    let root = Rootfs::open(rootfs).map_err(|source| SandboxError::WorkingDirectory { source })?;
    root.make_directory(Path::new(cwd), (user.uid, user.gid))
        .map(|_| ())
        .map_err(|source| SandboxError::WorkingDirectory { source })
}

fn pass_on(mut reader: std::fs::File, output: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => output(&buffer[..count]),
        }
    }
}
