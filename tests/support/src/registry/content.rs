//! Blobs, uploads and manifests, and the endpoints that serve them.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use futures_util::StreamExt;
use oci::{Descriptor, Digest, ManifestOrIndex, MediaType};

use super::access::may_pull;
use super::{Shared, refuse};

/// What the registry holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    blobs: BTreeMap<(String, String), Bytes>,
    manifests: BTreeMap<(String, String), (String, Bytes)>,
    uploads: BTreeMap<u64, Vec<u8>>,
    started: u64,
}

impl Content {
    pub(super) fn put_blob(&mut self, repository: &str, digest: &str, bytes: Bytes) {
        self.blobs.insert((repository.to_owned(), digest.to_owned()), bytes);
    }

    pub(super) fn blob(&self, repository: &str, digest: &str) -> Option<Bytes> {
        self.blobs.get(&(repository.to_owned(), digest.to_owned())).cloned()
    }

    pub(super) fn put_manifest(&mut self, repository: &str, name: &str, descriptor: &Descriptor, bytes: Bytes) {
        let held = (descriptor.media_type.to_string(), bytes);
        self.manifests.insert((repository.to_owned(), descriptor.digest.to_string()), held.clone());
        self.manifests.insert((repository.to_owned(), name.to_owned()), held);
    }

