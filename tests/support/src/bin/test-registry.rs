//! The in-memory registry as a program, for demonstrations in a shell.
//!
//! `test-registry [--listen 127.0.0.1:PORT] [--auth none|basic|bearer] [--user U] [--password P]` prints its address and
//! serves until it is killed.

use std::io::Write as _;
use std::process::ExitCode;

use test_support::{Auth, Registry};

const USAGE: &str =
    "usage: test-registry [--listen 127.0.0.1:PORT] [--auth none|basic|bearer] [--user U] [--password P]";

struct Options {
    listen: String,
    auth: String,
    user: String,
    password: String,
}

fn main() -> ExitCode {
    let auth = parse(std::env::args().skip(1)).and_then(|options| auth(&options).map(|auth| (options.listen, auth)));
    let Some((listen, auth)) = auth else {
        drop(writeln!(std::io::stderr(), "{USAGE}"));
        return ExitCode::from(2);
    };
    let registry = Registry::start_at(&listen, auth);
    drop(writeln!(std::io::stdout(), "{}", registry.address()));
    loop {
        std::thread::park();
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        listen: "127.0.0.1:0".to_owned(),
        auth: "none".to_owned(),
        user: "demo".to_owned(),
        password: "demo".to_owned(),
    };
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--listen" => options.listen = value,
            "--auth" => options.auth = value,
            "--user" => options.user = value,
            "--password" => options.password = value,
            _ => return None,
        }
    }
    Some(options)
}

fn auth(options: &Options) -> Option<Auth> {
    match options.auth.as_str() {
        "none" => Some(Auth::None),
        "basic" => Some(Auth::basic(&options.user, &options.password)),
        "bearer" => Some(Auth::bearer(&options.user, &options.password)),
        _ => None,
    }
}
