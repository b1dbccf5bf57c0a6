//! Files by HTTP.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use http_transport::{RetryPolicy, Timeouts, WireOptions};
use oci::Digest;
use remote_files::{Answer, Download, Downloaded, HttpAuthorization, HttpFileError, HttpFiles, Validators};

use crate::http_server::{HttpServer, Request, answer};
use crate::{NOBODY, file, told};

fn files() -> HttpFiles {
    let mut options = WireOptions::new("wharf-test/1");
    let patience = Duration::from_secs(20);
    options.timeouts = Timeouts { connect: patience, head: patience, stall: patience };
    let retry = RetryPolicy { attempts: 4, base: Duration::ZERO, cap: Duration::ZERO };
    HttpFiles::new(&options, retry).unwrap()
}

async fn download(url: &str) -> Result<Download, HttpFileError> {
    match files().get(&file(url), None, None).await? {
        Answer::File(download) => Ok(*download),
        Answer::NotModified => panic!("nothing was known"),
    }
}

/// Fetches into a file that has held something else.
async fn fetch(url: &str) -> Result<(Vec<u8>, Downloaded), HttpFileError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let mut target = File::create(&path).unwrap();
    target.write_all(&[b'x'; 5000]).unwrap();
    let mut last = (0, None);
    let downloaded = download(url).await?.write_to(target, |done, total| last = (done, total)).await?;
    assert_eq!(last.0, downloaded.size, "who listens hears of every byte");
    assert!(last.1.is_none_or(|total| total == last.0), "{last:?}");
    let content = std::fs::read(path).unwrap();
    assert_eq!((downloaded.size, &downloaded.sha256), (content.len() as u64, &Digest::of(&content)));
    Ok((content, downloaded))
}

async fn failure(url: &str) -> String {
    told(&fetch(url).await.unwrap_err())
}

fn content() -> Vec<u8> {
    (0..1000_u32).flat_map(u32::to_le_bytes).collect()
}

/// The answer that ends after 1500 bytes of the content.
fn cut(headers: &str) -> Vec<u8> {
    answer(200, &format!("{headers}\nContent-Length: 4000"), &content()[..1500])
}

#[tokio::test]
async fn a_file_arrives_as_it_was_sent() {
    let headers = "Content-Encoding: gzip\nETag: \"a\"\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT
                   Content-Disposition: attachment; filename=\"../../etc/passwd\"";
    let server = HttpServer::start(move |_, _| answer(200, headers, b"no gzip"));
    let url = server.url("x");
    assert_eq!(download(&url).await.unwrap().file_name(), "passwd");
    let (bytes, downloaded) = fetch(&url).await.unwrap();
    assert_eq!(bytes, b"no gzip");
    assert_eq!(downloaded.modified, Some(1_445_412_480));
    assert_eq!(downloaded.validators.etag.as_deref(), Some("\"a\""));
    assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"));
    assert_eq!(server.requests()[0].header("user-agent"), Some("wharf-test/1"));
}

#[tokio::test]
async fn a_file_that_is_known_need_not_come_again() {
    let server = HttpServer::start(|request, _| match request.header("if-none-match") {
        Some("\"a\"") => answer(304, "", b""),
        _ => answer(200, "ETag: \"a\"", b"new"),
    });
    let known = download(&server.url("x")).await.unwrap().validators();
    let kept: Validators = serde_json::from_str(&serde_json::to_string(&known).unwrap()).unwrap();
    let again = files().get(&file(&server.url("x")), None, Some(&kept)).await.unwrap();
    assert!(matches!(again, Answer::NotModified), "{again:?}");
    let other = Validators { etag: Some("\"b\"".to_owned()), last_modified: None };
    let again = files().get(&file(&server.url("x")), None, Some(&other)).await.unwrap();
    assert!(matches!(again, Answer::File(_)), "{again:?}");
}

