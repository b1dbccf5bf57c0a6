//! Rules about EXPOSE.

use super::report::{Report, Site};
use crate::{Diagnostic, Ports, Rule, Span};

/// Checks how a port of EXPOSE is written, once its variables are expanded.
pub(super) fn expose((text, span): (&str, Span), ports: Ports, site: Site<'_>, report: &mut Report<'_>) {
    let container = text.rsplit(':').next().unwrap_or(text).to_lowercase();
    if ports.has_protocol_in_other_case {
        report.rule(Rule::ExposeProtoCasing, site, || {
            let warning = Diagnostic::warning(span, format!("the protocol of `{text}` is not in lower case"));
            warning.label(format!("want {}", ports.protocol)).note(format!("write `{container}`"))
        });
    }
    if ports.has_host() {
        report.rule(Rule::ExposeInvalidFormat, site, || {
            let title = format!("`{text}` names an address or a port of the host, which EXPOSE cannot set");
            let warning = Diagnostic::warning(span, title).label("only the port of the container counts");
            warning.note(format!("write `{container}`; the port of the host is chosen when a container starts"))
        });
    }
}
