//! Rules about variables: whether they are set, how they are written, and what does not belong into them.

use super::environment::Environment;
use super::report::{Report, Site};
use crate::instruction::{Form, KeyValue, Located};
use crate::{Diagnostic, Help, Instruction, Rule, Span};

/// Arguments that docker reads itself and never puts into the environment.
pub(super) const NEVER_SET: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Reports a variable that is used before anything sets it.
pub(super) fn undefined_var(
    (name, span): (&str, Span),
    environment: &Environment,
    site: Site<'_>,
    report: &mut Report<'_>,
) {
    if NEVER_SET.contains(&name) {
        return;
    }
    report.rule(Rule::UndefinedVar, site, || {
        let warning = Diagnostic::warning(span, format!("variable `{name}` is not set here")).label("is empty");
        let warning = warning.note("set it with ENV, or declare it with ARG in this stage");
        let mut warning = warning.suggest(name, nearby(name, environment.names()));
        if let Some(Help::DidYouMean(near)) = &mut warning.help {
            near.insert(0, '$');
        }
        warning
    });
}

/// How many names are compared with one that is not known: what has more of them was not written by people.
const MOST_NAMES: usize = 500;

/// Returns those of `names` whose length is near to that of `name`: the others cannot be meant.
pub(super) fn nearby<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
    let length = name.len();
    names.filter(move |near| near.len().abs_diff(length) <= 2).take(MOST_NAMES)
}

/// Checks that ENV or LABEL is written with `=`.
pub(super) fn legacy_format(
    located: &Located<Instruction>,
    (pairs, form): (&[KeyValue], Form),
    site: Site<'_>,
    report: &mut Report<'_>,
) {
    let (Form::Legacy, [pair]) = (form, pairs) else { return };
    report.rule(Rule::LegacyKeyValueFormat, site, || {
        let name = located.value.keyword();
        let (key, value) = (pair.key.text(), pair.value.text());
        let title = format!("{name} of `{key}` is written without `=`");
        let span = Span::new(pair.key.span().start, pair.value.span().end);
        let needs_quotes = value.contains(char::is_whitespace) && !value.starts_with(['"', '\'']);
        let value = if needs_quotes { format!("\"{value}\"") } else { value.to_owned() };
        let warning = Diagnostic::warning(span, title).label("the old form");
        if value.len() > 60 {
            warning.note(format!("write `{name} {key}=…`"))
        } else {
            warning.note(format!("write `{name} {key}={value}`"))
        }
    });
}

/// Words of a name that stand for a secret, and words with which they do not.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Reports an ARG or ENV (`keyword`) whose name says that its value is a secret.
pub(super) fn secret_name((keyword, name): (&str, &str), span: Span, site: Site<'_>, report: &mut Report<'_>) {
    let has_any = |words: &[&str]| name.split('_').any(|part| words.iter().any(|word| part.eq_ignore_ascii_case(word)));
    if !has_any(&SECRETS) || has_any(&HARMLESS) {
        return;
    }
    report.rule(Rule::SecretsUsedInArgOrEnv, site, || {
        let kept = if keyword == "ARG" { "its history" } else { "its config" };
        let title = format!("{keyword} `{name}` looks like a secret, and the image shows it in {kept}");
        let warning = Diagnostic::warning(span, title).label("anybody with the image can read it");
        warning.note("use `RUN --mount=type=secret,…`, which leaves no trace")
    });
}
