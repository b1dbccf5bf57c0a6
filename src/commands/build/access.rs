//! What a build may use of the caller's: secrets and SSH agents, for its steps and for servers that files and trees are fetched from.
//!
//! Every secret is for `RUN --mount=type=secret`. Some are for servers besides:
//!
//! | `--secret` | is told |
//! |---|---|
//! | `id=HTTP_AUTH_TOKEN_<host>` | the host of a file: `Authorization: Bearer …` |
//! | `id=HTTP_AUTH_HEADER_<host>` | the host of a file: this whole header |
//! | `id=GIT_AUTH_TOKEN.<host>` | the host of a repository: the password of the user `x-access-token` |
//! | `id=GIT_AUTH_HEADER.<host>` | the host of a repository: this whole header |
//!
//! The names are BuildKit's. It also takes the last two without a host, and tells them to every one: that is refused here.
//!
//! Spec: docker's documentation, "Build secrets", "Git authentication for remote contexts" and "HTTP authentication".

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use builder::{Lent, Secret};
use remote_files::HttpAuthorization;
use ssh_agent::{Agent, Serving};
use tempfile::TempDir;

use crate::config::{caller_path, caller_variable};
use crate::ending::Ending;
use crate::shown::shown;

/// Bytes of a secret that are read, as in BuildKit.
const MAX_SECRET: u64 = 500 << 10;
/// The agent that is meant where none is named.
const DEFAULT_AGENT: &str = "default";
/// Who a token belongs to when git asks for a user.
const TOKEN_USER: &str = "x-access-token";

/// What steps get, and what servers are told, by host.
#[derive(Debug, Default)]
pub(crate) struct Access {
    pub(crate) files: BTreeMap<String, HttpAuthorization>,
    pub(crate) trees: BTreeMap<String, HttpAuthorization>,
    pub(crate) lent: Lent,
    git_agent: Option<GitAgent>,
}

impl Access {
    /// Reads the words of `--secret` and `--ssh`, and the secrets that are for servers.
    pub(super) fn read(secrets: &[String], ssh: &[String]) -> anyhow::Result<Self> {
        let mut access = Self::default();
        for word in secrets {
            let secret = GivenSecret::parse(word)?;
            access.add(secret).with_context(|| format!("cannot use the secret of `--secret {}`", shown(word)))?;
        }
        for word in ssh {
            access.add_agent(word).with_context(|| format!("cannot use the agent of `--ssh {}`", shown(word)))?;
        }
        Ok(access)
    }

    /// Returns the socket of the agent that git uses.
    pub(crate) fn ssh_agent(&self) -> Option<&Path> {
        self.git_agent.as_ref().map(|agent| match agent {
            GitAgent::Other(socket) => socket.as_path(),
            GitAgent::Keys { socket, .. } => socket.as_path(),
        })
    }

    /// Reads `ID[=SOCKET|KEY[,KEY]…]`.
    fn add_agent(&mut self, word: &str) -> anyhow::Result<()> {
        let (id, places) = word.split_once('=').unwrap_or((word, ""));
        let paths: Vec<PathBuf> = match places {
            "" => vec![caller_path("SSH_AUTH_SOCK").ok_or_else(|| Ending::usage("`SSH_AUTH_SOCK` is not set"))?],
            places => places.split(',').map(PathBuf::from).collect(),
        };
        let is_socket = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_socket());
        let agent = match &paths[..] {
            [socket] if places.is_empty() || is_socket(socket) => Arc::new(Agent::forward(socket)?),
            keys => Arc::new(Agent::of_keys(keys)?),
        };
        if id == DEFAULT_AGENT {
            self.git_agent = Some(match &paths[..] {
                [socket] if is_socket(socket) => GitAgent::Other(socket.clone()),
                _ => GitAgent::serve(&agent).context("cannot lend it to git")?,
            });
        }
        self.lent.agents.insert(id.to_owned(), agent);
        Ok(())
    }

    fn add(&mut self, GivenSecret { id, place }: GivenSecret) -> anyhow::Result<()> {
        let bytes = place.read(&id)?;
        let text = || std::str::from_utf8(&bytes).context("it is no text");
        let header = || anyhow::Ok(HttpAuthorization::new(text()?)?);
        if let Some(host) = id.strip_prefix("HTTP_AUTH_TOKEN_") {
            let token = HttpAuthorization::new(&format!("Bearer {}", text()?.trim()))?;
            self.files.insert(host.to_owned(), token);
        } else if let Some(host) = id.strip_prefix("HTTP_AUTH_HEADER_") {
            self.files.insert(host.to_owned(), header()?);
        } else if let Some(host) = id.strip_prefix("GIT_AUTH_TOKEN.") {
            let token = HttpAuthorization::basic(TOKEN_USER, text()?.trim());
            self.trees.insert(host.to_owned(), token);
        } else if let Some(host) = id.strip_prefix("GIT_AUTH_HEADER.") {
            self.trees.insert(host.to_owned(), header()?);
        } else if id == "GIT_AUTH_TOKEN" || id == "GIT_AUTH_HEADER" {
            let why = format!("the secret `{id}` does not say for which host: `{id}.HOST` is told to that one only");
            return Err(Ending::usage(why).into());
        }
        self.lent.secrets.insert(id, Secret::new(bytes));
        Ok(())
    }
}

/// The agent that git talks to.
#[derive(Debug)]
enum GitAgent {
    Other(PathBuf),
    Keys { socket: PathBuf, _serving: Serving, _directory: TempDir },
}

