//! What texts name, by BuildKit's own cases and by hostile ones.

use super::*;

fn git(text: &str) -> GitSource {
    match RemoteSource::parse(text, Use::BuildContext) {
        Some(Ok(RemoteSource::Git(source))) => source,
        other => panic!("{text}: {other:?}"),
    }
}

fn check_git(text: &str, url: &str, reference: Option<&str>, subdir: Option<&str>) {
    let source = git(text);
    let found = (source.url(), source.reference(), source.subdir());
    assert_eq!(found, (url, reference, subdir), "{text}");
}

fn fault(text: &str) -> SourceFault {
    match RemoteSource::parse(text, Use::Add) {
        Some(Err(error)) => error.source,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn trees_are_told_from_files_and_local_paths() {
    let name = |text: &str, used| match RemoteSource::parse(text, used) {
        None => "path",
        Some(Ok(RemoteSource::Http(_))) => "file",
        Some(Ok(RemoteSource::Git(_))) => "tree",
        Some(Err(_)) => "error",
    };
    let cases = [
        ("https://example.com/", "file"),
        ("https://example.com/foo", "file"),
        ("https://example.com/foo.git", "tree"),
        ("HTTPS://example.com/foo.git", "tree"),
        ("https://example.com/foo.git?ref=x", "tree"),
        ("https://example.com/foo.git/", "file"),
        ("https://example.com/foo.git.bar", "file"),
        ("https://example.com/foo?x=y.git", "file"),
        ("https://example.com/foo#x.git", "file"),
        ("http://github.com/docker/docker.git:#branch", "file"),
        ("https://github.com/moby/buildkit", "file"),
        ("git://example.com/foo", "tree"),
        ("ssh://git@example.com:22/foo", "tree"),
        ("git@github.com:moby/buildkit", "tree"),
        ("custom.xyz/moby/buildkit.git", "path"),
        ("./.git", "path"),
        ("../a@b:c", "path"),
        (".git", "path"),
        ("a@b", "path"),
        ("dir/a@b:c", "path"),
        ("ext::sh -c touch% /tmp/x", "path"),
        ("", "path"),
        ("ftp://example.com/x", "error"),
        ("file:///etc/passwd", "error"),
        ("https://", "error"),
        ("https://example.com:99999/x", "error"),
        ("https://example.com/a\nb", "error"),
        ("git:///x", "error"),
        ("git@host:", "error"),
    ];
    for (text, expected) in cases {
        assert_eq!(name(text, Use::Add), expected, "{text}");
    }
    assert_eq!(name("github.com/moby/buildkit", Use::Add), "path");
    assert_eq!(name("github.com/moby/buildkit", Use::BuildContext), "tree");
}

#[test]
fn fragments_name_ref_and_subdir() {
    let url = "https://github.com/foo/bar.git";
    check_git("https://github.com/foo/bar.git", url, None, None);
    check_git("https://github.com/foo/bar.git#deadbeef", url, Some("deadbeef"), None);
    check_git("https://github.com/foo/bar.git#baz/qux:quux/quuz", url, Some("baz/qux"), Some("quux/quuz"));
    check_git("https://github.com/foo/bar.git#:my%20folder/", url, None, Some("my folder"));
    check_git("https://github.com/foo/bar.git#main:/../a/./../b", url, Some("main"), Some("b"));
    check_git("https://github.com/foo/bar.git#main:..", url, Some("main"), None);
    check_git("git@github.com:foo/bar.git#main:x", "git@github.com:foo/bar.git", Some("main"), Some("x"));
    check_git("github.com/foo/bar#v1", "https://github.com/foo/bar", Some("v1"), None);
    assert_eq!(git("git@github.com:foo/bar.git").name(), "bar");
    assert_eq!(git("https://github.com/foo/bar.git#main:x").to_string(), "https://github.com/foo/bar.git#main:x");
}

#[test]
fn queries_name_them_too() {
    let url = "https://github.com/foo/bar.git";
    check_git("https://github.com/foo/bar.git?ref=v1.0.0&subdir=/subdir", url, Some("v1.0.0"), Some("subdir"));
    check_git("https://github.com/foo/bar.git?tag=v1", url, Some("refs/tags/v1"), None);
    check_git("https://github.com/foo/bar.git?tag=refs/tags/v1&ref=refs/tags/v1", url, Some("refs/tags/v1"), None);
    check_git("https://github.com/foo/bar.git?branch=a%2Fb", url, Some("refs/heads/a/b"), None);
    check_git("git@github.com:foo/bar.git?branch=main", "git@github.com:foo/bar.git", Some("refs/heads/main"), None);
    check_git("https://github.com/foo/bar.git?ref=main&mtime=commit#main:x", url, Some("main"), Some("x"));
    let source = git("https://github.com/foo/bar.git?checksum=deadbeef&keep-git-dir&submodules=false");
    let found = (source.checksum(), source.git_dir(), source.submodules());
    assert_eq!(found, (Some("deadbeef"), Some(GitDir::Keep), Submodules::None));
    assert_eq!(git("https://a.com/b.git?keep-git-dir=0").git_dir(), Some(GitDir::Drop));
    assert_eq!(git("https://a.com/b.git").git_dir(), None);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for text in [
        "https://a.com/b.git?ref=x#y",
        "https://a.com/b.git?subdir=x#y:z",
        "https://a.com/b.git?tag=x&branch=x",
        "https://a.com/b.git?ref=x&tag=x",
        "https://a.com/b.git?branch=x&ref=x",
        "https://a.com/b.git?checksum=1234567&commit=12345678",
    ] {
        assert!(matches!(fault(text), SourceFault::Conflict { .. }), "{text}");
    }
    let source = git("https://a.com/b.git?commit=1234567");
    assert!(source.clone().with_checksum("1234567").is_ok());
    assert!(matches!(source.with_checksum("7654321"), Err(SourceFault::Conflict { .. })));
}

#[test]
fn what_is_malformed_is_refused() {
    let check = |query: &str, expected: &str| {
        assert_eq!(fault(&format!("https://a.com/b.git?{query}")).to_string(), expected);
    };
    check("rev=x", "the query has an unknown key `rev`");
    check("ref=x&ref=x", "the query has `ref` more than once");
    check("ref=", "the query gives `ref` no value");
    check("submodules=maybe", "the query gives `submodules` the value `maybe` (want `true` or `false`)");
    check("mtime=now", "the query gives `mtime` the value `now` (want `checkout` or `commit`)");
    check("checksum=12345", "`12345` is not the id of a commit, nor its first 7 or more digits");
    check("checksum=DEADBEEF", "`DEADBEEF` is not the id of a commit, nor its first 7 or more digits");
    check("fetch-by-commit=true", "`fetch-by-commit` needs the whole id of the commit as `checksum`");
    check("fetch-by-commit&checksum=1234567", "`fetch-by-commit` needs the whole id of the commit as `checksum`");
}

#[test]
fn nothing_passes_for_an_option() {
    let names = ["--upload-pack=touch x", "-x", "a..b", "a b", "a%0ab", "%2Dx", "refs/heads/x.lock", "a:b\u{1b}"];
    for name in names {
        let parsed = RemoteSource::parse(&format!("https://a.com/b.git#{name}"), Use::Add);
        let is_refused = matches!(parsed, Some(Err(RemoteSourceError { source: SourceFault::RefName { .. }, .. })));
        assert!(is_refused || name.starts_with("a:"), "{name}");
    }
    assert!(matches!(fault("https://a.com/b.git?ref=-x"), SourceFault::RefName { .. }));
    for text in ["ssh://-oProxyCommand=x/y", "ssh://-x@a.com/y", "-x@a.com:y", "git@a.com:-y", "git://a.com/-y"] {
        assert!(matches!(fault(text), SourceFault::Option { .. } | SourceFault::Url { .. }), "{text}");
    }
}

#[test]
fn passwords_are_never_shown() {
    let texts = [
        "https://ana:s3cret@example.com/x?token=s3cret#s3cret",
        "https://s3cret@example.com/x.git?ref=main",
        "https://ana:s3cret@example.com/x.git?ref=-s",
        "https://ana:s3cret@example.com:99999/x",
        "https://ana:s3cret/s3cret@example.com/x",
        "https://ana:s3cret#s3cret@example.com/x.git",
        "https://ana:s3cret?s3cret@example.com/x\n",
        "ftp://ana:s3cret@example.com/x",
        "ssh://ana:s3cret@example.com/x",
        "git://ana:s3cret@example.com/x",
    ];
    for text in texts {
        let parsed = RemoteSource::parse(text, Use::Add).unwrap();
        let shown = match &parsed {
            Ok(source) => format!("{source} {source:?}"),
            Err(error) => format!("{error} {} {error:?}", error.source),
        };
        assert!(shown.contains("example.com") && !shown.contains("s3cret"), "{text}: {shown}");
    }
    for text in ["ana:s3cret@example.com:x", "ana:s3@s3cret@example.com:x#s3cret"] {
        assert_eq!(without_secrets(text), "example.com:x");
    }
    assert_eq!(without_secrets("https://example.com/a@b"), "https://example.com/a@b");
    assert_eq!(without_secrets("git@-x:y"), "git@-x:y");
    let Some(Ok(RemoteSource::Http(source))) = RemoteSource::parse(texts[0], Use::Add) else { panic!("it is a file") };
    assert_eq!(source.url(), "https://example.com/x?token=s3cret");
    assert!(source.authorization().is_some());
}
