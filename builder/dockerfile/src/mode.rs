//! Modes: the value of `--chmod` after expansion.
//!
//! ```text
//! mode   = octal number of at most 07777 | clause *("," clause)
//! clause = *("u" | "g" | "o" | "a") 1*(operator *permission)
//! operator = "+" | "-" | "="      permission = "r" | "w" | "x" | "X" | "s" | "t" | "u" | "g" | "o"
//! ```
//!
//! | what | means |
//! |---|---|
//! | no class before an operator | all of them: a build has no umask |
//! | `X` | `x`, if the file is a directory or somebody could execute it before the whole change |
//! | `s` | set-user-ID of `u`, set-group-ID of `g`, none of `o` |
//! | `t` | the sticky bit, but not of `o` alone |
//! | `u`, `g`, `o` as permissions | what that class may at this moment |
//! | `=` | clears the classes first, set-ID bits with them; a copied class does not clear those |
//!
//! Spec: Dockerfile reference, "COPY --chmod"; POSIX.1-2024, chmod, for the meaning of what docker accepts.

use std::fmt;
use std::str::FromStr;

/// A mode, or a change of one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mode {
    text: String,
    changes: Changes,
}

/// Why a text is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum ModeError {
    #[error("not an octal number of at most 07777")]
    Octal,
    #[error("`{clause}` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`")]
    Operator { clause: String },
    #[error("`{found}` is not one of the permissions r, w, x, X, s, t, u, g and o")]
    Permission { found: char },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Changes {
    /// All bits.
    Octal(u32),
    /// One after the other.
    Symbolic(Vec<Change>),
}

/// A change of the bits of `classes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Change {
    /// The bits of the classes, set-ID bits included.
    classes: u32,
    operator: Operator,
    bits: Bits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operator {
    Add,
    Remove,
    Assign,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Bits {
    /// These, for every class at once.
    Known(u32),
    /// `x` for directories and for what somebody can execute.
    Search,
    /// What a class may, as three bits this far from the lowest.
    OfClass { shift: u32 },
}

const ALL: u32 = 0o7777;
const SET_IDS: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const OTHERS: u32 = 0o007;
const EXECUTE: u32 = 0o111;
/// What `a` and a missing class stand for.
const EVERYBODY: u32 = 0o6777;

impl Mode {
    /// Returns the bits of an octal mode; `None` for a symbolic one.
    pub fn octal(&self) -> Option<u32> {
        match self.changes {
            Changes::Octal(bits) => Some(bits),
            Changes::Symbolic(_) => None,
        }
    }

    /// Returns what a file of mode `old` gets; bits above 07777 are dropped.
    pub fn apply(&self, old: u32, kind: FileKind) -> u32 {
        let changes = match &self.changes {
            Changes::Octal(bits) => return *bits,
            Changes::Symbolic(changes) => changes,
        };
        let is_searchable = kind == FileKind::Directory || old & EXECUTE != 0;
        changes.iter().fold(old & ALL, |mode, change| change.apply(mode, is_searchable))
    }
}

/// What a mode is of, as far as modes care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FileKind {
    Directory,
    Other,
}

impl Change {
    fn apply(self, mode: u32, is_searchable: bool) -> u32 {
        let bits = match self.bits {
            Bits::Known(bits) => bits,
            Bits::Search if is_searchable => EXECUTE,
            Bits::Search => 0,
            Bits::OfClass { shift } => (mode >> shift & OTHERS) * 0o111,
        } & self.classes;
        let cleared = match self.bits {
            Bits::OfClass { .. } => self.classes & 0o777,
            Bits::Known(_) | Bits::Search => self.classes,
        };
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            Operator::Assign => mode & !cleared | bits,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        let changes = if text.starts_with(|c: char| c.is_ascii_digit()) {
            Changes::Octal(octal(text).ok_or(ModeError::Octal)?)
        } else {
            Changes::Symbolic(symbolic(text)?)
        };
        Ok(Self { text: text.to_owned(), changes })
    }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= ALL)
}

fn symbolic(text: &str) -> Result<Vec<Change>, ModeError> {
    let mut changes = Vec::new();
    for clause in text.split(',') {
        read_clause(clause, &mut changes)?;
    }
    Ok(changes)
}

