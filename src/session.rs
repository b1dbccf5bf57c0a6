//! What a verb works with, each part made when it is first asked for.
//!
//! No thread is started before [`Session::block_on`] and its like, which only runs after the namespaces were entered.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use builder::{ContainerSandbox, HostFiles, NetworkFiles};
use http_transport::{RetryPolicy, WireOptions};
use layer_store::Store;
use registry_client::{Client, ClientOptions, DockerConfig, Trust};
use remote_files::{Git, GitOptions, HttpFiles};
use runtime::Runtime;
use runtime::network::NetworkConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::commands::Access;
use crate::config::{self, Config};
use crate::ending::Ending;
use crate::network::DnsArgs;

/// How long work that cannot be interrupted may take to end after the command has its result.
const LINGER: Duration = Duration::from_secs(5);
/// Signals that come so soon after the first are the same wish: `timeout` and shells send it to a process and to its group.
const SAME_WISH: Duration = Duration::from_millis(500);

/// How the program names itself to servers.
const USER_AGENT: &str = concat!("wharf/", env!("CARGO_PKG_VERSION"));

/// The configuration, and what follows from it.
pub(crate) struct Session {
    pub(crate) config: Config,
    runtime: Option<Arc<Runtime>>,
}

impl Session {
    /// Starts a session; `runtime` is there for verbs that asked for namespaces.
    pub(crate) fn new(config: Config, runtime: Option<Runtime>) -> Self {
        Self { config, runtime: runtime.map(Arc::new) }
    }

    /// Opens the store.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        let root = &self.config.root;
        Store::open_with(root, self.config.driver)
            .with_context(|| format!("cannot open the store in {}", root.display()))
    }

    /// Opens the store to look at it, for verbs that only tell what is there.
    pub(crate) fn look(&self) -> anyhow::Result<Store> {
        let root = &self.config.root;
        Store::look(root).with_context(|| format!("cannot open the store in {}", root.display()))
    }

    /// Returns the right to run containers.
    pub(crate) fn runtime(&self) -> Arc<Runtime> {
        Arc::clone(self.runtime.as_ref().expect("the verb asked for namespaces"))
    }

    /// Returns the file and helpers that hold credentials.
    pub(crate) fn docker_config(&self) -> DockerConfig {
        let config = DockerConfig::new(&self.config.docker_config, self.config.path.clone());
        self.config.auth_files.iter().fold(config, DockerConfig::and)
    }

    /// Makes a client of registries.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let mut options = ClientOptions::new(USER_AGENT);
        options.credentials = Arc::new(self.docker_config());
        options.trust = Trust { extra_ca_pem: self.extra_ca_pem()?, ..Trust::default() };
        options.proxies = self.config.proxies.clone();
        Client::new(options).context("cannot prepare to talk to registries")
    }

    /// Makes what fetches files and trees into `store`, telling servers what `access` says.
    pub(crate) fn network_files(&self, store: Store, access: &Access) -> anyhow::Result<NetworkFiles> {
        let mut wire = WireOptions::new(USER_AGENT);
        wire.extra_ca_pem = self.extra_ca_pem()?;
        wire.proxies = self.config.proxies.clone();
        let http = HttpFiles::new(&wire, RetryPolicy::default()).context("cannot prepare to fetch files")?;
        let mut git = GitOptions::new(self.config.path.clone());
        git.proxies = self.config.proxies.clone();
        git.ca_file.clone_from(&self.config.extra_ca);
        git.ssh_agent = access.ssh_agent().map(Path::to_owned);
        git.authorizations.clone_from(&access.trees);
        Ok(NetworkFiles::new(store, http, Git::new(git), access.files.clone()))
    }

    fn extra_ca_pem(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        self.config.extra_ca.iter().map(|path| read(path)).collect()
    }

    /// Makes the place where containers run.
    pub(crate) fn sandbox(&self, dns: &DnsArgs) -> ContainerSandbox {
        sandbox(self.runtime(), dns)
    }

    /// Runs asynchronous work that mostly waits, without starting further threads for it.
    pub(crate) fn block_on_one_thread<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        Self::run(&mut tokio::runtime::Builder::new_current_thread(), work)
    }

    /// Runs asynchronous work to its end.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        Self::run(&mut tokio::runtime::Builder::new_multi_thread(), work)
    }

    fn run<T>(tokio: &mut tokio::runtime::Builder, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let tokio = tokio.enable_all().build().context("cannot start threads")?;
        let result = tokio.block_on(work);
        tokio.shutdown_timeout(LINGER);
        result
    }
}

/// Makes the place where containers of `runtime` run; `dns` is what the command line says instead of the host's resolv.conf.
pub(crate) fn sandbox(runtime: Arc<Runtime>, dns: &DnsArgs) -> ContainerSandbox {
    let resolv_conf = config::host_resolv_conf();
    let mut network = NetworkConfig::from_resolv_conf(&resolv_conf);
    dns.apply(&mut network);
    let resolv_conf = if dns.is_empty() { resolv_conf } else { network.direct_resolv_conf() };
    let host_files = HostFiles { resolv_conf, hosts: config::host_hosts() };
    ContainerSandbox::new(runtime, network, host_files)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the certificates in `{}`", path.display()))
}

/// Ctrl-C and its like, while asynchronous work runs.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    stop: CancellationToken,
    signal: Arc<OnceLock<(u8, Instant)>>,
}

impl Interrupt {
    /// Begins to watch: the first signal asks the work to stop, the second ends the process at once.
    ///
    /// Must be called inside of a tokio runtime.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        let this = Self { stop: CancellationToken::new(), signal: Arc::default() };
        for (kind, number) in
            [(SignalKind::interrupt(), 2_u8), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)]
        {
            let mut received = signal(kind).context("cannot watch for signals")?;
            let watching = this.clone();
            tokio::spawn(async move {
                while received.recv().await.is_some() {
                    watching.receive(number);
                }
            });
        }
        Ok(this)
    }

    /// Notes a signal; who asks again after a while does not want to wait for anything.
    fn receive(&self, number: u8) {
        if self.signal.set((number, Instant::now())).is_ok() {
            self.stop.cancel();
        } else if self.signal.get().is_some_and(|(_, first)| first.elapsed() > SAME_WISH) {
            std::process::exit(i32::from(number) + 128);
        }
    }

    /// Is cancelled by the first signal.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns how the command ends if a signal came.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.signal.get().map(|&(signal, _)| Ending::Interrupted { signal })
    }

    /// Runs `work` until it is done or a signal comes.
    pub(crate) async fn or_stop<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            result = work => result,
            () = self.stop.cancelled() => Err(self.ending().expect("a signal stopped the work").into()),
        }
    }
}
