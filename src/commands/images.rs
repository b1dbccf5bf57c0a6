//! `wharf images`: what is in the store, one line for each name.

use std::time::SystemTime;

use anyhow::Context;
use layer_store::{ImageError, LabelFilter, ListedImage, Store};
use oci::Reference;
use time::OffsetDateTime;

use crate::filter::{Filter, glob_matches};
use crate::image_view::{Ids, Images, created};
use crate::listing::{Field, Format, Listing};
use crate::session::Session;
use crate::{age, output, size};

const NONE: &str = "<none>";

const FIELDS: [Field; 11] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("VirtualSize", "VIRTUAL SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct ImagesArgs {
    /// Only images with this name; `*` and `?` stand for anything but `/`
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
    /// Show all images (the same list: no intermediate images are kept)
    #[arg(short, long)]
    all: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    /// Show whole IDs
    #[arg(long)]
    no_trunc: bool,
    /// Show the digests that registries know the images by
    #[arg(long)]
    digests: bool,
    /// Only images that match: dangling=BOOL, reference=GLOB, label=KEY[=VALUE], before=IMAGE, since=IMAGE, until=TIME
    #[arg(short, long = "filter", value_name = "KEY=VALUE")]
    filters: Vec<Filter>,
    /// Format: `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long)]
    format: Option<String>,
}

/// Lists images.
pub(crate) fn images(args: &ImagesArgs, session: &Session) -> anyhow::Result<u8> {
    let format = Format::parse(args.format.as_deref())?;
    let store = session.look()?;
    let selection = Selection::new(args, &store)?;
    let mut images = Images::of(&store).context("cannot list the images")?;
    selection.apply(&store, &mut images);
    let show = Show { ids: Ids::from_no_trunc(args.no_trunc), has_digests: args.digests, now: SystemTime::now() };
    let mut listing = Listing::new(&FIELDS, columns(args.digests));
    let mut ids = String::new();
    for image in &images.readable {
        for name in names(image, &selection, args.digests) {
            ids.push_str(&show.ids.show(&image.id.0));
            ids.push('\n');
            listing.row(show.row(image, &name));
        }
    }
    output::print(&if args.quiet && args.format.is_none() { ids } else { listing.render(&format)? })?;
    Ok(images.report_unreadable())
}

fn columns(digests: bool) -> &'static [&'static str] {
    if digests {
        &["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"]
    } else {
        &["Repository", "Tag", "ID", "CreatedSince", "Size"]
    }
}

/// How rows are written.
struct Show {
    ids: Ids,
    has_digests: bool,
    now: SystemTime,
}

/// One name of an image.
#[derive(Debug, Default, PartialEq)]
struct Name {
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<String>,
}

impl Show {
    fn row(&self, image: &ListedImage, name: &Name) -> Vec<String> {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
        let digest = if self.has_digests { or_none(&name.digest) } else { NONE.to_owned() };
        let bytes = size::listed(image.size);
        vec![
            or_none(&name.repository),
            or_none(&name.tag),
            digest,
            self.ids.show(&image.id.0),
            age::ago(created(image), self.now),
            age::dated(created(image)),
            bytes.clone(),
            "N/A".to_owned(),
            bytes,
            "N/A".to_owned(),
            "N/A".to_owned(),
        ]
    }
}

/// Lists the names of an image: its tags, and the repositories that it has no tag of.
fn names(image: &ListedImage, selection: &Selection, with_digests: bool) -> Vec<Name> {
    let digest_of = |repository: &str| {
        let of_repository = image.repo_digests.iter().filter(|known| known.familiar_repository() == repository);
        of_repository.filter_map(|known| known.digest().map(ToString::to_string)).next_back()
    };
    let mut names = Vec::new();
    for tag in image.tags.iter().filter(|tag| selection.names(tag)) {
        let repository = tag.familiar_repository();
        let digest = digest_of(&repository);
        names.push(Name { repository: Some(repository), tag: tag.tag().map(str::to_owned), digest });
    }
    let untagged = image.repo_digests.iter().filter(|known| selection.names(known));
    for known in untagged.filter(|_| with_digests || image.tags.is_empty()) {
        let repository = known.familiar_repository();
        if !names.iter().any(|name| name.repository.as_deref() == Some(&repository)) {
            let digest = digest_of(&repository);
            names.push(Name { repository: Some(repository), tag: None, digest });
        }
    }
    if names.is_empty() && image.tags.is_empty() && selection.references.is_empty() {
        names.push(Name::default());
    }
    names
}