fn read_clause(clause: &str, changes: &mut Vec<Change>) -> Result<(), ModeError> {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    let classes = match clause[..clause.len() - actions.len()].chars().map(class).fold(0, |all, class| all | class) {
        0 => EVERYBODY,
        classes => classes,
    };
    let no_operator = || ModeError::Operator { clause: clause.to_owned() };
    let mut action: Option<Action> = None;
    for c in actions.chars() {
        if let Some(operator) = operator(c) {
            let next = Action { classes, operator, known: 0, searches: false, has_assigned: false };
            if let Some(last) = action.replace(next) {
                last.finish(changes);
            }
        } else {
            action.as_mut().ok_or_else(no_operator)?.permit(c, changes)?;
        }
    }
    action.ok_or_else(no_operator)?.finish(changes);
    Ok(())
}

fn class(c: char) -> u32 {
    match c {
        'u' => 0o4700,
        'g' => 0o2070,
        'o' => OTHERS,
        _ => EVERYBODY,
    }
}

fn operator(c: char) -> Option<Operator> {
    match c {
        '+' => Some(Operator::Add),
        '-' => Some(Operator::Remove),
        '=' => Some(Operator::Assign),
        _ => None,
    }
}

/// An operator with its permissions, while they are read; those before a copied class are a change of their own.
struct Action {
    classes: u32,
    operator: Operator,
    known: u32,
    searches: bool,
    has_assigned: bool,
}

impl Action {
    fn permit(&mut self, c: char, changes: &mut Vec<Change>) -> Result<(), ModeError> {
        match c {
            'r' => self.known |= 0o444,
            'w' => self.known |= 0o222,
            'x' => self.known |= EXECUTE,
            'X' if self.operator == Operator::Remove => self.known |= EXECUTE,
            'X' => self.searches = true,
            's' => self.known |= SET_IDS,
            't' if self.classes == OTHERS => {}
            't' => {
                self.classes |= STICKY;
                self.known |= STICKY;
            }
            'u' => self.copy(6, changes),
            'g' => self.copy(3, changes),
            'o' => self.copy(0, changes),
            found => return Err(ModeError::Permission { found }),
        }
        Ok(())
    }

    fn copy(&mut self, shift: u32, changes: &mut Vec<Change>) {
        self.flush(changes);
        changes.push(Change { classes: self.classes, operator: self.operator, bits: Bits::OfClass { shift } });
        self.has_assigned = true;
    }

    fn flush(&mut self, changes: &mut Vec<Change>) {
        let (classes, operator) = (self.classes, self.operator);
        if self.known != 0 {
            changes.push(Change { classes, operator, bits: Bits::Known(self.known) });
            self.has_assigned = true;
        }
        if std::mem::take(&mut self.searches) {
            changes.push(Change { classes, operator: Operator::Add, bits: Bits::Search });
        }
        self.known = 0;
    }

