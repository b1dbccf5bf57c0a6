//! What `--build-context` names: files or an image in the place of a stage or an image of that name.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use builder::{BaseImage, ImageLayout, ImagePlace, LayoutName, NamedContext, NamedContexts};
use oci::{Platform, Reference};

use super::context::{BuildContext, Kind, Opening};
use super::dockerfile::read_ignore;
use crate::ending::Ending;
use crate::shown::shown;

/// Opens what these words name; of one name the last counts.
pub(super) fn named_contexts(
    given: &[String],
    platform: &Platform,
    opening: &Opening<'_>,
) -> anyhow::Result<NamedContexts> {
    let mut contexts = NamedContexts::new();
    for word in given {
        let named = word.split_once('=').filter(|(name, source)| !name.is_empty() && !source.is_empty());
        let Some((name, source)) = named else {
            let why = format!("`{}` is not a named context (want `NAME=SOURCE`)", shown(word));
            return Err(Ending::usage(why).into());
        };
        contexts.insert(name.to_owned(), open(name, source, platform, opening)?);
    }
    Ok(contexts)
}

fn open(name: &str, source: &str, platform: &Platform, opening: &Opening<'_>) -> anyhow::Result<NamedContext> {
    if let Some(image) = source.strip_prefix("docker-image://") {
        let reference = image.parse::<Reference>();
        let what = || format!("cannot use `{}` as the image of the named context `{}`", shown(image), shown(name));
        return Ok(NamedContext::Image(reference.with_context(what)?));
    }
    if let Some(place) = source.strip_prefix("oci-layout://") {
        let image = pinned(place, platform);
        return image.with_context(|| format!("cannot use the named context `{}`", shown(name)));
    }
    // a URL may hold a password: what is shown of it is said by who reads it
    let what = || format!("cannot use the named context `{}`", shown(name));
    let kind = match Kind::of(source).with_context(what)? {
        Kind::StandardInput => {
            return Err(Ending::usage("standard input is no named context: it can only be the build context").into());
        }
        kind => kind,
    };
    let context = BuildContext::open(kind, opening).with_context(what)?;
    let ignore = read_ignore(None, &context).with_context(what)?;
    match context.into_tree(ignore) {
        Some(tree) => Ok(NamedContext::Tree(Arc::new(tree))),
        None => Err(anyhow!("what is there is no tar archive").context(what())),
    }
}

/// Reads the image at `DIRECTORY[:TAG][@DIGEST]`.
fn pinned(place: &str, platform: &Platform) -> anyhow::Result<NamedContext> {
    let (directory, layout_name) = layout_place(place)?;
    let image = ImageLayout::open(directory).and_then(|layout| layout.image(&layout_name, platform));
    let image = image.with_context(|| format!("cannot use the image layout `{}`", shown(place)))?;
    let name = format!("oci-layout://{}", shown(place));
    let (id, config) = (image.config.digest(), image.config.value().clone());
    let place = ImagePlace::Layout(Arc::new(image));
    Ok(NamedContext::Pinned(Arc::new(BaseImage { name, id, config, place })))
}

fn layout_place(place: &str) -> anyhow::Result<(&Path, LayoutName)> {
    let (rest, digest) = match place.rsplit_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (place, None),
    };
    let (directory, tag) = match rest.rsplit_once(':') {
        Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag.to_owned())),
        _ => (rest, None),
    };
    let digest = digest.map(|digest| digest.parse().with_context(|| format!("`{}` is no digest", shown(digest))));
    Ok((Path::new(directory), LayoutName { tag, digest: digest.transpose()? }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::build::Access;
    use crate::config::Config;
    use crate::session::Session;
    use remote_files::GitDir;

    #[test]
    fn a_place_has_a_directory_and_perhaps_a_tag_and_a_digest() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let check = |place: &str, directory: &str, tag: Option<&str>, digest: Option<&str>| {
            let (found, name) = layout_place(place).unwrap();
            assert_eq!((found, name.tag.as_deref()), (Path::new(directory), tag), "{place}");
            assert_eq!(name.digest.map(|digest| digest.to_string()).as_deref(), digest, "{place}");
        };
        check("/a/b", "/a/b", None, None);
        check("/a:b/c", "/a:b/c", None, None);
        check("/a:1.0", "/a", Some("1.0"), None);
        check(&format!("a@{digest}"), "a", None, Some(&digest));
        check(&format!("a:1@{digest}"), "a", Some("1"), Some(&digest));
        assert!(layout_place("a@b").is_err());
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let session = Session::new(Config::read(Some("/nonexistent".into()), None).unwrap(), None);
        let opening = Opening { session: &session, access: &Access::default(), git_dir: GitDir::Drop };
        for given in ["", "a", "=a", "a=", "a=/nonexistent", "a=docker-image://A B", "a=oci-layout:///nonexistent"] {
            assert!(named_contexts(&[given.to_owned()], &Platform::host(), &opening).is_err(), "{given}");
        }
    }
}