    pub(super) fn manifest(&self, repository: &str, name: &str) -> Option<(String, Bytes)> {
        self.manifests.get(&(repository.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn lose_uploads(&mut self) {
        self.uploads.clear();
    }

    fn start_upload(&mut self) -> u64 {
        self.started += 1;
        self.uploads.insert(self.started, Vec::new());
        self.started
    }

    fn tags(&self, repository: &str) -> Vec<&str> {
        let is_tag = |(held, name): &&(String, String)| held == repository && !name.contains(':');
        self.manifests.keys().filter(is_tag).map(|(_, name)| name.as_str()).collect()
    }

    fn missing_parts(&self, repository: &str, manifest: &ManifestOrIndex) -> Option<Digest> {
        match manifest {
            ManifestOrIndex::Manifest(document) => {
                let manifest = document.value();
                let mut parts = std::iter::once(&manifest.config).chain(&manifest.layers);
                parts.find(|part| self.blob(repository, &part.digest.to_string()).is_none())
            }
            ManifestOrIndex::Index(document) => {
                let mut parts = document.value().manifests.iter();
                parts.find(|part| self.manifest(repository, &part.digest.to_string()).is_none())
            }
        }
        .map(|part| part.digest.clone())
    }
}

/// What a path asks for.
pub(super) enum Target<'a> {
    Base,
    Manifest(&'a str, &'a str),
    Uploads(&'a str),
    Upload(&'a str, u64),
    Blob(&'a str, &'a str),
    Tags(&'a str),
    Unknown,
}

impl<'a> Target<'a> {
    pub(super) fn of(path: &'a str) -> Self {
        let Some(rest) = path.strip_prefix("/v2/") else { return Self::Unknown };
        if rest.is_empty() {
            return Self::Base;
        }
        if let Some(repository) = rest.strip_suffix("/tags/list") {
            return Self::Tags(repository);
        }
        if let Some((repository, name)) = rest.rsplit_once("/manifests/") {
            return Self::Manifest(repository, name);
        }
        match rest.rsplit_once("/blobs/uploads/") {
            Some((repository, "")) => Self::Uploads(repository),
            Some((repository, id)) => id.parse().map_or(Self::Unknown, |id| Self::Upload(repository, id)),
            None => rest.rsplit_once("/blobs/").map_or(Self::Unknown, |(repo, digest)| Self::Blob(repo, digest)),
        }
    }

    pub(super) fn repository(&self) -> Option<&'a str> {
        match self {
            Self::Manifest(repository, _) | Self::Uploads(repository) | Self::Upload(repository, _) => Some(repository),
            Self::Blob(repository, _) | Self::Tags(repository) => Some(repository),
            Self::Base | Self::Unknown => None,
        }
    }
}

/// Serves a request that is allowed.
pub(super) async fn serve(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default();
    match (&parts.method, Target::of(parts.uri.path())) {
        (&Method::GET, Target::Base) => respond(200, &[], Body::from("{}")),
        (&Method::GET | &Method::HEAD, Target::Manifest(repository, name)) => manifest(shared, repository, name),
        (&Method::PUT, Target::Manifest(repository, name)) => {
            put_manifest(shared, repository, name, &parts.headers, whole(body).await)
        }
        (&Method::GET | &Method::HEAD, Target::Blob(repository, digest)) => {
            blob(shared, repository, digest, &parts.headers)
        }
        (&Method::POST, Target::Uploads(repository)) => start(shared, repository, query, &parts.headers),
        (method, Target::Upload(repository, id)) => {
            let upload = Upload { repository, id, headers: &parts.headers };
            let method = method.clone();
            upload.serve(shared, &method, query, whole(body).await)
        }
        (&Method::GET, Target::Tags(repository)) => tags(shared, repository),
        _ => refuse(404, "UNSUPPORTED", "no such endpoint"),
    }
}

/// Keeps the first bytes of an upload's body, as a connection that breaks does.
pub(super) async fn receive_some(shared: &Shared, request: Request, limit: usize) {
    let (parts, body) = request.into_parts();
    let Target::Upload(_, id) = Target::of(parts.uri.path()) else { return };
    let mut received = Vec::new();
    let mut stream = body.into_data_stream();
    while received.len() < limit {
        let Some(Ok(chunk)) = stream.next().await else { break };
        received.extend_from_slice(&chunk);
    }
    received.truncate(limit);
    if let Some(upload) = shared.inner().content.uploads.get_mut(&id) {
        upload.extend_from_slice(&received);
    }
}

async fn whole(body: Body) -> Bytes {
    axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default()
}

fn respond(status: u16, headers: &[(&str, String)], body: Body) -> Response {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(body).expect("the parts are valid")
}

fn manifest(shared: &Shared, repository: &str, name: &str) -> Response {
    let Some((media_type, bytes)) = shared.inner().content.manifest(repository, name) else {
        return refuse(404, "MANIFEST_UNKNOWN", "manifest unknown");
    };
    let headers = [
        ("content-type", media_type),
        ("docker-content-digest", Digest::of(&bytes).to_string()),
        ("content-length", bytes.len().to_string()),
    ];
    respond(200, &headers, Body::from(bytes))
}

fn put_manifest(shared: &Shared, repository: &str, name: &str, headers: &HeaderMap, bytes: Bytes) -> Response {
    let media_type =
        header(headers, "content-type").map(MediaType::from_content_type).unwrap_or_else(|| String::new().into());
    let parsed = match ManifestOrIndex::parse(bytes.to_vec(), Some(&media_type)) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(400, "MANIFEST_INVALID", &error.to_string()),
    };
    let descriptor = Descriptor::of(media_type, &bytes);
    if name.contains(':') && name != descriptor.digest.to_string() {
        return refuse(400, "DIGEST_INVALID", "the manifest has another digest");
    }
    let mut inner = shared.inner();
    if let Some(digest) = inner.content.missing_parts(repository, &parsed) {
        return refuse(400, "MANIFEST_BLOB_UNKNOWN", &format!("{digest} is not in this repository"));
    }
    inner.content.put_manifest(repository, name, &descriptor, bytes);
    let location = format!("/v2/{repository}/manifests/{}", descriptor.digest);
    let headers = [("location", location), ("docker-content-digest", descriptor.digest.to_string())];
    respond(201, &headers, Body::empty())
}

fn blob(shared: &Shared, repository: &str, digest: &str, headers: &HeaderMap) -> Response {
    let Some(bytes) = shared.inner().content.blob(repository, digest) else {
        return refuse(404, "BLOB_UNKNOWN", "blob unknown to registry");
    };
    let size = bytes.len();
    let common =
        [("content-type", "application/octet-stream".to_owned()), ("docker-content-digest", digest.to_owned())];
    let Some(start) = header(headers, "range").and_then(range_start) else {
        let headers = [common.as_slice(), &[("content-length", size.to_string())]].concat();
        return respond(200, &headers, Body::from(bytes));
    };
    if start >= size {
        return refuse(416, "RANGE_INVALID", "nothing there");
    }
    let range = ("content-range", format!("bytes {start}-{}/{size}", size - 1));
    let headers = [common.as_slice(), &[range, ("content-length", (size - start).to_string())]].concat();
    respond(206, &headers, Body::from(bytes.slice(start..)))
}

fn range_start(range: &str) -> Option<usize> {
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

fn start(shared: &Shared, repository: &str, query: &str, headers: &HeaderMap) -> Response {
    let parameter = |name: &str| parameter(query, name);
    let mounted = parameter("from").zip(parameter("mount")).filter(|(from, _)| may_pull(shared, headers, from));
    let mut inner = shared.inner();
    let found = mounted.and_then(|(from, digest)| inner.content.blob(&from, &digest).map(|bytes| (digest, bytes)));
    if let Some((digest, bytes)) = found {
        inner.content.put_blob(repository, &digest, bytes);
        return respond(201, &[("location", format!("/v2/{repository}/blobs/{digest}"))], Body::empty());
    }
    let id = inner.content.start_upload();
    let location = format!("http://{}/v2/{repository}/blobs/uploads/{id}?_state=secret", shared.address);
    respond(202, &[("location", location), ("range", "0-0".to_owned())], Body::empty())
}

/// One upload session as a request names it.
struct Upload<'a> {
    repository: &'a str,
    id: u64,
    headers: &'a HeaderMap,
}

impl Upload<'_> {
    fn serve(&self, shared: &Shared, method: &Method, query: &str, bytes: Bytes) -> Response {
        let mut inner = shared.inner();
        let content = &mut inner.content;
        let Some(received) = content.uploads.get(&self.id).map(Vec::len) else {
            return refuse(404, "BLOB_UPLOAD_UNKNOWN", "no such upload");
        };
        match *method {
            Method::GET => self.status(204, received),
            Method::DELETE => {
                content.uploads.remove(&self.id);
                respond(204, &[], Body::empty())
            }
            Method::PATCH | Method::PUT if !self.continues(received) => {
                refuse(416, "BLOB_UPLOAD_INVALID", "the range does not continue the upload")
            }
            Method::PATCH => {
                let received = append(content, self.id, &bytes);
                self.status(202, received)
            }
            Method::PUT => self.finish(content, &parameter(query, "digest").unwrap_or_default(), &bytes),
            _ => refuse(405, "UNSUPPORTED", "no such method"),
        }
    }

    fn continues(&self, received: usize) -> bool {
        let range = header(self.headers, "content-range");
        range.is_none_or(|range| range.split('-').next() == Some(received.to_string().as_str()))
    }

    fn status(&self, status: u16, received: usize) -> Response {
        let range = format!("0-{}", received.saturating_sub(1));
        let location = format!("/v2/{}/blobs/uploads/{}", self.repository, self.id);
        respond(status, &[("range", range), ("location", location)], Body::empty())
    }

    fn finish(&self, content: &mut Content, digest: &str, bytes: &[u8]) -> Response {
        append(content, self.id, bytes);
        let received = content.uploads.remove(&self.id).unwrap_or_default();
        if Digest::of(&received).to_string() != digest {
            return refuse(400, "DIGEST_INVALID", "provided digest did not match uploaded content");
        }
        content.put_blob(self.repository, digest, received.into());
        let location = format!("/v2/{}/blobs/{digest}", self.repository);
        respond(201, &[("location", location)], Body::empty())
    }
}

fn append(content: &mut Content, id: u64, bytes: &[u8]) -> usize {
    let upload = content.uploads.entry(id).or_default();
    upload.extend_from_slice(bytes);
    upload.len()
}

fn tags(shared: &Shared, repository: &str) -> Response {
    let inner = shared.inner();
    let body = serde_json::json!({ "name": repository, "tags": inner.content.tags(repository) }).to_string();
    respond(200, &[("content-type", "application/json".to_owned())], Body::from(body))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Returns a query parameter, decoded.
pub(super) fn parameter(query: &str, name: &str) -> Option<String> {
    parameters(query, name).into_iter().next()
}

/// Returns every value of a query parameter, decoded.
pub(super) fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let hex = || Some([bytes.next()?, bytes.next()?]);
        match byte {
            b'%' => {
                let mut hex = hex;
                let digits = hex().and_then(|pair| String::from_utf8(pair.to_vec()).ok()).unwrap_or_default();
                decoded.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
            }
            b'+' => decoded.push(b' '),
            other => decoded.push(other),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
