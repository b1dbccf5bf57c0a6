//! Authentication challenges: the `WWW-Authenticate` header.
//!
//! Spec: RFC 9110, 11.6.1; the Bearer parameters are those of docker's token authentication.

/// How a registry asks for credentials. The scope it names is not read: what to ask for is our decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// Chooses among the challenges of an answer: Bearer before Basic.
    pub(crate) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let all: Vec<Self> = headers.flat_map(parse).collect();
        all.iter().find(|challenge| **challenge != Self::Basic).or(all.first()).cloned()
    }
}

/// One challenge as written: its scheme and parameters.
#[derive(Default)]
struct Written {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Written {
    fn into_challenge(self) -> Option<Challenge> {
        let parameter =
            |name: &str| self.parameters.iter().find(|(held, _)| held == name).map(|(_, value)| value.clone());
        match self.scheme.as_str() {
            "basic" => Some(Challenge::Basic),
            "bearer" => Some(Challenge::Bearer { realm: parameter("realm")?, service: parameter("service") }),
            _ => None,
        }
    }
}

fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Written> = Vec::new();
    for part in split_outside_quotes(header) {
        let part = part.trim();
        let (before, value) =
            part.split_once('=').map_or((part, None), |(name, value)| (name.trim(), Some(value.trim())));
        let name = match before.rsplit_once(char::is_whitespace) {
            Some((scheme, name)) => {
                found.push(Written { scheme: scheme.trim().to_ascii_lowercase(), ..Written::default() });
                name
            }
            None if value.is_none() => {
                found.push(Written { scheme: before.to_ascii_lowercase(), ..Written::default() });
                continue;
            }
            None => before,
        };
        if let (Some(challenge), Some(value)) = (found.last_mut(), value) {
            challenge.parameters.push((name.to_ascii_lowercase(), unquote(value)));
        }
    }
    found.into_iter().filter_map(Written::into_challenge).collect()
}

/// Splits at commas that are not within a quoted string.
fn split_outside_quotes(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut is_quoted, mut is_escaped) = (0, false, false);
    for (position, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                parts.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unquote(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let mut text = String::new();
    let mut is_escaped = false;
    for c in inner.chars() {
        if c == '\\' && !is_escaped {
            is_escaped = true;
        } else {
            is_escaped = false;
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[&str], expected: Option<(&str, Option<&str>)>) {
        let expected = expected
            .map(|(realm, service)| Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) });
        assert_eq!(Challenge::choose(headers.iter().copied()), expected, "{headers:?}");
    }

    #[test]
    fn realm_and_service_are_found_however_they_are_written() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#;
        check(&[hub], Some(("https://auth.docker.io/token", Some("registry.docker.io"))));
        check(&[r#"bearer  Realm = "https://a/t" , SERVICE=s"#], Some(("https://a/t", Some("s"))));
        check(&[r#"Bearer realm="a \"quoted\", name""#], Some((r#"a "quoted", name"#, None)));
        check(&[r#"Basic realm="x, y", Bearer realm="https://a/t""#], Some(("https://a/t", None)));
        check(&["Basic realm=x", r#"Bearer realm="https://a/t""#], Some(("https://a/t", None)));
        check(&[r#"Negotiate, Bearer realm="https://a/t""#], Some(("https://a/t", None)));
    }

    #[test]
    fn what_is_no_challenge_of_ours_is_none() {
        for header in
            ["", ",", "=", "Negotiate", "Bearer", "Bearer service=x", "\"", "Bearer realm", "Digest realm=\"x\""]
        {
            check(&[header], None);
        }
        assert_eq!(Challenge::choose(std::iter::once("BASIC realm=\"a\"")), Some(Challenge::Basic));
        assert_eq!(Challenge::choose(std::iter::once("Basic")), Some(Challenge::Basic));
    }
}
