//! Makes an image of solved layers: its config, kept in the store under its digest.
//!
//! - No manifest is written: it names compressed layers, and building compresses nothing. Pushing writes it.
//! - Times are those of the layers, so a build that finds every layer in the cache gives the same image ID again.
//! - SOURCE_DATE_EPOCH, if given, stands in for the times of what this build adds, but not for those of the base.
//! - The history has as many entries with a layer as there are layers, also on a base that tells less or more.
//!
//! Spec: image-spec 1.1, config.md; the texts of `created_by` are those that docker writes.

use std::fmt;
use std::str::FromStr;

use layer_store::{ImageError, ImageId, Store, TagError};
use oci::{Document, HistoryEntry, ImageConfig, Reference};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::graph::NodeId;
use crate::solve::MadeLayer;

/// The comment of every history entry of an instruction.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// The image that a plan asks for, but for its layers.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedImage {
    /// The node whose layers the image has.
    pub top: NodeId,
    /// The config with the base's history and without layers of its own.
    pub config: ImageConfig,
    /// What the instructions add to the history, in order.
    pub history: Vec<PlannedEntry>,
    /// The time that the image and what the instructions add to the history are said to be of; `None` is that of the layers.
    pub epoch: Option<Epoch>,
}

/// The time that SOURCE_DATE_EPOCH gives.
///
/// Spec: reproducible-builds.org, SOURCE_DATE_EPOCH 1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    seconds: i64,
    /// The same in RFC 3339.
    text: String,
}

/// Why a text is no such time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not seconds since 1970, up to the year 9999; the time of a context or a stage is not built yet")]
pub struct EpochError;

impl Epoch {
    /// The build argument.
    pub const NAME: &str = "SOURCE_DATE_EPOCH";

    /// Returns it in seconds since 1970.
    pub fn seconds(&self) -> i64 {
        self.seconds
    }
}

impl FromStr for Epoch {
    type Err = EpochError;

    fn from_str(text: &str) -> Result<Self, EpochError> {
        let seconds = text.parse::<i64>().ok().filter(|seconds| *seconds >= 0).ok_or(EpochError)?;
        let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| EpochError)?;
        time.format(&Rfc3339).map(|text| Self { seconds, text }).map_err(|_| EpochError)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A history entry of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEntry {
    /// What history shows.
    pub created_by: String,
    /// The node whose layer belongs to the entry; `None` for instructions that only change the config.
    pub node: Option<NodeId>,
}

/// Why an image could not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ExportError {
    #[error("cannot keep the image")]
    Image { source: ImageError },
    #[error("cannot tag the image as {}", .name.familiar())]
    Tag { name: Reference, source: TagError },
}

/// Writes the image of `planned` with these layers and gives it `names`.
pub(crate) fn export(
    store: &Store,
    planned: &PlannedImage,
    layers: &[MadeLayer],
    names: &[Reference],
) -> Result<ImageId, ExportError> {
    let config = Document::write(image_config(planned, layers));
    let id = store.add_image(&config).map_err(|source| ExportError::Image { source })?;
    for name in names {
        store.tag(name, &id).map_err(|source| ExportError::Tag { name: name.clone(), source })?;
    }
    Ok(id)
}

fn image_config(planned: &PlannedImage, layers: &[MadeLayer]) -> ImageConfig {
    let mut config = planned.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
    let own = |layer: &&MadeLayer| planned.history.iter().any(|entry| entry.node == Some(layer.node));
    count_layers(&mut config.history, layers.len() - layers.iter().filter(own).count());
    let mut created = config.history.last().and_then(|entry| entry.created.clone()).or(config.created.take());
    let first = layers.iter().find_map(|layer| layer.created.clone());
    for entry in &planned.history {
        let layer = layers.iter().find(|layer| Some(layer.node) == entry.node);
        if let Some(layer) = layer {
            created.clone_from(&layer.created);
        }
        let epoch = planned.epoch.as_ref().map(Epoch::to_string);
        config.history.push(HistoryEntry {
            created: epoch.or_else(|| created.clone()).or_else(|| first.clone()),
            created_by: Some(entry.created_by.clone()),
            author: None,
            comment: Some(COMMENT.to_owned()),
            empty_layer: layer.is_none(),
        });
    }
    config.created = planned.epoch.as_ref().map(Epoch::to_string).or(created).or(first);
    config
}

