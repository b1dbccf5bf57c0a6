//! `wharf login`: checks credentials against their registry, then keeps them where docker does.

use anyhow::Context;
use registry_client::{CredentialSource, Credentials, FoundCredentials};

use crate::ending::Ending;
use crate::session::Session;
use crate::shown::shown;
use crate::{output, prompt};

const HUB: &str = "docker.io";
const HUB_NAMES: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

#[derive(Debug, clap::Args)]
pub(crate) struct LoginArgs {
    /// The registry, Docker Hub if none is given
    #[arg(value_name = "SERVER")]
    server: Option<String>,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password or access token; others can see it in the list of processes
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Logs in.
pub(crate) fn login(args: &LoginArgs, session: &Session) -> anyhow::Result<u8> {
    let registry = registry_name(args.server.as_deref())?;
    let config = session.docker_config();
    let known = match args.username {
        None if args.password.is_none() => {
            config.credentials(&registry, "").context("cannot use the stored credentials")?
        }
        _ => None,
    };
    let client = session.client()?;
    let check = |credentials: &Credentials| session.block_on(async { Ok(client.login(&registry, credentials).await?) });
    if let Some(FoundCredentials { credentials, source }) = known {
        output::line(&format!("Authenticating with existing credentials from {source}..."))?;
        match check(&credentials) {
            Ok(()) => {
                output::line("Login Succeeded")?;
                return Ok(0);
            }
            Err(error) if !prompt::has_user() => return Err(error),
            Err(error) => output::notice(&format!("Login did not succeed: {error:#}")),
        }
    }
    let credentials = asked(args, &registry)?;
    check(&credentials)?;
    let place = config.store(&registry, &credentials).context("cannot keep the credentials")?;
    if std::path::Path::new(&place).is_absolute() {
        output::notice(&format!("WARNING! Your credentials are stored unencrypted in '{place}'."));
    }
    output::line("Login Succeeded")?;
    Ok(0)
}

fn asked(args: &LoginArgs, registry: &str) -> anyhow::Result<Credentials> {
    if args.password.is_some() {
        output::notice("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let cannot_ask = || Ending::usage("there is no terminal to ask on: use --username and --password-stdin");
    let username = match &args.username {
        Some(username) => username.clone(),
        None if !prompt::has_user() => return Err(cannot_ask().into()),
        None => prompt::ask(&format!("Username ({registry}): "))?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => prompt::password_from_stdin()?,
        None if !prompt::has_user() => return Err(cannot_ask().into()),
        None => prompt::password("Password: ")?,
    };
    if username.is_empty() || password.is_empty() {
        return Err(Ending::usage("neither the user name nor the password may be empty").into());
    }
    Ok(Credentials::Basic { username, password })
}

/// Reads the name of a registry as people write it: with a scheme or a path, or not at all.
///
/// # Errors
///
/// [`Ending::Usage`] when there is no name in it.
pub(crate) fn registry_name(server: Option<&str>) -> Result<String, Ending> {
    let Some(server) = server else { return Ok(HUB.to_owned()) };
    let bare = server.strip_prefix("https://").or_else(|| server.strip_prefix("http://")).unwrap_or(server);
    let host = bare.split('/').next().unwrap_or_default();
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Ending::usage(format!("`{}` is not the name of a registry", shown(server))));
    }
    Ok(if HUB_NAMES.contains(&host) { HUB } else { host }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_many_ways() {
        let cases = [
            (None, "docker.io"),
            (Some("docker.io"), "docker.io"),
            (Some("https://index.docker.io/v1/"), "docker.io"),
            (Some("localhost:5000"), "localhost:5000"),
            (Some("https://registry.example.com/v2/"), "registry.example.com"),
        ];
        for (given, expected) in cases {
            assert_eq!(registry_name(given).unwrap(), expected);
        }
        assert!(registry_name(Some("https://")).is_err());
        assert!(registry_name(Some("a b")).is_err());
    }
}