/// Gives the content in two parts; `rest` answers the request for the second.
async fn check_cut(headers: &'static str, rest: fn(&Request) -> Vec<u8>, expected: &[u8]) -> Vec<Request> {
    let server = HttpServer::start(move |request, number| if number == 0 { cut(headers) } else { rest(request) });
    let (bytes, downloaded) = fetch(&server.url("x")).await.unwrap();
    assert!(bytes == expected, "{} bytes arrived", bytes.len());
    assert_eq!(downloaded.size, expected.len() as u64);
    server.requests()
}

fn rest_of_the_content(_: &Request) -> Vec<u8> {
    answer(206, "ETag: \"a\"\nContent-Range: bytes 1500-3999/4000", &content()[1500..])
}

#[tokio::test]
async fn a_cut_file_is_continued() {
    let requests = check_cut("ETag: \"a\"", rest_of_the_content, &content()).await;
    assert_eq!(requests[1].header("range"), Some("bytes=1500-"));
    assert_eq!(requests[1].header("if-range"), Some("\"a\""));
    let date = "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\nETag: W/\"a\"";
    let rest = |_: &Request| answer(206, "Content-Range: bytes 1500-3999/*", &content()[1500..]);
    let requests = check_cut(date, rest, &content()).await;
    assert_eq!(requests[1].header("if-range"), Some("Wed, 21 Oct 2015 07:28:00 GMT"));
}

#[tokio::test]
async fn a_file_that_changed_meanwhile_starts_again() {
    let server = HttpServer::start(|_, number| match number {
        0 => cut("ETag: \"a\""),
        _ => answer(200, "ETag: \"b\"", b"another file"),
    });
    let (bytes, downloaded) = fetch(&server.url("x")).await.unwrap();
    assert_eq!(bytes, b"another file");
    assert_eq!(downloaded.validators.etag.as_deref(), Some("\"b\""), "validators are those of the bytes");
}

#[tokio::test]
async fn a_part_that_does_not_fit_is_not_appended() {
    fn whole_or(request: &Request, lie: &str, part: &[u8]) -> Vec<u8> {
        if request.header("range").is_some() { answer(206, lie, part) } else { answer(200, "", &content()) }
    }
    let lies: [fn(&Request) -> Vec<u8>; 5] = [
        |request| whole_or(request, "Content-Range: bytes 1400-3999/4000", &content()[1400..]),
        |request| whole_or(request, "Content-Range: bytes 1500-3999/4001", &content()[1500..]),
        |request| whole_or(request, "Content-Range: bytes 1500-1599/4000", &content()[1500..1600]),
        |request| whole_or(request, "ETag: \"b\"\nContent-Range: bytes 1500-3999/4000", &content()[1500..]),
        |request| whole_or(request, "", &content()[1500..]),
    ];
    for lie in lies {
        let requests = check_cut("ETag: \"a\"", lie, &content()).await;
        assert_eq!(requests.len(), 3);
    }
}

#[tokio::test]
async fn without_validators_or_ranges_a_cut_file_starts_again() {
    let requests = check_cut("", |_| answer(200, "", &content()), &content()).await;
    assert_eq!(requests[1].header("range"), None);
    let no_ranges = |request: &Request| match request.header("range") {
        Some(_) => answer(416, "", b""),
        None => answer(200, "", &content()),
    };
    check_cut("ETag: \"a\"", no_ranges, &content()).await;
}

#[tokio::test]
async fn a_body_that_stays_short_is_an_error_and_one_that_is_longer_is_not_read_on() {
    let server = HttpServer::start(|_, _| cut(""));
    let error = failure(&server.url("x")).await;
    assert!(error.contains("cannot fetch http://127.0.0.1") && error.contains("lost its connection"), "{error}");
    assert_eq!(server.requests().len(), 4);
    let server = HttpServer::start(|_, _| answer(200, "Content-Length: 3", b"abcdef"));
    assert_eq!(fetch(&server.url("x")).await.unwrap().0, b"abc");
}

