//! An SSH agent for containers: forwards to another agent, or holds keys of its own.
//!
//! ```text
//! container ─ socket (serving.rs) ─ list, sign (protocol.rs) ─┬─▶ an agent of the caller
//!                                                             └─▶ keys in memory (key.rs, key_file.rs)
//! ```
//!
//! - Who has the socket can list identities and ask for signatures, nothing else: no key is added, removed, locked or told.
//! - A key never leaves this process.
//!
//! Plain blocking code with a thread for each connection. Spec: draft-ietf-sshm-ssh-agent.

#![forbid(unsafe_code)]

mod agent;
mod key;
mod key_file;
mod protocol;
mod serving;

pub use agent::{Agent, AgentError};
pub use key::{Key, KeyError};
pub use serving::Serving;