/// Makes the entries of a base agree with its number of layers: those too many are marked, those missing are added.
fn count_layers(history: &mut Vec<HistoryEntry>, layers: usize) {
    let mut counted = 0;
    for entry in history.iter_mut().filter(|entry| !entry.empty_layer) {
        counted += 1;
        entry.empty_layer = counted > layers;
    }
    let created = history.last().and_then(|entry| entry.created.clone());
    history.extend((counted..layers).map(|_| HistoryEntry { created: created.clone(), ..HistoryEntry::default() }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Op, Source};
    use oci::{DiffId, Digest, Platform};

    /// Exports a base of one layer and these entries, ENV, RUN (a layer) and WORKDIR (none); shows time and layer of each entry.
    fn check(base: &[(&str, bool)], epoch: Option<&str>, expected: &[(Option<&str>, bool)], created: Option<&str>) {
        let mut graph = Graph::default();
        let nodes = ["base", "a", "b"].map(|name| {
            let source = Source::Image { name: name.to_owned(), id: Digest::of(b""), layers: vec![] };
            graph.add(Op::Source(source), vec![], name.to_owned(), None)
        });
        let mut config = ImageConfig::empty(Platform::host());
        config.history.extend(base.iter().map(|(created, empty_layer)| HistoryEntry {
            created: Some((*created).to_owned()),
            empty_layer: *empty_layer,
            ..HistoryEntry::default()
        }));
        let entry = |created_by: &str, node| PlannedEntry { created_by: created_by.to_owned(), node };
        let history = vec![entry("ENV", None), entry("RUN", Some(nodes[1])), entry("WORKDIR", Some(nodes[2]))];
        let planned = PlannedImage { top: nodes[2], config, history, epoch: epoch.map(|text| text.parse().unwrap()) };
        let layer = |node, created: Option<&str>| MadeLayer {
            diff_id: DiffId(Digest::of(b"x")),
            node,
            created: created.map(str::to_owned),
        };
        let config = image_config(&planned, &[layer(nodes[0], None), layer(nodes[1], Some("t1"))]);
        let shown: Vec<_> = config.history.iter().map(|entry| (entry.created.as_deref(), entry.empty_layer)).collect();
        assert_eq!(shown, expected);
        let comments = config.history.iter().filter(|entry| entry.comment.as_deref() == Some(COMMENT)).count();
        assert_eq!((config.created.as_deref(), config.rootfs.diff_ids.len(), comments), (created, 2, 3));
        assert_eq!(config.history.iter().filter(|entry| !entry.empty_layer).count(), 2);
    }

    #[test]
    fn entries_without_a_layer_are_marked_and_take_the_time_of_the_last_layer() {
        let expected = [(Some("t0"), false), (Some("t0"), true), (Some("t1"), false), (Some("t1"), true)];
        check(&[("t0", false)], None, &expected, Some("t1"));
    }

    #[test]
    fn a_base_without_a_history_gets_an_entry_for_each_layer() {
        check(&[], None, &[(None, false), (Some("t1"), true), (Some("t1"), false), (Some("t1"), true)], Some("t1"));
        let expected =
            [(Some("t0"), true), (Some("t0"), false), (Some("t0"), true), (Some("t1"), false), (Some("t1"), true)];
        check(&[("t0", true)], None, &expected, Some("t1"));
    }

    #[test]
    fn an_entry_of_a_base_without_its_layer_is_marked() {
        let expected =
            [(Some("t0"), false), (Some("t0"), true), (Some("t0"), true), (Some("t1"), false), (Some("t1"), true)];
        check(&[("t0", false), ("t0", false)], None, &expected, Some("t1"));
    }

    #[test]
    fn an_epoch_is_the_time_of_what_the_build_adds_but_not_of_the_base() {
        let epoch = Some("2023-11-14T22:13:20Z");
        let expected = [(Some("t0"), false), (epoch, true), (epoch, false), (epoch, true)];
        check(&[("t0", false)], Some("1700000000"), &expected, epoch);
    }

    #[test]
    fn an_epoch_is_seconds_since_1970() {
        for (text, time) in [("0", "1970-01-01T00:00:00Z"), ("253402300799", "9999-12-31T23:59:59Z")] {
            assert_eq!(text.parse::<Epoch>().map(|epoch| epoch.to_string()).as_deref(), Ok(time));
        }
        for text in ["-1", "", "1.5", "now", "253402300800", "99999999999999999999"] {
            assert_eq!(text.parse::<Epoch>(), Err(EpochError), "{text}");
        }
    }
}
