//! ONBUILD triggers out of image configs.

mod dump;

use dockerfile::parse_trigger;
use snapbox::{IntoData, str};

fn check(trigger: &str, expected: impl IntoData) {
    let found = match parse_trigger(trigger) {
        Ok(instruction) => dump::instruction(trigger, &instruction),
        Err(diagnostics) => diagnostics.iter().map(|diagnostic| dump::diagnostic(trigger, diagnostic)).collect(),
    };
    snapbox::assert_data_eq!(found, expected.raw());
}

#[test]
fn a_trigger_is_one_instruction() {
    check(
        "RUN echo $x",
        str![[r#"
RUN @1:1-1:12
  shell "echo $x"

"#]],
    );
    check(
        "copy --chown=a . /app",
        str![[r#"
COPY @1:1-1:22
  chown "a" @1:14-1:15
  source "." @1:16-1:17
  destination "/app" @1:18-1:22

"#]],
    );
    check(
        "RUN <<EOF sh\necho\nEOF",
        str![[r#"
RUN @1:1-1:13
  shell "<<EOF sh"
  heredoc "EOF" "<<EOF", expands @1:5-1:10
    body "echo\n" @2:1-3:1
  invocation Shell("<<EOF sh\necho\nEOF")

"#]],
    );
}

#[test]
fn anything_else_is_refused() {
    check(
        "",
        str![[r#"
error: an ONBUILD trigger is exactly one instruction @1:1-1:1

"#]],
    );
    check(
        "RUN a\nRUN b",
        str![[r#"
error: an ONBUILD trigger is exactly one instruction @1:1-2:6

"#]],
    );
    check(
        "FROM scratch",
        str![[r#"
error: this instruction cannot be an ONBUILD trigger @1:1-1:13

"#]],
    );
    check(
        "ONBUILD RUN x",
        str![[r#"
error: this instruction cannot be an ONBUILD trigger @1:1-1:14

"#]],
    );
    check(
        "RNU x",
        str![[r#"
error: unknown instruction `RNU` @1:1-1:4
  did you mean `RUN`?

"#]],
    );
    check(
        "RUN <<EOF\nnever ended",
        str![[r#"
error: unterminated heredoc @1:5-1:10
  marker: no line `EOF` follows

"#]],
    );
}

#[test]
fn what_onbuild_stores_parses_again_as_a_trigger() {
    let source = "FROM scratch\nONBUILD COPY <<-A <<\"B\" /x\n\ta\n\tA\nb\nB\nONBUILD RUN a \\\n  b\n";
    for located in &dockerfile::parse(source).dockerfile.stages[0].instructions {
        let dockerfile::Instruction::Onbuild(onbuild) = &located.value else { panic!() };
        let again = parse_trigger(&onbuild.trigger).unwrap();
        assert_eq!(again.value.to_string(), onbuild.instruction.value.to_string());
    }
}