/// Which images and names are listed.
#[derive(Debug, Default)]
struct Selection {
    /// Globs, one of which a name must match.
    references: Vec<String>,
    dangling: Option<bool>,
    labels: Vec<LabelFilter>,
    before: Option<OffsetDateTime>,
    since: Option<OffsetDateTime>,
}

impl Selection {
    fn new(args: &ImagesArgs, store: &Store) -> anyhow::Result<Self> {
        let mut selection = Self { references: args.repository.iter().cloned().collect(), ..Self::default() };
        for filter in &args.filters {
            filter.check(&["dangling", "reference", "label", "before", "since", "until"])?;
            match filter.key.as_str() {
                "dangling" => selection.dangling = Some(filter.flag()?),
                "reference" => selection.references.push(filter.value.clone()),
                "label" => selection.labels.push(filter.of_labels()),
                "until" => selection.set_before(filter.time(SystemTime::now())?.into()),
                "before" => selection.set_before(created_by_name(store, &filter.value)?),
                _ => selection.since = selection.since.max(Some(created_by_name(store, &filter.value)?)),
            }
        }
        Ok(selection)
    }

    fn set_before(&mut self, time: OffsetDateTime) {
        self.before = Some(self.before.map_or(time, |before| before.min(time)));
    }

    /// Leaves those images that are listed; one whose labels cannot be read is unreadable.
    fn apply(&self, store: &Store, images: &mut Images) {
        for image in std::mem::take(&mut images.readable) {
            match self.has(store, &image) {
                Ok(true) => images.readable.push(image),
                Ok(false) => {}
                Err(error) => images.unreadable.push(error),
            }
        }
    }

    fn has(&self, store: &Store, image: &ListedImage) -> Result<bool, ImageError> {
        let created = created(image).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let has_others = self.dangling.is_none_or(|dangling| dangling == image.tags.is_empty())
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since);
        if !has_others || self.labels.is_empty() {
            return Ok(has_others);
        }
        let config = store.config(&image.id)?;
        Ok(self.labels.iter().all(|filter| filter.holds(&config.value().config.labels)))
    }

    /// Tells whether a name is listed.
    fn names(&self, name: &Reference) -> bool {
        let (whole, repository) = (name.familiar(), name.familiar_repository());
        let tagged = name.tag().map(|tag| format!("{repository}:{tag}"));
        self.references.is_empty()
            || self.references.iter().any(|glob| {
                glob_matches(glob, &whole)
                    || glob_matches(glob, &repository)
                    || tagged.as_ref().is_some_and(|tagged| glob_matches(glob, tagged))
            })
    }
}

fn created_by_name(store: &Store, name: &str) -> anyhow::Result<OffsetDateTime> {
    let config = store.config(&store.find(name)?)?;
    let created = config.value().created.as_deref().and_then(age::parse);
    Ok(created.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use layer_store::ImageId;
    use oci::Digest;

    fn image(tags: &[&str], repo_digests: &[&str]) -> ListedImage {
        let references = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        ListedImage {
            id: ImageId(Digest::of(b"config")),
            created: None,
            repo_digests: references(repo_digests),
            tags: references(tags),
            size: 7,
            stored: SystemTime::UNIX_EPOCH,
        }
    }

    fn shown(image: &ListedImage, selection: &Selection, digests: bool) -> Vec<String> {
        let show = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
        let rows = names(image, selection, digests).into_iter();
        rows.map(|name| format!("{} {}", show(name.repository), show(name.tag))).collect()
    }

    #[test]
    fn an_image_has_a_line_for_each_name() {
        let digest = format!("other/app@{}", Digest::of(b"m"));
        let all = Selection::default();
        assert_eq!(shown(&image(&["a:1", "a:2"], &[&digest]), &all, false), ["a 1", "a 2"]);
        assert_eq!(shown(&image(&["a:1"], &[&digest]), &all, true), ["a 1", "other/app <none>"]);
        assert_eq!(shown(&image(&[], &[&digest]), &all, false), ["other/app <none>"]);
        assert_eq!(shown(&image(&[], &[]), &all, false), ["<none> <none>"]);
    }

    #[test]
    fn a_pattern_leaves_other_names_of_the_image_out() {
        let selected = |glob: &str| Selection { references: vec![glob.to_owned()], ..Selection::default() };
        let image = image(&["debian:12", "localhost:5000/base/debian:12"], &[]);
        assert_eq!(shown(&image, &selected("debian"), false), ["debian 12"]);
        assert_eq!(shown(&image, &selected("debian:1?"), false), ["debian 12"]);
        assert_eq!(shown(&image, &selected("*/base/*"), false), ["localhost:5000/base/debian 12"]);
        assert_eq!(shown(&image, &selected("nope"), false), [""; 0]);
    }
}
