//! Lists what can be built: the stages of a Dockerfile.
//!
//! Spec: BuildKit, subrequest `frontend.targets`; the JSON is docker's.

use serde::Serialize;

use crate::instruction::Located;
use crate::location::Location;
use crate::{Dockerfile, Source};

/// A stage as a target of `build --target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, in lower case; `None` when it has only a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether it is built when no target is given.
    #[serde(rename = "default", skip_serializing_if = "std::ops::Not::not")]
    pub is_default: bool,
    /// What a comment above its FROM says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it begins with, as written.
    pub base: String,
    /// The platform of its base, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Where its FROM stands.
    pub location: Location,
}

/// Lists the stages of `dockerfile`, whose text is `source`, in their order.
pub fn targets(dockerfile: &Dockerfile, source: &Source<'_>) -> Vec<Target> {
    let last = dockerfile.stages.len().saturating_sub(1);
    let stages = dockerfile.stages.iter().enumerate();
    let target = |(index, stage): (usize, &crate::Stage)| {
        let from = &stage.from;
        let name = from.value.stage_name();
        Target {
            description: name.as_ref().and_then(|name| description(from, name)),
            name,
            is_default: index == last,
            base: from.value.image.text().to_owned(),
            platform: from.value.platform.as_ref().map(|word| word.text().to_owned()),
            location: Location::of(source, from.span),
        }
    };
    stages.map(target).collect()
}

/// Returns what the comments above an instruction say of `name`: what follows the name on the line that begins with it.
pub(crate) fn description<T>(located: &Located<T>, name: &str) -> Option<String> {
    let of_name = |comment: &String| Some(comment.strip_prefix(name)?.strip_prefix(' ')?.trim().to_owned());
    located.comments.iter().find_map(of_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn targets_are_the_stages_with_what_is_said_of_them() {
        let source = "\
# a file
#
# build compiles it
FROM --platform=$BUILDPLATFORM rust:1 AS Build
RUN true
# nothing of test
FROM build AS test
FROM scratch
";
        let targets = targets(&parse(source).dockerfile, &Source::new(source));
        let expected = r#"[{"name":"build","description":"compiles it","base":"rust:1","platform":"$BUILDPLATFORM","location":{"ranges":[{"start":{"line":4},"end":{"line":4,"character":46}}]}},{"name":"test","base":"build","location":{"ranges":[{"start":{"line":7},"end":{"line":7,"character":18}}]}},{"default":true,"base":"scratch","location":{"ranges":[{"start":{"line":8},"end":{"line":8,"character":12}}]}}]"#;
        assert_eq!(serde_json::to_string(&targets).unwrap(), expected);
    }
}