    fn finish(mut self, changes: &mut Vec<Change>) {
        if self.operator == Operator::Assign && !self.has_assigned && self.known == 0 {
            changes.push(Change { classes: self.classes, operator: Operator::Assign, bits: Bits::Known(0) });
        }
        self.flush(changes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mode: &str, kind: FileKind, changes: &[(u32, u32)]) {
        let parsed: Mode = mode.parse().unwrap();
        assert_eq!(parsed.to_string(), mode);
        for (old, new) in changes {
            let actual = parsed.apply(*old, kind);
            assert_eq!(actual, *new, "{mode} of {old:04o} gives {actual:04o}, not {new:04o}");
        }
    }

    #[test]
    fn an_octal_mode_is_the_mode() {
        for (text, bits) in [("0", 0), ("755", 0o755), ("0644", 0o644), ("00007777", 0o7777)] {
            assert_eq!(text.parse::<Mode>().unwrap().octal(), Some(bits), "{text}");
            check(text, FileKind::Other, &[(0o4711, bits)]);
        }
        assert_eq!("u+x".parse::<Mode>().unwrap().octal(), None);
    }

    #[test]
    fn classes_are_added_to_cleared_and_set() {
        check("u+x", FileKind::Other, &[(0o644, 0o744), (0o4600, 0o4700)]);
        check("go-w", FileKind::Other, &[(0o666, 0o644), (0o777, 0o755)]);
        check("u=rw,g=r,o=r", FileKind::Other, &[(0o777, 0o644), (0o7777, 0o1644)]);
        check("a=r", FileKind::Other, &[(0o753, 0o444)]);
        check("go=", FileKind::Other, &[(0o757, 0o700), (0o6757, 0o4700)]);
        check("u+r-w", FileKind::Other, &[(0o200, 0o400)]);
        check("u+", FileKind::Other, &[(0o640, 0o640)]);
        check("ug+rw,o-rwx", FileKind::Other, &[(0o007, 0o660)]);
        check("ou=w", FileKind::Other, &[(0o555, 0o252)]);
    }

    #[test]
    fn no_class_is_all_of_them() {
        check("+x", FileKind::Other, &[(0o644, 0o755)]);
        check("=rw", FileKind::Other, &[(0o6751, 0o666)]);
        check("-rwx", FileKind::Other, &[(0o5777, 0o5000)]);
    }

    #[test]
    fn search_is_for_directories_and_for_what_somebody_can_execute() {
        check("a+X", FileKind::Other, &[(0o644, 0o644), (0o744, 0o755), (0o001, 0o111)]);
        check("a+X", FileKind::Directory, &[(0o644, 0o755)]);
        check("u=rwX,go=rX", FileKind::Other, &[(0o600, 0o644), (0o100, 0o755)]);
        check("u=rwX,go=rX", FileKind::Directory, &[(0o700, 0o755), (0o000, 0o755)]);
        check("a-x,a+X", FileKind::Other, &[(0o744, 0o755), (0o644, 0o644)]);
        check("a-X", FileKind::Other, &[(0o751, 0o640)]);
    }

    #[test]
    fn set_id_and_sticky_bits_belong_to_their_classes() {
        check("u+s", FileKind::Other, &[(0o755, 0o4755)]);
        check("g+s", FileKind::Other, &[(0o755, 0o2755)]);
        check("o+s", FileKind::Other, &[(0o755, 0o755)]);
        check("+s", FileKind::Other, &[(0o755, 0o6755)]);
        check("ug-s", FileKind::Other, &[(0o7755, 0o1755)]);
        check("+t", FileKind::Directory, &[(0o777, 0o1777)]);
        check("a-t", FileKind::Directory, &[(0o1777, 0o777)]);
        check("o+t", FileKind::Directory, &[(0o777, 0o777)]);
        check("u=rwxs", FileKind::Other, &[(0o644, 0o4744)]);
    }

    #[test]
    fn a_class_can_be_copied() {
        check("g=u", FileKind::Other, &[(0o750, 0o770), (0o604, 0o664)]);
        check("o=g-w", FileKind::Other, &[(0o067, 0o064)]);
        check("u+go", FileKind::Other, &[(0o041, 0o541)]);
        check("g-o", FileKind::Other, &[(0o075, 0o025)]);
        check("u=g", FileKind::Other, &[(0o4750, 0o4550)]);
        check("go=u,u-w", FileKind::Other, &[(0o600, 0o466)]);
        check("u=gX", FileKind::Directory, &[(0o040, 0o540)]);
    }

    #[test]
    fn what_is_no_mode_is_named() {
        for (text, expected) in [
            ("8", "not an octal number of at most 07777"),
            ("10000", "not an octal number of at most 07777"),
            ("0o755", "not an octal number of at most 07777"),
            ("7_7", "not an octal number of at most 07777"),
            ("99999999999999999999", "not an octal number of at most 07777"),
            ("", "`` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`"),
            ("u", "`u` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`"),
            ("u+x,", "`` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`"),
            ("u+x,go", "`go` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`"),
            ("rwx", "`rwx` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`"),
            ("b+x", "`b+x` has no `+`, `-` or `=` after its classes, as in `u=rwX,go-w`"),
            ("+755", "`7` is not one of the permissions r, w, x, X, s, t, u, g and o"),
            ("u+x g+x", "` ` is not one of the permissions r, w, x, X, s, t, u, g and o"),
            ("a=é", "`é` is not one of the permissions r, w, x, X, s, t, u, g and o"),
        ] {
            assert_eq!(text.parse::<Mode>().map_err(|error| error.to_string()), Err(expected.to_owned()), "{text}");
        }
    }
}
