//! Exchanges of bytes with HTTP servers, for everything here that talks to one.
//!
//! ```text
//! wire.rs                 connections, timeouts, redirects    options.rs   trust, proxies, patience
//!   ├─ origin.rs          who may be visited                  retry.rs     when a request is repeated
//!   └─ error.rs           why an exchange failed              shown.rs     foreign text, made safe to show
//! ```
//!
//! - An `Authorization` goes to the origin it belongs to, and only there.
//! - Every body is read up to a limit or to its end, and every wait ends.
//! - Environment and files are not looked at; what is needed of them is an option.

#![forbid(unsafe_code)]

mod error;
mod options;
mod origin;
mod retry;
mod shown;
mod wire;

pub use error::{Cause, ExchangeError, Phase};
pub use options::{ClientError, Proxies, Timeouts, WireOptions};
pub use origin::{Origin, is_link_local_host, redirect_objection, stripped};
pub use retry::{Attempts, Failure, RetryPolicy, http_date, is_transient, retry_after};
pub use shown::{At, shown, shown_url};
pub use wire::{Answer, Empty, Message, Payload, Redirects, Wire};
