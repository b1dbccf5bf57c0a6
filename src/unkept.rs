//! The flags of docker's `run` about containers that stay: refused, each with the reason, as no container stays yet.

use crate::ending::Ending;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct UnkeptArgs {
    #[arg(short, long, hide = true)]
    detach: bool,
    #[arg(long, hide = true, value_name = "NAME")]
    name: Option<String>,
    #[arg(short, long = "label", hide = true, value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[arg(long = "label-file", hide = true, value_name = "FILE")]
    label_files: Vec<String>,
    #[arg(long, hide = true, value_name = "FILE")]
    cidfile: Option<String>,
}

impl UnkeptArgs {
    /// Refuses them.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] with the first that was given, and why.
    pub(crate) fn check(&self) -> Result<(), Ending> {
        let why = if self.detach {
            "`--detach` is not built yet: a container runs as long as its `wharf run`"
        } else if self.name.is_some() {
            "`--name`: containers are not kept yet, so there is nothing to find by its name: leave it out"
        } else if !self.labels.is_empty() {
            "`--label`: containers are not kept yet, so nobody could see a label of one: leave it out"
        } else if !self.label_files.is_empty() {
            "`--label-file`: containers are not kept yet, so nobody could see a label of one: leave it out"
        } else if self.cidfile.is_some() {
            "`--cidfile`: containers are not kept yet, and have no id: leave it out"
        } else {
            return Ok(());
        };
        Err(Ending::usage(why))
    }
}
