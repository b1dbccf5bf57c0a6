//! Signals: the word of STOPSIGNAL after expansion.
//!
//! A signal is a number that is not zero, or a name of signal(7) as Linux has it, in any case, with or without `SIG`, or one of
//! `RTMIN`, `RTMIN+1`…`RTMIN+15`, `RTMAX-14`…`RTMAX-1` and `RTMAX`. Docker checks no more than that when it builds.

use std::fmt;
use std::str::FromStr;

/// A signal as it was written, which is how the image config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal(String);

/// Why a text is no signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a signal's name, such as `SIGTERM`, nor a number other than 0")]
pub struct SignalError;

/// Names without `SIG`, but for the real-time ones.
const NAMES: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
    "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
    "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

impl FromStr for Signal {
    type Err = SignalError;

    fn from_str(text: &str) -> Result<Self, SignalError> {
        let is_signal = match text.parse::<i64>() {
            Ok(number) => number != 0,
            Err(_) => is_name(&text.to_uppercase()),
        };
        if is_signal { Ok(Self(text.to_owned())) } else { Err(SignalError) }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let is_offset = |prefix: &str, most: u8| {
        let digits = name.strip_prefix(prefix).filter(|digits| !digits.starts_with(['0', '+']));
        digits.and_then(|digits| digits.parse::<u8>().ok()).is_some_and(|offset| offset <= most)
    };
    NAMES.contains(&name) || matches!(name, "RTMIN" | "RTMAX") || is_offset("RTMIN+", 15) || is_offset("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_names_or_numbers_and_stay_as_written() {
        for text in [
            "9",
            "+9",
            "-1",
            "999",
            "SIGTERM",
            "TERM",
            "sigterm",
            "Sigusr1",
            "CLD",
            "IOT",
            "SIGRTMIN",
            "rtmin+3",
            "RTMIN+15",
            "SIGRTMAX-14",
            "RTMAX",
        ] {
            assert_eq!(text.parse::<Signal>().map(|signal| signal.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn anything_else_is_no_signal() {
        for text in [
            "",
            "0",
            "SIG",
            "SIGNOPE",
            "SIGSIGTERM",
            "TERM ",
            "RTMIN+0",
            "RTMIN+03",
            "RTMIN++3",
            "RTMIN+16",
            "RTMAX-15",
            "RTMAX+1",
            "9.5",
            "0x9",
            "SIG9",
        ] {
            assert_eq!(text.parse::<Signal>(), Err(SignalError), "{text} was accepted");
        }
    }
}