#[tokio::test]
async fn an_error_of_the_server_is_told_in_its_own_harmless_words() {
    let server = HttpServer::start(|_, _| answer(404, "Content-Type: text/plain", b"\n no such\x1b[31m file\nmore"));
    let url = server.url("x?token=s3cret").replace("http://", "http://ana:s3cret@");
    let error = failure(&url).await;
    let expected =
        format!("cannot fetch {}: the server says 404 Not Found: no such\\u{{1b}}[31m file", server.url("x"));
    assert_eq!(error, expected);
    assert_eq!(server.requests().len(), 1);
    let server = HttpServer::start(|_, _| answer(403, "Content-Type: text/html", b"<html>"));
    assert!(failure(&server.url("x")).await.ends_with("the server says 403 Forbidden"));
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let server = HttpServer::start(|_, number| match number {
        0 => answer(503, "", b""),
        1 => answer(429, "Retry-After: 0", b""),
        2 => Vec::new(),
        _ => answer(200, "", b"here"),
    });
    assert_eq!(fetch(&server.url("x")).await.unwrap().0, b"here");
    let server = HttpServer::start(|_, _| answer(429, "Retry-After: 3600", b""));
    assert!(failure(&server.url("x")).await.contains("429 Too Many Requests"));
    assert_eq!(server.requests().len(), 1, "an hour is not waited for");
    assert!(failure(&format!("http://{NOBODY}/x")).await.contains("nothing that listens there"));
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let hops = |most: usize| {
        HttpServer::start(move |_, number| match number {
            number if number < most => answer(302, "Location: /next", b""),
            _ => answer(200, "", b"here"),
        })
    };
    assert_eq!(fetch(&hops(10).url("x")).await.unwrap().0, b"here");
    assert!(failure(&hops(11).url("x")).await.contains("one redirect too many"));
    for (to, reason) in [
        ("file:///etc/passwd", "was sent to file:///etc/passwd, which is not followed: it is neither http nor https"),
        ("ftp://127.0.0.1/x", "neither http nor https"),
        ("gopher://127.0.0.1/x", "neither http nor https"),
    ] {
        let server = HttpServer::start(move |_, _| answer(301, &format!("Location: {to}"), b""));
        let error = failure(&server.url("x")).await;
        assert!(error.contains(reason), "{to}: {error}");
    }
}

#[tokio::test]
async fn who_asks_is_told_to_the_named_origin_only() {
    let elsewhere = HttpServer::start(|_, _| answer(200, "", b"here"));
    let to = elsewhere.url("y");
    let server = HttpServer::start(move |request, _| match request.path.as_str() {
        "/x" => answer(302, "Location: /again", b""),
        _ => answer(302, &format!("Location: {to}"), b""),
    });
    let url = server.url("x").replace("http://", "http://ana:s3cret@");
    assert_eq!(fetch(&url).await.unwrap().0, b"here");
    let basic = Some("Basic YW5hOnMzY3JldA==");
    assert!(server.requests().iter().all(|request| request.header("authorization") == basic));
    assert_eq!((server.requests().len(), elsewhere.requests()[0].header("authorization")), (2, None));
    let token = HttpAuthorization::new("Bearer t0ken").unwrap();
    files().get(&file(&url), Some(&token), None).await.unwrap();
    assert_eq!(server.requests()[2].header("authorization"), Some("Bearer t0ken"));
}

#[tokio::test]
async fn a_server_cannot_talk_without_end() {
    let server = HttpServer::start(|_, _| {
        let headers: String = (0..2000).map(|number| format!("X-{number}: {}\n", "y".repeat(1000))).collect();
        answer(200, &headers, b"")
    });
    let error = failure(&server.url("x")).await;
    assert!(error.starts_with("cannot fetch http://127.0.0.1") && error.len() < 1000, "{error}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_an_error() {
    let server = HttpServer::start(|_, _| answer(200, "", &content()));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("read-only");
    File::create(&path).unwrap();
    let error =
        download(&server.url("x")).await.unwrap().write_to(File::open(&path).unwrap(), |_, _| ()).await.unwrap_err();
    assert!(matches!(error, HttpFileError::Write { .. }), "{error:?}");
}
