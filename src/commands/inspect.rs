//! `wharf inspect`: everything about images, as JSON or through a template.
//!
//! Several names give one array of what was found; each name that means nothing is an error of its own, and the exit code is 1.

use std::io;

use layer_store::{FindError, Image, Store};
use oci::{ContainerConfig, Descriptor, DiffId};
use serde::Serialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ending::Ending;
use crate::session::Session;
use crate::shown::{shown, shown_json};
use crate::template::Template;
use crate::{output, report};

const NEVER: &str = "0001-01-01T00:00:00Z";

#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Names or IDs
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Format: `json` or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Only look for this kind of thing
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,
    #[arg(skip)]
    verb: Verb,
}

/// Kinds of things that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Image,
}

/// How the command was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Verb {
    #[default]
    Inspect,
    ImageInspect,
}

impl InspectArgs {
    /// Returns the arguments of `wharf image inspect`.
    pub(crate) fn of_images(self) -> Self {
        Self { verb: Verb::ImageInspect, ..self }
    }
}

/// Nothing has this name.
#[derive(Debug, thiserror::Error)]
#[error("no image is called `{}`", shown(.name))]
pub(crate) struct NoSuchObject {
    /// The name.
    pub(crate) name: String,
    /// Whether the name is rather the verb that was meant: `inspect image …`.
    pub(crate) is_swapped_verb: bool,
}

/// Shows images.
pub(crate) fn inspect(args: &InspectArgs, session: &Session) -> anyhow::Result<u8> {
    let look = |store: &Store, name: &String| inspected(store, name).map_err(|error| improved(args, name, error));
    show((&args.names, args.format.as_deref()), session, look, Inspected::for_templates)
}

/// Shows what `look` finds under each name, as JSON or through a template, which sees it as `value` says; a name that fails is an
/// error of its own.
pub(super) fn show<N, T: Serialize>(
    (names, format): (&[N], Option<&str>),
    session: &Session,
    look: impl Fn(&Store, &N) -> anyhow::Result<T>,
    value: impl Fn(&T) -> serde_json::Result<Value>,
) -> anyhow::Result<u8> {
    let template = match format {
        None | Some("json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let store = session.look()?;
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        match look(&store, name) {
            Ok(one) => found.push(one),
            Err(error) => failed.push(error),
        }
    }
    let text = match template {
        None => format_json(&found, format.is_some())?,
        Some(template) => {
            let lines = found.iter().map(|one| Ok(template.render(&value(one)?)? + "\n"));
            lines.collect::<anyhow::Result<String>>()?
        }
    };
    output::print(&text)?;
    if failed.is_empty() {
        return Ok(0);
    }
    for error in failed {
        report::one_of_several(&error);
    }
    Err(Ending::Reported.into())
}

fn improved(args: &InspectArgs, name: &str, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<FindError>() {
        Some(FindError::NotFound { .. }) => {
            let is_swapped_verb = args.verb == Verb::Inspect && name == "image" && args.names.len() > 1;
            NoSuchObject { name: name.to_owned(), is_swapped_verb }.into()
        }
        _ => error,
    }
}

fn inspected(store: &Store, name: &str) -> anyhow::Result<Inspected> {
    let image = store.image(&store.find(name)?)?;
    Ok(Inspected::new(store, image))
}

/// Docker's keys, in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: String,
    comment: String,
    created: String,
    author: String,
    config: ContainerConfig,
    architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    os: String,
    size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    root_fs: RootFs,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Descriptor>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<LayerDirectories>,
    name: &'static str,
}

/// Where the files of the layers are, as overlay takes them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LayerDirectories {
    #[serde(skip_serializing_if = "String::is_empty")]
    lower_dir: String,
    upper_dir: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    #[serde(rename = "Type")]
    kind: String,
    layers: Vec<DiffId>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

impl Inspected {
    fn new(store: &Store, image: Image) -> Self {
        let stored = OffsetDateTime::from(image.stored).format(&Rfc3339).unwrap_or_else(|_| NEVER.to_owned());
        let is_tagged = !image.tags.is_empty();
        let config = image.config.value().clone();
        let comment = config.history.last().and_then(|entry| entry.comment.clone()).unwrap_or_default();
        Self {
            id: image.id.to_string(),
            repo_tags: image.tags.iter().map(oci::Reference::familiar).collect(),
            repo_digests: image.repo_digests.iter().map(oci::Reference::familiar).collect(),
            parent: String::new(),
            comment,
            created: config.created.unwrap_or_else(|| NEVER.to_owned()),
            author: config.author.unwrap_or_default(),
            config: config.config,
            architecture: config.platform.architecture,
            variant: config.platform.variant,
            os: config.platform.os,
            size: image.size,
            graph_driver: GraphDriver { data: directories(store, &config.rootfs.diff_ids), name: "overlay" },
            root_fs: RootFs { kind: config.rootfs.kind, layers: config.rootfs.diff_ids },
            metadata: Metadata { last_tag_time: if is_tagged { stored } else { NEVER.to_owned() } },
            descriptor: image.manifests.last().cloned(),
        }
    }

