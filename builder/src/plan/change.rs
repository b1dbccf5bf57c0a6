//! Changes of a config that are asked for without a Dockerfile, by instructions such as `CMD ["sh"]`.

use dockerfile::{Diagnostic, Instruction, parse};
use oci::ImageConfig;

use super::stage::StageState;
use super::{PlanError, PlanProblem, config};
use crate::graph::{Graph, Op, Source};

/// What makes an instruction the first of a stage, so that the parser sees a Dockerfile.
const STAGE: &str = "FROM scratch\n";

/// Why a config cannot be changed as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ChangeError {
    #[error("the change `{}` is not one instruction{}", .text.escape_debug(), said(.diagnostics))]
    Syntax { text: String, diagnostics: Vec<Diagnostic> },
    #[error(
        "{instruction} changes no config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR do"
    )]
    NotAChange { instruction: &'static str },
    #[error("the change `{}` cannot be made", .text.escape_debug())]
    Problem { text: String, source: PlanProblem },
}

fn said(diagnostics: &[Diagnostic]) -> String {
    diagnostics.first().map(|first| format!(": {}", first.title)).unwrap_or_default()
}

/// Applies `changes` to a config, in order.
///
/// # Errors
///
/// [`ChangeError`] with the first that cannot be applied.
pub fn change_config(config: ImageConfig, changes: &[String]) -> Result<ImageConfig, ChangeError> {
    let top = Graph::default().add(Op::Source(Source::Scratch), Vec::new(), String::new(), None);
    let mut state = StageState::of_config(top, config);
    for text in changes {
        change(&mut state, text)?;
    }
    Ok(state.config)
}

fn change(state: &mut StageState, text: &str) -> Result<(), ChangeError> {
    let parsed = parse(&format!("{STAGE}{text}"));
    let syntax = |diagnostics| ChangeError::Syntax { text: text.to_owned(), diagnostics };
    if parsed.has_errors() {
        return Err(syntax(parsed.diagnostics));
    }
    let [stage] = &parsed.dockerfile.stages[..] else { return Err(syntax(Vec::new())) };
    let [found] = &stage.instructions[..] else { return Err(syntax(Vec::new())) };
    let problem = |error: PlanError| ChangeError::Problem { text: text.to_owned(), source: error.error };
    match &found.value {
        Instruction::Workdir(workdir) => state.enter_directory(workdir).map(drop).map_err(problem),
        Instruction::Cmd(_)
        | Instruction::Entrypoint(_)
        | Instruction::Env(_)
        | Instruction::Expose(_)
        | Instruction::Healthcheck(_)
        | Instruction::Label(_)
        | Instruction::Onbuild(_)
        | Instruction::Stopsignal(_)
        | Instruction::User(_)
        | Instruction::Volume(_) => config::change(state, &found.value, found.span).map(drop).map_err(problem),
        other => Err(ChangeError::NotAChange { instruction: other.keyword() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Platform;

    fn changed(changes: &[&str]) -> Result<serde_json::Value, String> {
        let changes: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        let config = change_config(ImageConfig::empty(Platform::host()), &changes);
        config.map(|config| serde_json::to_value(config.config).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn instructions_change_the_config_in_order_and_add_nothing_of_their_own() {
        let changes = [
            "ENV A=1 B=$A",
            "env C=${A}x",
            "WORKDIR /a",
            "WORKDIR b",
            "ENTRYPOINT [\"/x\"]",
            "CMD [\"y\"]",
            "EXPOSE 80",
            "VOLUME /v",
            "USER app",
            "LABEL l=\"a b\"",
            "ONBUILD RUN x",
            "STOPSIGNAL SIGINT",
        ];
        let expected = serde_json::json!({ "Env": ["A=1", "B=", "C=1x"], "WorkingDir": "/a/b", "Entrypoint": ["/x"],
            "Cmd": ["y"], "ArgsEscaped": true, "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/v": {} }, "User": "app",
            "Labels": { "l": "a b" }, "OnBuild": ["RUN x"], "StopSignal": "SIGINT" });
        assert_eq!(changed(&changes).unwrap(), expected);
        assert_eq!(changed(&[]).unwrap(), serde_json::json!({}));
    }

    #[test]
    fn what_changes_no_config_is_refused_by_name() {
        for (change, said) in [
            ("RUN x", "RUN changes no config"),
            ("COPY a b", "COPY changes no config"),
            ("FROM x", "the change `FROM x` is not one instruction"),
            ("CMD a\nCMD b", "is not one instruction"),
            ("", "the change `` is not one instruction"),
            ("CPOY a b", "unknown instruction `CPOY`"),
            ("EXPOSE x", "the change `EXPOSE x` cannot be made"),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert!(error.contains(said), "{change}: {error}");
        }
    }
}
