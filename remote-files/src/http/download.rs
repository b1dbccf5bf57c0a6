//! A file on its way: its head is here, its bytes are still to come.
//!
//! | the connection is lost, and | then |
//! |---|---|
//! | the server said an entity tag or a date | the rest is asked for, if the file is still the same (`Range`, `If-Range`) |
//! | it answers 206 with exactly that rest | it is appended |
//! | it answers 200, or 416, or something else | the file starts again |
//!
//! An attempt that got on by 1 MiB does not count as failed.

use std::fs::File;

use http_transport::{Answer as Head, Attempts, http_date};
use oci::Digest;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_RANGE, HeaderMap, HeaderValue, IF_RANGE, RANGE};

use super::file_name::file_name;
use super::writer::Writer;
use super::{HttpFileError, Request, Validators};

const PROGRESS: u64 = 1 << 20;

/// A file whose bytes are still to come.
#[derive(Debug)]
pub struct Download {
    request: Request,
    head: Head,
    attempts: Attempts,
}

/// A file that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Its bytes.
    pub size: u64,
    /// The digest of them.
    pub sha256: Digest,
    /// The validators of what was written: the file may have changed since the download began.
    pub validators: Validators,
    /// When the server says that it was changed last, in seconds since 1970.
    pub modified: Option<i64>,
}

/// How reading a body ended.
enum Ended {
    Complete,
    /// The file takes no more.
    Unwritable,
    Lost(HttpFileError),
}

impl Download {
    pub(super) fn new(request: Request, head: Head, attempts: Attempts) -> Result<Self, HttpFileError> {
        match head.status() {
            200 | 203 => Ok(Self { request, head, attempts }),
            _ => Err(HttpFileError::Protocol { url: request.shown(), reason: "the answer is not a file" }),
        }
    }

    /// Returns by what the server recognises this version of the file.
    pub fn validators(&self) -> Validators {
        Validators::of(&self.head)
    }

    /// Returns when the server says that the file was changed last, in seconds since 1970.
    pub fn modified(&self) -> Option<i64> {
        modified(&self.validators())
    }

    /// Returns what the file is called: by the server, else by the URL, else `download`. It is one component of a path.
    pub fn file_name(&self) -> String {
        // The URL that the user named, not the one that a redirect led to.
        file_name(self.head.header(CONTENT_DISPOSITION), &self.request.url)
    }

    /// Writes the file to the beginning of `file`, which loses its content; `moved` hears how many bytes have come, and of how
    /// many, where the server says that.
    ///
    /// # Errors
    ///
    /// [`HttpFileError`] after the last attempt; `file` then holds a part, or parts of two versions.
    pub async fn write_to(
        mut self,
        file: File,
        mut moved: impl FnMut(u64, Option<u64>),
    ) -> Result<Downloaded, HttpFileError> {
        let mut writer = Writer::start(file);
        let mut validators = self.validators();
        let mut expected = self.head.content_length();
        loop {
            let before = writer.received();
            let ended = receive(&mut self.head, (expected, &mut moved), &mut writer, || self.request.shown()).await;
            let Ended::Lost(error) = ended else { break };
            if writer.received() - before >= PROGRESS {
                self.attempts.reset();
            }
            self.attempts.after(error).await?;
            let Some(head) = self.resume(&mut writer, &validators, expected).await? else { break };
            self.head = head;
            if writer.received() == 0 {
                validators = Validators::of(&self.head);
                expected = self.head.content_length();
            }
        }
        let written = writer.finish().await;
        let written = written.map_err(|source| HttpFileError::Write { url: self.request.shown(), source })?;
        let modified = modified(&validators);
        Ok(Downloaded { size: written.size, sha256: written.sha256, validators, modified })
    }

    /// Asks for what is missing; the writer is at the beginning again when the answer is all of the file.
    ///
    /// `None` when the file takes no more.
    async fn resume(
        &mut self,
        writer: &mut Writer,
        validators: &Validators,
        expected: Option<u64>,
    ) -> Result<Option<Head>, HttpFileError> {
        let offset = writer.received();
        if let Some(headers) = range(offset, validators) {
            let head = self.request.retried(&mut self.attempts, &headers).await?;
            if continues(&head, offset, expected, validators) {
                return Ok(Some(head));
            }
            if matches!(head.status(), 200 | 203) {
                return Ok(writer.restart().await.then_some(head));
            }
        }
        let head = self.request.retried(&mut self.attempts, &HeaderMap::new()).await?;
        if !matches!(head.status(), 200 | 203) {
            return Err(HttpFileError::Protocol { url: self.request.shown(), reason: "the answer is not a file" });
        }
        Ok(writer.restart().await.then_some(head))
    }
}

/// Hands the body to the writer; `expected` is the size of the whole file.
async fn receive(
    head: &mut Head,
    (expected, moved): (Option<u64>, &mut impl FnMut(u64, Option<u64>)),
    writer: &mut Writer,
    url: impl Fn() -> String,
) -> Ended {
    loop {
        match head.chunk().await {
            Ok(Some(bytes)) => {
                if !writer.write(bytes).await {
                    return Ended::Unwritable;
                }
                moved(writer.received(), expected);
            }
            Ok(None) => break,
            Err(source) => return Ended::Lost(HttpFileError::Exchange { url: url(), source }),
        }
    }
    match expected {
        Some(expected) if expected != writer.received() => {
            Ended::Lost(HttpFileError::Cut { url: url(), received: writer.received(), expected })
        }
        _ => Ended::Complete,
    }
}

/// Returns the headers that ask for the rest of the same file; `None` when the server could not tell that it is the same.
fn range(offset: u64, validators: &Validators) -> Option<HeaderMap> {
    let condition = validators.if_range().filter(|_| offset > 0)?;
    let mut headers = HeaderMap::new();
    headers.insert(RANGE, HeaderValue::from_str(&format!("bytes={offset}-")).ok()?);
    headers.insert(IF_RANGE, condition);
    Some(headers)
}

/// Tells whether an answer is exactly the rest from `offset` of the file that was begun.
fn continues(head: &Head, offset: u64, expected: Option<u64>, validators: &Validators) -> bool {
    let is_same = Validators::of(head).etag.is_none_or(|etag| validators.etag.as_ref() == Some(&etag));
    let range = head.header(CONTENT_RANGE).and_then(|range| range.trim().strip_prefix("bytes "));
    let Some((bounds, total)) = range.and_then(|range| range.split_once('/')) else { return false };
    let Some((start, end)) = bounds.split_once('-') else { return false };
    let (start, end): (Option<u64>, Option<u64>) = (start.parse().ok(), end.parse().ok());
    let is_total = |total: u64| expected.is_none_or(|expected| expected == total);
    let reaches_end = match total.parse().ok() {
        Some(total) => is_total(total) && end.is_some_and(|end| end + 1 == total),
        None => expected.is_none_or(|expected| end.is_some_and(|end| end + 1 == expected)),
    };
    head.status() == 206 && is_same && start == Some(offset) && reaches_end
}

fn modified(validators: &Validators) -> Option<i64> {
    Some(http_date(validators.last_modified.as_deref()?)?.unix_timestamp())
}
