//! An OCI registry in memory, on a loopback port of its own, that misbehaves on request.
//!
//! ```text
//! request ─▶ log ─▶ fault due? ─before─▶ authorised? ─▶ content ─▶ fault due? ─after─▶ response
//!                        │                    │            │
//!                   fault.rs             access.rs    content.rs
//! ```
//!
//! - It runs on a thread of its own, so that blocking and async tests can use it; dropped, it is gone.
//! - It checks what clients send as a strict registry would: digests, ranges, referenced blobs, scopes.
//!
//! Spec: distribution-spec 1.1, end-1 to end-11 and end-13, end-14.

mod access;
mod connection;
mod content;
mod fault;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use oci::{Descriptor, Digest, MediaType};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::access::Access;
pub use self::access::{Account, Auth, Tokens};
use self::connection::{Connection, Listener};
use self::content::Content;
pub use self::fault::Fault;
use self::fault::{Due, Script};

/// A running registry; dropping it stops it.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    state: Mutex<Inner>,
}

/// What the registry holds and remembers.
#[derive(Debug)]
struct Inner {
    content: Content,
    access: Access,
    script: Script,
    log: Vec<Recorded>,
}

/// One request as it came in.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are HTTP's own")]
pub struct Recorded {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub headers: HeaderMap,
}

impl Recorded {
    /// Returns a header as text; `None` when it was not sent.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Registry {
    /// Starts an empty registry on a free port of 127.0.0.1.
    pub fn start(auth: Auth) -> Self {
        Self::start_at("127.0.0.1:0", auth)
    }

    /// Starts an empty registry on `listen`.
    pub fn start_at(listen: &str, auth: Auth) -> Self {
        let listener = std::net::TcpListener::bind(listen).expect("the address is free");
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("a bound socket has an address");
        let inner = Inner {
            content: Content::default(),
            access: Access::new(auth),
            script: Script::default(),
            log: Vec::new(),
        };
        let shared = Arc::new(Shared { address, state: Mutex::new(inner) });
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || run(listener, served, stopped));
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns `127.0.0.1:port`: the registry's name in references.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Returns the reference of `name` (`path:tag`) in this registry.
    pub fn reference(&self, name: &str) -> oci::Reference {
        format!("{}/{name}", self.address).parse().expect("the name is a valid reference")
    }

    /// Answers the next `count` requests with this method, whose path and query contain `part`, with `fault`.
    pub fn fail(&self, method: &str, part: &str, count: usize, fault: Fault) {
        let method = method.parse().expect("the method is one of HTTP's");
        self.inner().script.add(method, part, count, fault);
    }

    /// Returns how many faults were asked for and have not happened.
    pub fn faults_left(&self) -> usize {
        self.inner().script.left()
    }

    /// Returns every request so far, in the order they came in.
    pub fn requests(&self) -> Vec<Recorded> {
        self.inner().log.clone()
    }

    /// Returns the requests with this method whose path and query contain `part`.
    pub fn requests_of(&self, method: &str, part: &str) -> Vec<Recorded> {
        let is_asked = |r: &Recorded| r.method == method && format!("{}?{}", r.path, r.query).contains(part);
        self.inner().log.iter().filter(|r| is_asked(r)).cloned().collect()
    }

    /// Counts the requests with this method whose path and query contain `part`.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.requests_of(method, part).len()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.inner().log.clear();
    }

    /// Voids every access token that was handed out.
    pub fn expire_tokens(&self) {
        self.inner().access.expire_tokens();
    }

    /// Holds `bytes` as a blob of `repository` and describes them.
    pub fn put_blob(&self, repository: &str, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        self.inner().content.put_blob(repository, &descriptor.digest.to_string(), bytes.to_vec().into());
        descriptor
    }

    /// Holds `bytes` as the manifest `tag` of `repository`, unchecked, and describes them.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: MediaType, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        self.inner().content.put_manifest(repository, tag, &descriptor, bytes.to_vec().into());
        descriptor
    }

    /// Returns a blob of `repository`.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<Vec<u8>> {
        self.inner().content.blob(repository, &digest.to_string()).map(|bytes| bytes.to_vec())
    }

    /// Returns media type and bytes of the manifest `name` (tag or digest) of `repository`.
    pub fn manifest(&self, repository: &str, name: &str) -> Option<(String, Vec<u8>)> {
        self.inner().content.manifest(repository, name).map(|(media_type, bytes)| (media_type, bytes.to_vec()))
    }

    /// Stops listening and closes every connection; the content stays readable through this value.
    pub fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the registry did not panic");
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.shared.inner()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn run(listener: std::net::TcpListener, shared: Arc<Shared>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let listener = TcpListener::from_std(listener).expect("the socket is non-blocking");
        let app = axum::Router::new().fallback(answer).with_state(shared);
        let service = app.into_make_service_with_connect_info::<Connection>();
        tokio::select! {
            _ = async { axum::serve(Listener(listener), service).await } => {}
            _ = stopped => {}
        }
    });
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: Request,
) -> Response {
    let due = record(&shared, &request);
    let request = match &due {
        None => request,
        Some(fault) => match fault::before(fault, &shared, &connection, request).await {
            Due::Answered(response) => return response,
            Due::Continue(request) => request,
        },
    };
    let response = serve(&shared, request).await;
    match due {
        None => response,
        Some(fault) => fault::after(fault, &connection, response).await,
    }
}

fn record(shared: &Shared, request: &Request) -> Option<Fault> {
    let uri = request.uri();
    let recorded = Recorded {
        method: request.method().clone(),
        path: uri.path().to_owned(),
        query: uri.query().unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    let mut inner = shared.inner();
    let due = inner.script.due(&recorded);
    inner.log.push(recorded);
    due
}

async fn serve(shared: &Shared, request: Request) -> Response {
    if request.uri().path() == "/token" {
        return access::token(shared, request).await;
    }
    if let Some(refusal) = access::refusal(shared, &request) {
        return refusal;
    }
    content::serve(shared, request).await
}

/// Answers with OCI's error envelope.
fn refuse(status: u16, code: &str, message: &str) -> Response {
    let body = serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Body::from(body)).expect("the parts are valid")
}
