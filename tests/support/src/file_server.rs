//! A directory served by HTTP on a loopback port of its own, with entity tags, and a log of what was asked.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use oci::Digest;
use tempfile::TempDir;

/// A file server; its directory goes with it.
#[derive(Debug)]
pub struct FileServer {
    directory: TempDir,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    /// Starts to serve an empty directory.
    ///
    /// A file below `private/` is given to who sends `Authorization: Bearer open-sesame` only.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (root, shared) = (directory.path().to_owned(), Arc::clone(&log));
        // the thread ends with the process: nobody asks after the server is gone
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, log) = (root.clone(), Arc::clone(&shared));
                thread::spawn(move || answer(stream, &root, &log));
            }
        });
        Self { directory, address, log }
    }

    /// Returns the directory that is served.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Returns what was asked since the last call, as `path status`.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock().expect("no thread panics with the log"))
    }
}

/// Answers one request and closes the connection; a client that goes away is no error.
fn answer(stream: TcpStream, root: &Path, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: Vec<String> =
        lines.take_while(|line| !line.is_empty()).map(|line| line.to_ascii_lowercase()).collect();
    let target = request.split(' ').nth(1).unwrap_or("/");
    let path = target.split('?').next().unwrap_or_default().trim_start_matches('/');
    let has = |header: &str| headers.iter().any(|line| line == header);
    let is_open = !path.starts_with("private/") || has("authorization: bearer open-sesame");
    let (status, body) = match fs::read(file(root, path)) {
        _ if !is_open => ("401 Unauthorized", Vec::new()),
        Err(_) => ("404 Not Found", Vec::new()),
        Ok(bytes) if has(&format!("if-none-match: {}", tag(&bytes))) => ("304 Not Modified", Vec::new()),
        Ok(bytes) => ("200 OK", bytes),
    };
    log.lock().expect("no thread panics with the log").push(format!("{path} {}", &status[..3]));
    let mut head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if status.starts_with('2') {
        head += &format!("ETag: {}\r\nLast-Modified: Sun, 09 Sep 2001 01:46:40 GMT\r\n", tag(&body));
    }
    let mut stream = &stream;
    let _gone = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&body));
}

fn file(root: &Path, path: &str) -> PathBuf {
    assert!(!path.split('/').any(|part| part == ".."), "a test asks for {path}");
    root.join(path)
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", Digest::of(bytes).hex())
}
