//! What must hold for any text that a Dockerfile or a command line gives as a source.

use proptest::prelude::*;
use remote_files::{RemoteSource, Use};

/// Texts made of what URLs are made of, and of what they must not have.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("https://"),
        Just("http://"),
        Just("ssh://"),
        Just("git://"),
        Just("ext::sh -c "),
        Just("file:///"),
        Just("git@"),
        Just("example.com"),
        Just("127.0.0.1:80"),
        Just("[::1]"),
        Just(":"),
        Just("/"),
        Just(".."),
        Just(".git"),
        Just("#"),
        Just("?"),
        Just("&"),
        Just("ref="),
        Just("subdir="),
        Just("keep-git-dir=true"),
        Just("checksum=0123456789"),
        Just("--upload-pack=x"),
        Just("main"),
        Just("%2e%2e"),
        Just("\n"),
        Just("\u{1b}[0m"),
        Just("ü"),
    ];
    let parts = || prop::collection::vec(part.clone(), 0..10).prop_map(|parts| parts.concat());
    let with_password = parts().prop_map(|rest| format!("https://user:s3cr3t@{rest}"));
    prop_oneof![parts(), with_password]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_source_shows_no_secret_and_leads_nowhere_else(text in text()) {
        for used in [Use::Add, Use::BuildContext] {
            match RemoteSource::parse(&text, used) {
                None => {}
                Some(Err(error)) => prop_assert!(!error.to_string().contains(char::is_control), "{error:?}"),
                Some(Ok(source)) => {
                    let shown = format!("{source} {source:?}");
                    prop_assert!(!shown.contains("s3cr3t"), "{shown}");
                    prop_assert!(!source.to_string().contains(char::is_control), "{shown}");
                    if let RemoteSource::Git(git) = &source {
                        prop_assert!(git.reference().is_none_or(|reference| !reference.starts_with('-')));
                        prop_assert!(!git.url().starts_with('-'));
                        let is_inside = |subdir: &str| subdir.split('/').all(|part| !matches!(part, "" | "." | ".."));
                        prop_assert!(git.subdir().is_none_or(is_inside), "{shown}");
                    }
                    if let RemoteSource::Http(file) = &source {
                        prop_assert!(file.file_name().is_none_or(|name| !name.contains('/') && name != ".."));
                    }
                }
            }
        }
    }
}
