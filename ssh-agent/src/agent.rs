//! Who answers: another agent, or keys.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::protocol::{
    FAILURE, IDENTITIES_ANSWER, REQUEST_IDENTITIES, SIGN_REQUEST, SIGN_RESPONSE, put_number, put_string, read,
    take_number, take_string, write,
};
use crate::{Key, KeyError};

/// An agent that lists identities and signs.
#[derive(Debug)]
pub struct Agent(Answering);

#[derive(Debug)]
enum Answering {
    Other(PathBuf),
    Keys(Vec<Key>),
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum AgentError {
    #[error("cannot reach the SSH agent at `{}`", .path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Agent {
    /// Forwards to the agent whose socket is at `path`.
    ///
    /// # Errors
    ///
    /// [`AgentError::Unreachable`] when nobody listens there.
    pub fn forward(path: &Path) -> Result<Self, AgentError> {
        let unreachable = |source| AgentError::Unreachable { path: path.to_owned(), source };
        UnixStream::connect(path).map_err(unreachable)?;
        Ok(Self(Answering::Other(path.to_owned())))
    }

    /// Holds the private keys in `files`.
    ///
    /// # Errors
    ///
    /// [`AgentError::Key`] for the first that cannot be used.
    pub fn of_keys(files: &[PathBuf]) -> Result<Self, AgentError> {
        Ok(Self(Answering::Keys(files.iter().map(|file| Key::read(file)).collect::<Result<_, _>>()?)))
    }

    /// Begins to answer one client.
    pub(crate) fn session(&self) -> io::Result<Session<'_>> {
        Ok(match &self.0 {
            Answering::Other(path) => Session::Other(UnixStream::connect(path)?),
            Answering::Keys(keys) => Session::Keys(keys),
        })
    }
}

/// What answers one client.
pub(crate) enum Session<'a> {
    Other(UnixStream),
    Keys(&'a [Key]),
}

impl Session<'_> {
    /// Returns the answer to a request.
    pub(crate) fn answer(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        if !matches!(request.first(), Some(&(REQUEST_IDENTITIES | SIGN_REQUEST))) {
            return Ok(vec![FAILURE]);
        }
        match self {
            Self::Other(stream) => {
                write(stream, request)?;
                read(stream)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
            }
            Self::Keys(keys) => Ok(match request {
                [REQUEST_IDENTITIES] => identities(keys),
                [SIGN_REQUEST, rest @ ..] => signature(keys, rest).unwrap_or_else(|| vec![FAILURE]),
                _ => vec![FAILURE],
            }),
        }
    }
}

fn identities(keys: &[Key]) -> Vec<u8> {
    let mut answer = vec![IDENTITIES_ANSWER];
    put_number(&mut answer, u32::try_from(keys.len()).expect("keys are named on a command line"));
    for key in keys {
        put_string(&mut answer, &key.blob);
        put_string(&mut answer, key.comment.as_bytes());
    }
    answer
}

fn signature(keys: &[Key], mut request: &[u8]) -> Option<Vec<u8>> {
    let (blob, data) = (take_string(&mut request)?, take_string(&mut request)?);
    let flags = take_number(&mut request)?;
    let key = keys.iter().find(|key| key.blob == blob)?;
    let mut answer = vec![SIGN_RESPONSE];
    put_string(&mut answer, &key.sign(data, flags)?);
    Some(answer)
}
