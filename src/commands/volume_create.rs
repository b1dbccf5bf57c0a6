//! `wharf volume create`: makes a volume, or finds the one that has the name, and prints its name.

use std::collections::BTreeMap;

use anyhow::Context;
use layer_store::{Volume, VolumeName};

use crate::ending::Ending;
use crate::output;
use crate::session::Session;
use crate::shown::shown;

#[derive(Debug, clap::Args)]
pub(crate) struct VolumeCreateArgs {
    /// The name; without one, some digits
    #[arg(value_name = "VOLUME")]
    name: Option<VolumeName>,
    /// Set a label
    #[arg(long = "label", value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
    /// What keeps it: a directory of the store
    #[arg(short, long, value_enum, default_value_t = Driver::Local)]
    driver: Driver,
}

/// What keeps volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Driver {
    Local,
}

/// Makes a volume.
pub(crate) fn volume_create(args: &VolumeCreateArgs, session: &Session) -> anyhow::Result<u8> {
    let Driver::Local = args.driver;
    let mut labels = labels(&args.labels)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => {
            labels.insert(Volume::ANONYMOUS.to_owned(), String::new());
            VolumeName::random().context("cannot make up a name")?
        }
    };
    session.store()?.make_volume(&name, &labels).with_context(|| format!("cannot make the volume `{name}`"))?;
    output::print(&format!("{name}\n"))?;
    Ok(0)
}

fn labels(words: &[String]) -> Result<BTreeMap<String, String>, Ending> {
    let split = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() {
            return Err(Ending::usage(format!("`{}` is not a label", shown(word))));
        }
        Ok((key.to_owned(), value.to_owned()))
    };
    words.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_words_with_or_without_a_value() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let found = labels(&words(&["a=1=2", "b", "a=3"])).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("a".into(), "3".into()), ("b".into(), String::new())]);
        assert!(labels(&words(&["=x"])).is_err());
    }
}