    /// Returns the same with the fields that a template may ask for although this image leaves them empty.
    fn for_templates(&self) -> serde_json::Result<Value> {
        let mut value = serde_json::to_value(self)?;
        let empty = json!({
            "User": "", "ExposedPorts": {}, "Env": [], "Entrypoint": null, "Cmd": null, "Volumes": {}, "WorkingDir": "",
            "Labels": {}, "StopSignal": "", "Healthcheck": null, "OnBuild": [], "Shell": null,
        });
        fill(&mut value["Config"], &empty);
        fill(&mut value, &json!({ "Variant": "" }));
        Ok(value)
    }
}

fn fill(value: &mut Value, defaults: &Value) {
    let (Some(fields), Some(defaults)) = (value.as_object_mut(), defaults.as_object()) else { return };
    for (name, default) in defaults {
        fields.entry(name.as_str()).or_insert_with(|| default.clone());
    }
}

/// Finds the directories of layers that are kept as trees; `None` when one is not.
fn directories(store: &Store, layers: &[DiffId]) -> Option<LayerDirectories> {
    let tree = |diff_id: &DiffId| {
        let is_tree = store.layer(diff_id).is_ok_and(|layer| layer.form.has_tree());
        let path = store.root().join("layers").join(diff_id.0.hex()).join("tree");
        is_tree.then(|| path.display().to_string())
    };
    let (top, below) = layers.split_last()?;
    let lower: Option<Vec<String>> = below.iter().rev().map(tree).collect();
    Some(LayerDirectories { lower_dir: lower?.join(":"), upper_dir: tree(top)? })
}

/// Writes an array with docker's indent of four blanks, or without any.
fn format_json<T: Serialize>(found: &[T], is_compact: bool) -> io::Result<String> {
    let mut bytes = Vec::new();
    if is_compact {
        serde_json::to_writer(&mut bytes, found)?;
    } else {
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        found.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    }
    bytes.push(b'\n');
    Ok(shown_json(&String::from_utf8(bytes).expect("JSON is UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use layer_store::ImageId;
    use oci::{Document, ImageConfig, Platform};
    use std::time::SystemTime;

    fn scratch() -> Inspected {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut config = ImageConfig::empty("linux/amd64".parse::<Platform>().unwrap());
        config.config.env = vec!["A=1".to_owned()];
        let config = Document::write(config);
        let image = Image {
            id: ImageId(config.digest()),
            config,
            manifests: Vec::new(),
            repo_digests: Vec::new(),
            tags: vec!["docker.io/library/app:1".parse().unwrap()],
            size: 7,
            stored: SystemTime::UNIX_EPOCH,
        };
        Inspected::new(&store, image)
    }

    #[test]
    fn keys_and_indent_are_dockers() {
        let text = format_json(&[scratch()], false).unwrap();
        let keys: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("        \"")?.split_once('"').map(|(key, _)| key))
            .collect();
        let expected = [
            "Id",
            "RepoTags",
            "RepoDigests",
            "Parent",
            "Comment",
            "Created",
            "Author",
            "Config",
            "Architecture",
            "Os",
            "Size",
            "GraphDriver",
            "RootFS",
            "Metadata",
        ];
        assert_eq!(keys, expected);
        assert!(text.starts_with("[\n    {\n        \"Id\": \"sha256:"), "{text}");
        assert_eq!(format_json::<Inspected>(&[], false).unwrap(), "[]\n");
    }

    #[test]
    fn templates_see_fields_that_are_left_empty() {
        let value = scratch().for_templates().unwrap();
        let render = |template: &str| Template::parse(template).unwrap().render(&value);
        assert_eq!(render("{{.Config.User}}|{{.Config.Env}}|{{json .Config.Cmd}}").unwrap(), "|[A=1]|null");
        assert_eq!(render("{{.Os}}/{{.Architecture}}{{.Variant}} {{index .RepoTags 0}}").unwrap(), "linux/amd64 app:1");
        assert_eq!(render("{{.RootFS.Type}} {{len .RootFS.Layers}}").unwrap(), "layers 0");
        assert!(render("{{.State}}").is_err());
    }
}
