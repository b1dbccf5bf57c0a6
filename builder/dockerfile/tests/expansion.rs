//! What words expand to, as a table.
//!
//! `A` is `alpha`, `E` is set and empty; [`variables`] has the others that are set. An expected `!text` is an error that contains
//! the text.

use std::collections::BTreeMap;

use dockerfile::{ExpandError, NoVariables, Span, SyntaxErrorKind, Word};

const TABLE: &[(&str, &str)] = &[
    // plain text, quotes, escapes
    ("", ""),
    ("plain", "plain"),
    ("a b  c", "a b  c"),
    ("größe名😀", "größe名😀"),
    ("$UNI", "日本語"),
    ("${UNI}です", "日本語です"),
    ("$UNI です", "日本語 です"),
    ("'日'$UNI\"本\"", "日日本語本"),
    ("\\日", "日"),
    ("${NONE:-日本}", "日本"),
    ("'a b'", "a b"),
    ("'$A ${A} \\ \"'", "$A ${A} \\ \""),
    ("\"a b\"", "a b"),
    ("\"$A'$A'\"", "alpha'alpha'"),
    ("\"\\$A \\\" \\\\ \\n \\'\"", "$A \" \\ \\n \\'"),
    ("a'b'\"c\"d", "abcd"),
    ("''", ""),
    ("\\$A", "$A"),
    ("\\a\\\\\\'\\\"", "a\\'\""),
    ("end\\", "end"),
    ("a\\ b", "a b"),
    ("'a", "!unterminated '"),
    ("\"a", "!unterminated \""),
    ("\"a\\\"", "!unterminated \""),
    ("it's", "!unterminated '"),
    // variables
    ("$A", "alpha"),
    ("x$A-y", "xalpha-y"),
    ("${A}b", "alphab"),
    ("$Ab", ""),
    ("$A$E$A", "alphaalpha"),
    ("$NONE", ""),
    ("${NONE}", ""),
    ("$", "$"),
    ("a$", "a$"),
    ("$.", "$."),
    ("$ A", "$ A"),
    ("$$A", "A"),
    ("$1x", "x"),
    ("$12a", "a"),
    ("$@$*$#$?$-$!", ""),
    ("$D", "$A \"q\" \\x"),
    ("\"$D\"", "$A \"q\" \\x"),
    ("${", "!without its `}`"),
    ("${A", "!without its `}`"),
    ("${}", "!name of a variable"),
    ("${.}", "!name of a variable"),
    ("${{A}}", "!name of a variable"),
    ("${:-x}", "!name of a variable"),
    ("${A^^}", "!unknown modifier `^`"),
    ("${A,}", "!unknown modifier `,`"),
    ("${A:0:2}", "!unknown modifier `:0`"),
    ("${A:=x}", "!unknown modifier `:=`"),
    ("${A=x}", "!unknown modifier `=`"),
    ("${A:}", "!unknown modifier `:}`"),
    ("${A:#al}", "!unknown modifier `:#`"),
    ("${A:%ha}", "!unknown modifier `:%`"),
    ("${NONE:##x}", "!unknown modifier `:#`"),
    ("${A=}", "!unknown modifier `=`"),
    ("${#A}", "!unknown modifier `A`"),
    ("${!A}", "!unknown modifier `A`"),
    ("${A B}", "!unknown modifier ` `"),
    ("${ A}", "!name of a variable"),
    ("${1}${@}${*}${?}${$}${-}${!}${#}", ""),
    ("${+a}${%a}${/a/b}", ""),
    ("${-a}", "!unknown modifier `a`"),
    // defaults
    ("${A:-w}", "alpha"),
    ("${E:-w}", "w"),
    ("${NONE:-w}", "w"),
    ("${A-w}", "alpha"),
    ("${E-w}", ""),
    ("${NONE-w}", "w"),
    ("${NONE:-}", ""),
    ("${NONE:-a b}", "a b"),
    ("${NONE:-'a}b'}", "a}b"),
    ("${NONE:-\"$A}\"}", "alpha}"),
    ("${NONE:-a\\}b}", "a}b"),
    ("${NONE:-$A}", "alpha"),
    ("${NONE:-${E:-${A}}}", "alpha"),
    ("${NONE:-${NONE-${NONE:-deep}}}", "deep"),
    ("\"${NONE:-\"in\"}\"", "in"),
    ("${NONE:-w", "!without its `}`"),
    ("${NONE:-${A}", "!without its `}`"),
    ("${A:-${}}", "!name of a variable"),
    // alternates
    ("${A:+w}", "w"),
    ("${E:+w}", ""),
    ("${NONE:+w}", ""),
    ("${A+w}", "w"),
    ("${E+w}", "w"),
    ("${NONE+w}", ""),
    ("${A:+$S}", "two words"),
    // required
    ("${A:?m}", "alpha"),
    ("${A?m}", "alpha"),
    ("${E?m}", ""),
    ("${E:?no value}", "!E: no value"),
    ("${E:?}", "!E: is not allowed to be empty"),
    ("${NONE:?}", "!NONE: is not allowed to be unset"),
    ("${NONE?}", "!NONE: is not allowed to be unset"),
    ("${NONE?need $A}", "!NONE: need alpha"),
    ("${NONE:?need $A}", "!NONE: need alpha"),
    ("${E:?need $A}", "!E: need alpha"),
    ("${A:?need ${}}", "!name of a variable"),
    ("x-${A}.${NONE}${NONE:+-${NONE}}${A:+-$A}.z", "x-alpha.-alpha.z"),
    ("${A-a} ${E-b} ${NONE-c}", "alpha  c"),
    ("${A:-a} ${E:-b} ${NONE:-c}", "alpha b c"),
    ("${A+a} ${E+b} ${NONE+c}", "a b "),
    ("${A:+a} ${E:+b} ${NONE:+c}", "a  "),
    ("${A:-${NONE:?inner}}", "!NONE: inner"),
    // prefixes and suffixes
    ("${P#/usr}", "/local/bin/tool.tar.gz"),
    ("${P#*/}", "usr/local/bin/tool.tar.gz"),
    ("${P##*/}", "tool.tar.gz"),
    ("${P%.*}", "/usr/local/bin/tool.tar"),
    ("${P%%.*}", "/usr/local/bin/tool"),
    ("${P%/*}", "/usr/local/bin"),
    ("${P%%/*}", ""),
    ("${P#?usr}", "/local/bin/tool.tar.gz"),
    ("${P#x}", "/usr/local/bin/tool.tar.gz"),
    ("${P#}", "/usr/local/bin/tool.tar.gz"),
    ("${P%}", "/usr/local/bin/tool.tar.gz"),
    ("${A#al}${A%ha}", "phaalp"),
    ("${A##*}", ""),
    ("${A%%*}", ""),
    ("${A#*}", "alpha"),
    ("${A%?}", "alph"),
    ("${A%%a*}", ""),
    ("${A%a*}", "alph"),
    ("${NONE#x}${E%x}", ""),
    ("${A#al", "!without its `}`"),
    ("${P%\\.*}", "!unknown escape `\\.`"),
    ("${A#[a]}", "alpha"),
    ("${P#'/usr'}", "/local/bin/tool.tar.gz"),
    ("${A#${NONE:-al}}", "pha"),
    ("${A#$G}", "alpha"),
    ("${G#\\#}", "!unknown escape `\\#`"),
    ("${A#\\", "!without its `}`"),
    ("${D%\\\\x}", "$A \"q\" "),
    ("${NONE#\\*}", ""),
    ("${N#*}", "one\ntwo"),
    ("${N##*}", "\ntwo"),
    // replacements
    ("${A/a/o}", "olpha"),
    ("${A//a/o}", "olpho"),
    ("${A/a/}", "lpha"),
    ("${A//a/}", "lph"),
    ("${A/p*/X}", "alX"),
    ("${A/?/X}", "Xlpha"),
    ("${A//?/X}", "XXXXX"),
    ("${A//*/X}", "X"),
    ("${A/x/y}", "alpha"),
    ("${P//\\//-}", "-usr-local-bin-tool.tar.gz"),
    ("${P/\\/usr/}", "/local/bin/tool.tar.gz"),
    ("${A/$A/$S}", "two words"),
    ("${A/ph/${NONE:-f}}", "alfa"),
    ("${A/a/\\/}", "\\/lpha"),
    ("${A/a/$D}", "$A \"q\" \\xlpha"),
    ("${A//a/$D}", " \"q\" \\xlph \"q\" \\x"),
    ("${A//l/<\\$0>}", "a<\\l>pha"),
    ("${A/l/'$0'}", "a$0pha"),
    ("${A//?/'$0$0'}", "aallpphhaa"),
    ("${A//?/'${0}.'}", "a.l.p.h.a."),
    ("${A//a/'$$'}", "$lph$"),
    ("${A//a/'$1${x}$y_2'}", "lph"),
    ("${A//a/'$ ${ ${x $'}", "$ ${ ${x $lph$ ${ ${x $"),
    ("${A//a/'$00'}", "lph"),
    ("${A//$E/-}", "-a-l-p-h-a-"),
    ("${A/$E/-}", "-alpha"),
    ("${A///}", "alpha"),
    ("${A//}", "!without the `/`"),
    ("${N//*/X}", "X\nX"),
    ("${N//?/.}", "...\n..."),
    ("${P/$SLASH/}", "usr/local/bin/tool.tar.gz"),
    ("${P//$SLASH/\\/}", "\\/usr\\/local\\/bin\\/tool.tar.gz"),
    ("${P/$GLOB/.}", "/usr/local/bin/."),
    ("${META#()[]{\\}^$.\\*\\?|\\\\}", "x"),
    ("${META%x}", "()[]{}^$.*?|\\"),
    ("${META//[/<}", "()<]{}^$.*?|\\x"),
    ("${STARS%%\\**}", "a"),
    ("${STARS%%\\**\\*}", "a"),
    ("${STARS%\\*}", "a**b"),
    ("${STARS#*\\*}", "*b*"),
    ("${STARS##*\\*}", ""),
    ("${A#*l*h}", "a"),
    ("${A##*a}", ""),
    ("${A##}${A%%}", "alphaalpha"),
    ("${A#?\\?}", "alpha"),
    ("${UNI#?}-${UNI%?}", "本語-日本"),
    ("${UNI/本/木}", "日木語"),
    ("${S/ /_}", "two_words"),
    ("${NONE/a/b}", ""),
    ("${A/a}", "!without the `/`"),
    ("${A/a/b", "!without its `}`"),
    ("${A/\\x/b}", "!unknown escape `\\x`"),
    ("${A//\\*/b}", "alpha"),
    ("${A/./b}", "alpha"),
    ("${P//./_}", "/usr/local/bin/tool_tar_gz"),
];

