//! `wharf logout`: forgets the credentials of a registry.

use anyhow::Context;

use super::login::registry_name;
use crate::output;
use crate::session::Session;

#[derive(Debug, clap::Args)]
pub(crate) struct LogoutArgs {
    /// The registry, Docker Hub if none is given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
}

/// Logs out.
pub(crate) fn logout(args: &LogoutArgs, session: &Session) -> anyhow::Result<u8> {
    let registry = registry_name(args.server.as_deref())?;
    let erased = session.docker_config().erase(&registry);
    let was_known = erased.with_context(|| format!("cannot remove the credentials for {registry}"))?;
    let said = if was_known { "Removing login credentials for" } else { "Not logged in to" };
    output::line(&format!("{said} {registry}"))?;
    Ok(0)
}
