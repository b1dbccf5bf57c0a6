//! Runs a step's process: the builder's only way to run anything.

use std::io::Read;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use runtime::network::{Attachment, CONTAINER_ADDRESS, Network, NetworkConfig, NetworkError, PublishedPort};
use runtime::{
    Confinement, Container, ExitStatus, GeneratedFile, GeneratedKind, LimitHit, Limits, Mount, NetworkNamespace,
    PidsLimit, RunError, Runtime, Stdio, User, UserError, WaitError,
};
use rustix::pipe::PipeFlags;
use tokio_util::sync::CancellationToken;

use crate::graph::{Exec, HostEntry, RunNetwork, RunSecurity};
use crate::rootfs::{Rootfs, WriteError};

const HOSTNAME: &str = "buildkitsandbox";
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
/// What a hostname stands for where its container has no address of its own.
const OWN_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
/// Most processes of a step, unless the user says otherwise.
pub const STEP_PIDS: PidsLimit = PidsLimit::WherePossible(4096);

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// The limit that it ran into, which may be why.
    pub limit_hit: Option<LimitHit>,
}

/// A place where processes run, with a root filesystem given.
pub trait Sandbox: Send + Sync {
    /// Runs an exec op on a root filesystem and hands what it writes to `output`; kills it when `stop` is cancelled.
    ///
    /// Must be called from a blocking thread of a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`SandboxError`] when the process could not be started; an exit code is no error.
    fn run(
        &self,
        process: (&Path, &Exec),
        lending: &Lending,
        output: &mut dyn FnMut(&[u8]),
        stop: &CancellationToken,
    ) -> Result<Ended, SandboxError>;
}

/// What a process gets for as long as it runs, beside its root filesystem; nothing of it is in its layer.
#[derive(Debug, Default)]
pub struct Lending {
    /// Files and directories.
    pub mounts: Vec<Mount>,
    /// Files that are only its own.
    pub files: Vec<GeneratedFile>,
    /// Variables, as `NAME=value`, which count over those of its op.
    pub env: Vec<String>,
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
    host_files: HostFiles,
    limits: Limits,
    network: OnceLock<Result<Network, Arc<NetworkError>>>,
}

/// What the containers in the host's network read about names.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// Their `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// What their `/etc/hosts` begins with.
    pub hosts: String,
}

/// The network of one container; dropped, nothing gets through any more.
#[derive(Debug)]
pub struct Connection {
    /// What the container joins.
    pub namespace: NetworkNamespace,
    /// Its `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// What its `/etc/hosts` begins with.
    hosts: String,
    /// The address that its hostname stands for.
    address: Ipv4Addr,
    _attachment: Option<Attachment>,
}

impl ContainerSandbox {
    /// Makes a sandbox; its network is started by the first step that needs one.
    pub fn new(runtime: Arc<Runtime>, network_config: NetworkConfig, host_files: HostFiles) -> Self {
        let limits = Limits { pids: STEP_PIDS, ..Limits::default() };
        Self { runtime, network_config, host_files, limits, network: OnceLock::new() }
    }

    /// Gives every step these limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    fn network(&self) -> &Result<Network, Arc<NetworkError>> {
        self.network.get_or_init(|| Network::start(&self.network_config).map_err(Arc::new))
    }

    /// Joins one container to a network; `ports` lead to it if the network is its own and has a way out.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Network`] when the network cannot be started or joined.
    pub fn attach(&self, network: RunNetwork, ports: Vec<PublishedPort>) -> Result<Connection, SandboxError> {
        let unattached = |namespace, HostFiles { resolv_conf, hosts }| Connection {
            namespace,
            resolv_conf,
            hosts,
            address: OWN_LOOPBACK,
            _attachment: None,
        };
        match network {
            RunNetwork::Default => {}
            RunNetwork::Host => return Ok(unattached(NetworkNamespace::Host, self.host_files.clone())),
            RunNetwork::None => {
                let files = HostFiles { resolv_conf: String::new(), hosts: LOCALHOST.to_owned() };
                return Ok(unattached(NetworkNamespace::None, files));
            }
        }
        let network = self.network().as_ref().map_err(|source| SandboxError::Network { source: Arc::clone(source) })?;
        let failed = |source| SandboxError::Network { source: Arc::new(source) };
        let attachment = network.attach(ports).map_err(failed)?;
        let namespace = attachment.namespace().try_clone_to_owned();
        let namespace = namespace.map_err(|source| SandboxError::Output { source })?;
        Ok(Connection {
            namespace: NetworkNamespace::Given(Arc::new(namespace)),
            resolv_conf: network.resolv_conf(),
            hosts: LOCALHOST.to_owned(),
            address: CONTAINER_ADDRESS,
            _attachment: Some(attachment),
        })
    }
}

impl Sandbox for ContainerSandbox {
    fn run(
        &self,
        (rootfs, exec): (&Path, &Exec),
        lending: &Lending,
        output: &mut dyn FnMut(&[u8]),
        stop: &CancellationToken,
    ) -> Result<Ended, SandboxError> {
        let connection = self.attach(exec.network, Vec::new())?;
        let container = Container { limits: self.limits.clone(), ..container(rootfs, exec, (&connection, lending))? };
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
        let read = pass_on(running.output(reader), output);
        let status = running.wait();
        watch.abort();
        read.map_err(|source| SandboxError::Output { source })?;
        Ok(Ended { status: status?, limit_hit: running.limit_hit() })
    }
}

fn container(
    rootfs: &Path,
    exec: &Exec,
    (connection, lending): (&Connection, &Lending),
) -> Result<Container, SandboxError> {
    let user =
        User::resolve(rootfs, &exec.user).map_err(|source| SandboxError::User { user: exec.user.clone(), source })?;
    make_working_directory(rootfs, &exec.cwd, &user)?;
    let mut env = exec.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    for entry in &lending.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        env.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        env.push(entry.clone());
    }
    let files = generated_files(HOSTNAME, connection, &exec.extra_hosts).into_iter().chain(script(exec));
    Ok(Container {
        rootfs: rootfs.to_owned(),
        args: exec.args.clone(),
        env,
        cwd: exec.cwd.clone(),
        user,
        hostname: HOSTNAME.to_owned(),
        mounts: lending.mounts.clone(),
        files: files.chain(lending.files.iter().cloned()).collect(),
        network: connection.namespace.clone(),
        limits: Limits::default(),
        confinement: match exec.security {
            RunSecurity::Sandbox => Confinement::default(),
            RunSecurity::Insecure => Confinement::privileged(),
        },
    })
}

/// Returns the program that a RUN holds itself, at the place where its arguments name it.
fn script(exec: &Exec) -> Option<GeneratedFile> {
    let script = exec.script.as_ref()?;
    let contents = script.content.clone().into_bytes();
    Some(GeneratedFile { path: script.program_path(), contents, kind: GeneratedKind::Program })
}

/// Makes the files of `/etc` that belong to a container, not to its image.
pub fn generated_files(hostname: &str, connection: &Connection, extra_hosts: &[HostEntry]) -> Vec<GeneratedFile> {
    let mut hosts = connection.hosts.clone();
    if !hosts.is_empty() && !hosts.ends_with('\n') {
        hosts.push('\n');
    }
    for HostEntry { name, address } in extra_hosts {
        hosts += &format!("{address}\t{name}\n");
    }
    hosts += &format!("{}\t{hostname}\n", connection.address);
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

fn pass_on(mut reader: impl Read, output: &mut dyn FnMut(&[u8])) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => output(&buffer[..count]),
        }
    }
}
