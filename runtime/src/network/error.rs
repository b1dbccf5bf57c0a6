//! Why a container could not be given its network.

use std::io;

/// Why a container's network could not be made.
///
/// Nothing is left behind by a failed call: a network namespace without a name dies with its last descriptor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum NetworkError {
    #[error("cannot start the thread that relays container traffic")]
    Engine { source: io::Error },
    #[error("the thread that relays container traffic has ended")]
    EngineEnded,
    #[error("cannot start a thread to set a network namespace up")]
    Thread { source: io::Error },
    #[error("cannot create a network namespace")]
    CreateNamespace { source: io::Error },
    #[error("cannot open the new network namespace at `/proc/thread-self/ns/net`")]
    OpenNamespace { source: io::Error },
    #[error("cannot enter the network namespace that holds the host ends of container links")]
    EnterNamespace { source: io::Error },
    #[error("cannot open `/dev/net/tun`")]
    OpenTun { source: io::Error },
    #[error("cannot create the tun interface `{name}`")]
    CreateTun { name: &'static str, source: io::Error },
    #[error("cannot create the veth pair of `{name}`")]
    CreateVeth { name: &'static str, source: io::Error },
    #[error("cannot open a packet socket on the host end of a container link")]
    PacketSocket { source: io::Error },
    #[error("cannot talk to the kernel's routing socket")]
    Netlink { source: io::Error },
    #[error("cannot {what} in the new network namespace")]
    Configure { what: &'static str, source: io::Error },
    #[error("cannot relay the traffic of a new container link")]
    Relay { source: io::Error },
}