fn variables() -> BTreeMap<String, String> {
    let variables = [
        ("A", "alpha"),
        ("E", ""),
        ("P", "/usr/local/bin/tool.tar.gz"),
        ("S", "two words"),
        ("D", "$A \"q\" \\x"),
        ("N", "one\ntwo"),
        ("G", "#x"),
        ("SLASH", "/"),
        ("GLOB", "t*l.*z"),
        ("META", "()[]{}^$.*?|\\x"),
        ("STARS", "a**b*"),
        ("UNI", "日本語"),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn word(text: &str) -> Word {
    Word::new(text, Span::default(), '\\')
}

#[test]
fn words_expand_as_in_the_table() {
    assert!(TABLE.len() >= 190, "the table has {} rows", TABLE.len());
    let mut wrong = Vec::new();
    for (text, expected) in TABLE {
        let found = word(text).expand(&variables()).unwrap_or_else(|error| format!("!{error}"));
        let is_right = match expected.strip_prefix('!') {
            Some(part) => found.starts_with('!') && found.contains(part),
            None => found == *expected,
        };
        if !is_right {
            wrong.push(format!("{text}\n  want {expected}\n  got  {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn words_split_at_blanks_that_were_not_quoted() {
    let cases: &[(&str, &[&str])] = &[
        ("", &[]),
        ("a b", &["a", "b"]),
        ("  a\t b ", &["a", "b"]),
        ("$S", &["two", "words"]),
        ("x${S}y", &["xtwo", "wordsy"]),
        ("\"$S\"", &["two words"]),
        ("'a b' c", &["a b", "c"]),
        ("a\\ b", &["a b"]),
        ("$E a ''", &["a"]),
        ("80 $NONE 443", &["80", "443"]),
        ("${NONE:-1 2}", &["1", "2"]),
        ("\"\"a", &["a"]),
        ("$S$S", &["two", "wordstwo", "words"]),
        ("$S $S", &["two", "words", "two", "words"]),
        ("'$S'", &["$S"]),
        ("a'b c'd", &["ab cd"]),
        ("a\"b c\"d e", &["ab cd", "e"]),
        ("\"a\\\"b\" c", &["a\"b", "c"]),
        ("'' \"\" $NONE", &[]),
        ("\\$S", &["$S"]),
        ("$N", &["one", "two"]),
        ("a\u{3000}b", &["a", "b"]),
        ("日 $UNI", &["日", "日本語"]),
        ("${A/a/x y}", &["x", "ylpha"]),
        ("${NONE:-\"1 2\"}", &["1", "2"]),
        ("\"${NONE:-1 2}\"", &["1 2"]),
        ("8$NONE 9", &["8", "9"]),
    ];
    for (text, expected) in cases {
        assert_eq!(word(text).expand_words(&variables()).unwrap(), *expected, "{text}");
    }
    for text in ["'a", "a \"b", "${", "${NONE?}", "$S ${A:#x}"] {
        assert!(word(text).expand_words(&variables()).is_err(), "{text}");
    }
}

#[test]
fn a_backtick_escapes_where_the_file_says_so() {
    let cases = [
        ("c:\\x", "c:\\x"),
        ("`$A", "$A"),
        ("\"`\"\"", "\""),
        ("\\$A", "\\alpha"),
        ("a``b", "a`b"),
        ("\"\\$A\"", "\\alpha"),
    ];
    for (text, expected) in cases {
        assert_eq!(Word::new(text, Span::default(), '`').expand(&variables()).unwrap(), expected, "{text}");
    }
}

#[test]
fn a_word_names_the_variables_it_refers_to_once_each() {
    let cases: [(&str, &[&str]); 7] = [
        ("none", &[]),
        ("$A$B$A", &["A", "B"]),
        ("'$A' \\$B \"$C\"", &["C"]),
        ("${A:-${B:+$C}}", &["A", "B", "C"]),
        ("${A#$B}${C/$D/$E}${F:?$G}", &["A", "B", "C", "D", "E", "F", "G"]),
        ("${broken", &[]),
        ("$", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(word(text).references(), expected, "{text}");
        assert_eq!(word(text).has_variables(), !expected.is_empty(), "{text}");
    }
}

#[test]
fn the_body_of_a_heredoc_keeps_its_quotes_and_drops_its_escapes() {
    let source = "FROM scratch\nCOPY <<EOF /x\n\"$A\" '$A' \\$A ${NONE:-\"q\"} it's a\\nb \\\\\nEOF\n";
    let parsed = dockerfile::parse(source);
    assert_eq!(parsed.diagnostics, []);
    let dockerfile::Instruction::Copy(copy) = &parsed.dockerfile.stages[0].instructions[0].value else { panic!() };
    let dockerfile::CopySource::Heredoc(heredoc) = &copy.files.sources[0] else { panic!() };
    assert_eq!(heredoc.body_word().expand(&variables()).unwrap(), "\"alpha\" 'alpha' $A \"q\" it's anb \\\n");
    assert_eq!(heredoc.body_word().references(), ["A", "NONE"]);
}

#[test]
fn output_nesting_and_work_are_bounded() {
    let nested = |depth: usize| format!("{}x{}", "${A:-".repeat(depth), "}".repeat(depth));
    assert_eq!(word(&nested(200)).expand(&NoVariables).unwrap(), "x");
    let too_deep = ExpandError::Syntax { kind: SyntaxErrorKind::TooDeep };
    assert_eq!(word(&nested(201)).expand(&NoVariables), Err(too_deep.clone()));
    assert_eq!(word(&nested(10_000)).expand(&NoVariables), Err(too_deep.clone()));
    assert_eq!(word(&"${A:-".repeat(1_000_000)).expand(&NoVariables), Err(too_deep));

    let large = BTreeMap::from([("L".to_owned(), "l".repeat(1 << 20))]);
    assert_eq!(word("$L").expand(&large).unwrap().len(), 1 << 20);
    assert_eq!(word("$L$L").expand(&large), Err(ExpandError::TooLong));
    assert_eq!(word("x$L").expand(&large), Err(ExpandError::TooLong));
    assert_eq!(word("$L x").expand_words(&large), Err(ExpandError::TooLong));
    assert_eq!(word("${L//l/ll}").expand(&large), Err(ExpandError::TooLong));
    assert_eq!(word(&"${L##*}".repeat(100_000)).expand(&large), Err(ExpandError::TooMuchWork));
    let long_pattern = format!("${{L#{}}}", "?".repeat(5000));
    assert!(matches!(word(&long_pattern).expand(&large), Err(ExpandError::Pattern { .. })));
}
