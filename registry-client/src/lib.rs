//! A client for the registries of distribution-spec: resolve, pull, push, log in.
//!
//! ```text
//! manifest.rs   push.rs ─ upload.rs   blob.rs   login.rs      what users ask for
//!          └────────┴────────┬──────────┴──────────┘
//!                       transport.rs                          one request: authenticated, repeated, refused with reasons
//!               auth.rs ─────┤                                tokens;   challenge.rs, credentials.rs, docker_config.rs, helper.rs
//!                      http-transport                         bytes: connections, timeouts, redirects;   origin.rs: who is asked
//! ```
//!
//! - Nothing that was received counts before its digest and size were compared; `Docker-Content-Digest` proves nothing.
//! - Credentials go to the origin they belong to, and only there.
//! - Every body is read up to a limit, every wait ends.
//! - It is async (tokio); blob sources and sinks, credential files and helpers are used from blocking threads.
//!
//! Spec: distribution-spec 1.1.

#![forbid(unsafe_code)]

mod auth;
mod blob;
mod challenge;
mod client;
mod credentials;
mod docker_config;
mod error;
mod helper;
mod login;
mod manifest;
mod origin;
mod payload;
mod push;
mod transport;
mod upload;

pub use blob::Transferred;
pub use client::{Client, ClientOptions, Trust};
pub use credentials::{Anonymous, CredentialError, CredentialSource, Credentials, FoundCredentials, Tried};
pub use docker_config::DockerConfig;
pub use error::{LoginError, PullError, PushError, Refusal, RegistryWords, RequestError, ResolveError};
pub use manifest::RemoteImage;
pub use push::{LayerEvent, Outcome, Push, Pushed};
// What options and errors hold; whoever makes a client need not know where connections are made.
pub use http_transport::{At, ClientError, ExchangeError, Proxies, RetryPolicy, Timeouts};
