//! Scripted misbehaviour.

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};

use super::connection::Connection;
use super::{Recorded, Shared, content, refuse};

/// One way to misbehave.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Answers with this status, an error envelope (code `TEST`) and nothing done.
    Status(u16),
    /// Answers with this status, code and message.
    Refuse(u16, &'static str, String),
    /// Answers with this status and this `Retry-After`.
    RetryAfter(u16, &'static str),
    /// Answers with this status and this body, as text.
    Text(u16, String),
    /// Closes the connection without an answer.
    Reset,
    /// Never answers.
    Hang,
    /// Answers with a redirect to this URL; `{path}` in it is replaced by the path asked for.
    Redirect(u16, String),
    /// Sends this many bytes of the true body under the true length, then closes the connection.
    CutBody(usize),
    /// Sends this many bytes of the true body, then nothing, and keeps the connection.
    StallBody(usize),
    /// Flips one bit of the body.
    WrongBytes,
    /// Leaves out the last bytes of the body, in the length as well.
    ShortBody(usize),
    /// Adds bytes to the body, in the length as well.
    LongBody(usize),
    /// Sends a body that never ends, without a length.
    EndlessBody,
    /// Answers as if no range had been asked for.
    IgnoreRange,
    /// Sends this header instead of the true one (or beside the others).
    Header(&'static str, String),
    /// Leaves out this header.
    NoHeader(&'static str),
    /// Voids every access token first, so that this request is refused with 401.
    ExpireTokens,
    /// Forgets the upload session first.
    LoseUpload,
    /// Keeps this many bytes of the request's body in the upload session, then closes the connection.
    CutUpload(usize),
    /// Does what was asked and then closes the connection without saying so.
    CutAnswer,
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    method: Method,
    part: String,
    left: usize,
    fault: Fault,
}

/// What is left to do after the first half of a fault.
pub(super) enum Due {
    /// This is the answer.
    Answered(Response),
    /// The request is served as if nothing were wrong.
    Continue(Request),
}

impl Script {
    pub(super) fn add(&mut self, method: Method, part: &str, left: usize, fault: Fault) {
        self.0.push(Entry { method, part: part.to_owned(), left, fault });
    }

    pub(super) fn left(&self) -> usize {
        self.0.iter().map(|entry| entry.left).sum()
    }

    pub(super) fn due(&mut self, request: &Recorded) -> Option<Fault> {
        let asked = format!("{}?{}", request.path, request.query);
        let is_due = |e: &&mut Entry| e.left > 0 && e.method == request.method && asked.contains(&e.part);
        let entry = self.0.iter_mut().find(is_due)?;
        entry.left -= 1;
        Some(entry.fault.clone())
    }
}

/// Does what a fault does instead of serving, or before.
pub(super) async fn before(fault: &Fault, shared: &Shared, connection: &Connection, mut request: Request) -> Due {
    match fault {
        Fault::Status(status) => Due::Answered(refuse(*status, "TEST", "a scripted fault")),
        Fault::Refuse(status, code, message) => Due::Answered(refuse(*status, code, message)),
        Fault::RetryAfter(status, value) => {
            let response = refuse(*status, "TOOMANYREQUESTS", "slow down");
            Due::Answered(with_header(response, "retry-after", value))
        }
        Fault::Text(status, text) => {
            let response = Response::builder().status(*status).header("content-type", "text/plain");
            Due::Answered(response.body(Body::from(text.clone())).expect("the parts are valid"))
        }
        Fault::Redirect(status, to) => {
            let location = to.replace("{path}", request.uri().path());
            Due::Answered(with_header(refuse(*status, "TEST", "elsewhere"), "location", &location))
        }
        Fault::Reset => cut(connection).await,
        Fault::Hang => std::future::pending().await,
        Fault::CutUpload(after) => {
            content::receive_some(shared, request, *after).await;
            cut(connection).await
        }
        Fault::CutAnswer => {
            drop(super::serve(shared, request).await);
            cut(connection).await
        }
        Fault::LoseUpload => {
            shared.inner().content.lose_uploads();
            Due::Continue(request)
        }
        Fault::ExpireTokens => {
            shared.inner().access.expire_tokens();
            Due::Continue(request)
        }
        Fault::IgnoreRange => {
            request.headers_mut().remove("range");
            Due::Continue(request)
        }
        _ => Due::Continue(request),
    }
}

async fn cut(connection: &Connection) -> Due {
    connection.cut();
    std::future::pending().await
}

/// Spoils the true response.
pub(super) async fn after(fault: Fault, connection: &Connection, response: Response) -> Response {
    match fault {
        Fault::Header(name, value) => with_header(response, name, &value),
        Fault::NoHeader(name) => without_header(response, name),
        Fault::CutBody(after) => {
            let (response, body) = split(response).await;
            let sent = body.slice(..after.min(body.len()));
            let is_sent = connection.wrote(sent.len());
            let error = stream::once(is_sent.map(|()| Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))));
            put_body(response, Body::from_stream(stream::iter([Ok(sent)]).chain(error)))
        }
        Fault::StallBody(after) => {
            let (response, body) = split(response).await;
            let sent = body.slice(..after.min(body.len()));
            let first = stream::iter([Ok::<_, std::io::Error>(sent)]);
            put_body(response, Body::from_stream(first.chain(stream::pending())))
        }
        Fault::WrongBytes => {
            let (response, body) = split(response).await;
            let mut bytes = body.to_vec();
            if let Some(byte) = bytes.last_mut() {
                *byte ^= 1;
            }
            put_body(response, Body::from(bytes))
        }
        Fault::ShortBody(missing) => {
            let (response, body) = split(response).await;
            let kept = body.slice(..body.len().saturating_sub(missing));
            put_body(without_header(response, "content-length"), Body::from(kept))
        }
        Fault::LongBody(extra) => {
            let (response, body) = split(response).await;
            let bytes = [body.as_ref(), &vec![b' '; extra]].concat();
            put_body(without_header(response, "content-length"), Body::from(bytes))
        }
        Fault::EndlessBody => {
            let chunk = Bytes::from(vec![b'x'; 64 << 10]);
            let endless = stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
            put_body(without_header(response, "content-length"), Body::from_stream(endless))
        }
        _ => response,
    }
}

async fn split(response: Response) -> (Response, Bytes) {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("our own bodies do not fail");
    (Response::from_parts(parts, Body::empty()), body)
}

fn put_body(mut response: Response, body: Body) -> Response {
    *response.body_mut() = body;
    response
}

fn with_header(mut response: Response, name: &str, value: &str) -> Response {
    let name: HeaderName = name.parse().expect("the name is a header's");
    let value = HeaderValue::from_str(value).expect("the value is a header's");
    response.headers_mut().insert(name, value);
    response
}

fn without_header(mut response: Response, name: &str) -> Response {
    response.headers_mut().remove(name);
    response
}
