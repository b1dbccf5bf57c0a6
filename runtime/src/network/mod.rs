//! The network of containers: a network namespace for each, joined to the host by a NAT in this process.
//!
//! ```text
//! container's namespace                     this process
//! [ process ─ kernel ─ eth0 ] ══ packets ══ [ engine: terminates TCP, passes datagrams on ] ─ sockets ─ host's network
//!                                                         published ports: listening sockets ─┘
//! ```
//!
//! - The same as root and in a user namespace; no helper program, no bridge, no firewall rule, no sysctl. Whatever kills the
//!   process, nothing is left: namespaces have no names, and interfaces end with them.
//! - IPv4 only, TCP and UDP; other protocols (ping) get no answer. The host reaches IPv6 nameservers for its containers.
//! - The host's loopback and its link (metadata services) are closed to containers; see [`HostLoopback`] and `address.rs`.
//! - Containers do not reach each other but by published ports.
//! - A connection holds at most 768 KiB of its bytes, and usually none: what one side does not take holds the other side up.
//!
//! | file | holds |
//! |---|---|
//! | `config.rs`, `address.rs` | what containers get; which destination leads where |
//! | `namespace.rs`, `netlink.rs`, `sys.rs` | namespaces and interfaces |
//! | `engine.rs`, `poller.rs`, `budget.rs`, `link.rs` | the thread, what it may hold, and what it does for each container |
//! | `tcp_flow.rs`, `tcp.rs`, `udp_flow.rs`, `dns.rs` | connections, datagrams, queries |
//! | `published.rs` | ports of the host that lead into a container |
//! | `device.rs`, `packet.rs` | bytes on the link |
//!
//! Why the TCP is ours: the crate `ipstack` ends a half-closed connection, leaves a refused one open, and buffers without bound.
//!
//! Not here: moving a process into the namespace and writing its resolv.conf.

mod address;
mod budget;
mod config;
mod device;
mod dns;
mod engine;
mod error;
mod link;
mod namespace;
mod netlink;
mod packet;
mod poller;
mod published;
mod sys;
mod tcp;
mod tcp_flow;
mod udp_flow;

#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

pub use address::{CONTAINER as CONTAINER_ADDRESS, host_address};
pub use config::{DNS_PORT, HostLoopback, NetworkConfig};
pub use error::NetworkError;
pub use published::{PortRequest, Protocol, PublishError, PublishedPort};

use device::DeviceKind;
use engine::{Ended, Engine};

/// Which network a container is in.
#[derive(Debug)]
pub enum NetworkNamespace {
    /// One of its own with only `lo`.
    None,
    /// That of the host.
    Host,
    /// One of its own that reaches the host's network.
    Attached(Attachment),
}

/// The network that containers are attached to: one thread relays the traffic of all of them.
///
/// It runs until this and all of its attachments are dropped.
#[derive(Debug)]
pub struct Network {
    engine: Arc<Engine>,
    resolv_conf: String,
    link: LinkKind,
    last_number: AtomicU32,
}

/// How links are made, with what that needs.
#[derive(Debug)]
enum LinkKind {
    Tun,
    Packet { switchboard: OwnedFd },
}

impl Network {
    /// Starts the relay. Needs the right to make network namespaces: root, or a user namespace.
    ///
    /// # Errors
    ///
    /// [`NetworkError::Engine`] when the thread cannot be started, [`NetworkError::CreateNamespace`] and those after it when no
    /// namespace can be made where `/dev/net/tun` cannot be opened.
    pub fn start(config: &NetworkConfig) -> Result<Network, NetworkError> {
        Network::start_with(config, namespace::device_kind())
    }

    fn start_with(config: &NetworkConfig, kind: DeviceKind) -> Result<Network, NetworkError> {
        let link = match kind {
            DeviceKind::Tun => LinkKind::Tun,
            DeviceKind::Packet => LinkKind::Packet { switchboard: namespace::switchboard()? },
        };
        let engine = Engine::start(config).map_err(|source| NetworkError::Engine { source })?;
        Ok(Network {
            engine: Arc::new(engine),
            resolv_conf: config.resolv_conf(),
            link,
            last_number: AtomicU32::new(0),
        })
    }

    /// Makes a network namespace for a container, to which `ports` lead as long as it is attached. Can be called from several
    /// threads at once.
    ///
    /// # Errors
    ///
    /// The step that failed, as a [`NetworkError`]; nothing is left of the attempt.
    pub fn attach(&self, ports: Vec<PublishedPort>) -> Result<Attachment, NetworkError> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed) + 1;
        let (namespace, device) = match &self.link {
            LinkKind::Tun => namespace::with_tun()?,
            LinkKind::Packet { switchboard } => namespace::with_veth(switchboard.as_fd(), number)?,
        };
        match self.engine.attach(number, device, ports) {
            Ok(Ok(())) => Ok(Attachment { namespace, number, engine: Arc::clone(&self.engine) }),
            Ok(Err(source)) => Err(NetworkError::Relay { source }),
            Err(Ended) => Err(NetworkError::EngineEnded),
        }
    }

    /// Returns the text of a container's `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> String {
        self.resolv_conf.clone()
    }
}

/// A container's network namespace: `lo`, and `eth0` with the address 10.0.2.100 and a default route.
///
/// Dropping it closes all of the container's connections; the host's peers see them reset. The namespace lives on as long as a
/// process is in it, without a way out.
#[derive(Debug)]
pub struct Attachment {
    namespace: OwnedFd,
    number: u32,
    engine: Arc<Engine>,
}

impl Attachment {
    /// Returns the network namespace, to move a process into it with `setns`.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        // With the engine's thread ended there is nothing to close.
        let Ok(Some(device)) = self.engine.detach(self.number) else { return };
        // The kernel takes tens of milliseconds to take an interface down; nobody has to wait for that. If the thread cannot be
        // started, the device is closed here with the closure that holds it.
        let _ = thread::Builder::new().name("detach".to_owned()).spawn(move || drop(device));
    }
}

/// Makes a network namespace that has only `lo`, up.
///
/// # Errors
///
/// [`NetworkError::CreateNamespace`] and those after it when that is not allowed or not possible.
pub fn isolated_namespace() -> Result<OwnedFd, NetworkError> {
    namespace::isolated()
}
