//! The flags that say which namespaces a container shares.
//!
//! | value | docker | here |
//! |---|---|---|
//! | `host` | the host's | the same |
//! | `private`, empty | its own | the same |
//! | `container:NAME`, `shareable` | joined with other containers | refused: a container ends with its command, and none can be named |
//! | `none` of `--ipc` | its own, without `/dev/shm` | refused |

use runtime::{Namespace, Namespaces};

use crate::ending::Ending;
use crate::shown::shown;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct NamespaceArgs {
    /// Processes that the command sees: its own (private), or the host's
    #[arg(long, value_name = "private|host", value_parser = namespace)]
    pid: Option<Namespace>,
    /// Shared memory and message queues: its own (private), or the host's
    #[arg(long, value_name = "private|host", value_parser = namespace)]
    ipc: Option<Namespace>,
    /// Hostname: its own (private), or the host's
    #[arg(long, value_name = "private|host", value_parser = namespace)]
    uts: Option<Namespace>,
}

impl NamespaceArgs {
    /// Returns what they mean.
    pub(crate) fn namespaces(&self) -> Namespaces {
        let Self { pid, ipc, uts } = self;
        Namespaces { pid: pid.unwrap_or_default(), ipc: ipc.unwrap_or_default(), uts: uts.unwrap_or_default() }
    }

    /// Refuses a hostname for the host.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`].
    pub(crate) fn check(&self, hostname: Option<&str>) -> Result<(), Ending> {
        match (self.uts, hostname) {
            (Some(Namespace::Host), Some(_)) => {
                Err(Ending::usage("`--hostname` cannot be set with `--uts=host`: the name is the host's"))
            }
            _ => Ok(()),
        }
    }
}

fn namespace(text: &str) -> Result<Namespace, String> {
    match text {
        "host" => Ok(Namespace::Host),
        "private" | "" => Ok(Namespace::Own),
        "shareable" | "none" => Err(format!("`{text}` is not built: `private` or `host`")),
        other if other.starts_with("container:") => {
            Err("containers are not kept, so none can be joined: `private` or `host`".to_owned())
        }
        other => Err(format!("`{}` is neither `private` nor `host`", shown(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_dockers_or_refused_with_the_reason() {
        for (text, expected) in [
            ("host", Ok(Namespace::Host)),
            ("private", Ok(Namespace::Own)),
            ("", Ok(Namespace::Own)),
            ("shareable", Err("`shareable` is not built: `private` or `host`")),
            ("none", Err("`none` is not built: `private` or `host`")),
            ("container:db", Err("containers are not kept, so none can be joined: `private` or `host`")),
            ("Host", Err("`Host` is neither `private` nor `host`")),
        ] {
            assert_eq!(namespace(text), expected.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn the_host_gets_no_name() {
        let args = |uts| NamespaceArgs { uts, ..NamespaceArgs::default() };
        assert!(args(Some(Namespace::Host)).check(Some("boxy")).is_err());
        assert!(args(Some(Namespace::Host)).check(None).is_ok());
        assert!(args(None).check(Some("boxy")).is_ok());
    }
}