impl GitAgent {
    /// Gives `agent` a socket that only this user reaches.
    fn serve(agent: &Arc<Agent>) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("agent");
        let serving = agent.serve(UnixListener::bind(&socket)?)?;
        Ok(Self::Keys { socket, _serving: serving, _directory: directory })
    }
}

/// A word of `--secret`.
#[derive(Debug, PartialEq, Eq)]
struct GivenSecret {
    id: String,
    place: SecretPlace,
}

#[derive(Debug, PartialEq, Eq)]
enum SecretPlace {
    File(PathBuf),
    Variable(String),
    /// The variable of the secret's own name if there is one, else the file.
    Unsaid,
}

impl GivenSecret {
    /// Reads `id=ID[,src=FILE|,env=VARIABLE][,type=file|env]`.
    fn parse(word: &str) -> Result<Self, Ending> {
        let refuse = |why: &str| Ending::usage(format!("`{}` is not a secret: {why}", shown(word)));
        let (mut id, mut source, mut variable, mut kind) = (None, None, None, None);
        for field in word.split(',') {
            let (key, value) =
                field.split_once('=').ok_or_else(|| refuse("want `id=ID,src=FILE` or `id=ID,env=NAME`"))?;
            match key.trim().to_ascii_lowercase().as_str() {
                "id" => id = Some(value),
                "src" | "source" => source = Some(value),
                "env" => variable = Some(value),
                "type" if matches!(value, "file" | "env") => kind = Some(value),
                "type" => return Err(refuse("its type is `file` or `env`")),
                _ => return Err(refuse("its keys are `id`, `src`, `env` and `type`")),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| refuse("it needs an `id`"))?;
        let place = match (kind, source, variable) {
            (_, Some(_), Some(_)) => return Err(refuse("it comes from a file or from a variable")),
            (Some("env"), Some(name), None) | (_, None, Some(name)) => SecretPlace::Variable(name.to_owned()),
            (_, Some(path), None) => SecretPlace::File(path.into()),
            (Some("env"), None, None) => SecretPlace::Variable(id.to_owned()),
            (_, None, None) => SecretPlace::Unsaid,
        };
        Ok(Self { id: id.to_owned(), place })
    }
}

impl SecretPlace {
    fn read(&self, id: &str) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::File(path) => file(path),
            Self::Variable(name) => {
                let value = caller_variable(name).map(String::into_bytes);
                value.with_context(|| format!("there is no variable `{}`", shown(name)))
            }
            Self::Unsaid => caller_variable(id).map(String::into_bytes).map_or_else(|| file(Path::new(id)), Ok),
        }
    }
}

fn file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_SECRET + 1).read_to_end(&mut bytes));
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    if bytes.len() as u64 > MAX_SECRET {
        bail!("`{}` has more than the {MAX_SECRET} bytes of a secret", path.display());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(word: &str) -> Option<(String, SecretPlace)> {
        GivenSecret::parse(word).ok().map(|secret| (secret.id, secret.place))
    }

    #[test]
    fn a_secret_comes_from_a_file_or_a_variable() {
        let (file, variable) =
            (|path: &str| SecretPlace::File(path.into()), |n: &str| SecretPlace::Variable(n.to_owned()));
        let of = |place| Some(("a".to_owned(), place));
        assert_eq!(place("id=a,src=f"), of(file("f")));
        assert_eq!(place("type=file,source=f,id=a"), of(file("f")));
        assert_eq!(place("id=a,env=E"), of(variable("E")));
        assert_eq!(place("id=a,type=env,src=E"), of(variable("E")));
        assert_eq!(place("id=a,type=env"), of(variable("a")));
        assert_eq!(place("id=a"), of(SecretPlace::Unsaid));
        for word in ["", "a", "id=", "src=f", "id=a,env=E,src=f", "id=a,type=x", "id=a,mode=1"] {
            assert_eq!(place(word), None, "{word}");
        }
    }

    #[test]
    fn servers_are_told_what_is_for_their_host_only() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "secret\n").unwrap();
        let read = |id: &str| Access::read(&[format!("id={id},src={}", path.display())], &[]);
        let hosts = |access: Access| {
            let keys = |map: BTreeMap<String, HttpAuthorization>| map.into_keys().collect::<Vec<_>>();
            (keys(access.files), keys(access.trees))
        };
        let host = || vec!["a.example:8".to_owned()];
        assert_eq!(hosts(read("HTTP_AUTH_TOKEN_a.example:8").unwrap()), (host(), vec![]));
        assert_eq!(hosts(read("HTTP_AUTH_HEADER_a.example:8").unwrap()), (host(), vec![]));
        assert_eq!(hosts(read("GIT_AUTH_TOKEN.a.example:8").unwrap()), (vec![], host()));
        assert_eq!(hosts(read("GIT_AUTH_HEADER.a.example:8").unwrap()), (vec![], host()));
        assert_eq!(read("other").unwrap().lent.secrets["other"], Secret::new(b"secret\n".to_vec()));
        let error = format!("{:#}", read("GIT_AUTH_TOKEN").unwrap_err());
        assert!(error.contains("for which host"), "{error}");
        std::fs::write(&path, "two\nlines").unwrap();
        let error = format!("{:#}", read("HTTP_AUTH_HEADER_a").unwrap_err());
        assert!(!error.contains("lines\""), "{error}");
    }
}
