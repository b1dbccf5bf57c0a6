//! Makes an image of solved layers: its config, kept in the store under its digest.
//!
//! - No manifest is written: it names compressed layers, and building compresses nothing. Pushing writes it.
//! - Times are those of the layers, so a build that finds every layer in the cache gives the same image ID again.
//!
//! Spec: image-spec 1.1, config.md; the texts of `created_by` are those that docker writes.

use layer_store::{ImageError, ImageId, Store, TagError};
use oci::{Document, HistoryEntry, ImageConfig, Reference};

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
    let mut created = config.history.last().and_then(|entry| entry.created.clone()).or(config.created.take());
    let first = layers.iter().find_map(|layer| layer.created.clone());
    for entry in &planned.history {
        let layer = layers.iter().find(|layer| Some(layer.node) == entry.node);
        if let Some(layer) = layer {
            created.clone_from(&layer.created);
        }
        config.history.push(HistoryEntry {
            created: created.clone().or_else(|| first.clone()),
            created_by: Some(entry.created_by.clone()),
            author: None,
            comment: Some(COMMENT.to_owned()),
            empty_layer: layer.is_none(),
        });
    }
    config.created = created.or(first);
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Graph, Op, Source};
    use oci::{DiffId, Digest, Platform};

    #[test]
    fn entries_without_a_layer_are_marked_and_take_the_time_of_the_last_layer() {
        let mut graph = Graph::default();
        let nodes: Vec<_> = ["base", "a", "b"]
            .map(|name| {
                let source = Source::Image { name: name.to_owned(), id: Digest::of(b""), layers: vec![] };
                graph.add(Op::Source(source), vec![], name.to_owned(), None)
            })
            .into();
        let mut config = ImageConfig::empty(Platform::host());
        config.history.push(HistoryEntry { created: Some("t0".to_owned()), ..HistoryEntry::default() });
        let entry = |created_by: &str, node| PlannedEntry { created_by: created_by.to_owned(), node };
        let history = vec![entry("ENV", None), entry("RUN", Some(nodes[1])), entry("WORKDIR", Some(nodes[2]))];
        let planned = PlannedImage { top: nodes[2], config, history };
        let layer = |node, created: Option<&str>| MadeLayer {
            diff_id: DiffId(Digest::of(b"x")),
            node,
            created: created.map(str::to_owned),
        };
        let config = image_config(&planned, &[layer(nodes[0], None), layer(nodes[1], Some("t1"))]);
        let shown: Vec<_> = config.history.iter().map(|entry| (entry.created.as_deref(), entry.empty_layer)).collect();
        assert_eq!(shown, [(Some("t0"), false), (Some("t0"), true), (Some("t1"), false), (Some("t1"), true)]);
        assert_eq!((config.created.as_deref(), config.rootfs.diff_ids.len()), (Some("t1"), 2));
    }
}
