//! What a server is told about who asks: the value of an `Authorization` header, never shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use url::Url;

use crate::source::decoded;

/// The value of an `Authorization` header.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAuthorization(String);

/// Why a text cannot be an `Authorization` header; the text is a secret and not part of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an `Authorization` header is one line of printable ASCII characters")]
pub struct InvalidAuthorization;

impl HttpAuthorization {
    /// Takes a header's value as it is sent, such as `Bearer …`.
    ///
    /// # Errors
    ///
    /// [`InvalidAuthorization`] for an empty text and for characters that no header can hold.
    pub fn new(value: &str) -> Result<Self, InvalidAuthorization> {
        let value = value.trim();
        let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if value.is_empty() || !is_plain { Err(InvalidAuthorization) } else { Ok(Self(value.to_owned())) }
    }

    /// Makes the header of a user and a password, as a URL holds them.
    pub fn basic(username: &str, password: &str) -> Self {
        Self(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
    }

    /// Takes user and password out of `url`.
    pub(crate) fn take(url: &mut Url) -> Option<Self> {
        let username = decoded(url.username()).into_owned();
        let password = decoded(url.password().unwrap_or_default()).into_owned();
        // Both only fail for URLs without a host, which have neither.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let is_there = !username.is_empty() || !password.is_empty();
        is_there.then(|| Self::basic(&username, &password))
    }

    /// Returns the secret.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    pub(crate) fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::from_str(&self.0).expect("it is printable ASCII");
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for HttpAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpAuthorization")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_one_line_and_never_shown() {
        assert_eq!(HttpAuthorization::new(" Bearer t0ken\n").unwrap().secret(), "Bearer t0ken");
        for value in ["", " \n", "a\nb", "a\0b", "ä"] {
            assert_eq!(HttpAuthorization::new(value), Err(InvalidAuthorization), "{value:?}");
        }
        assert_eq!(format!("{:?}", HttpAuthorization::basic("ana", "s3cret")), "HttpAuthorization");
    }

    #[test]
    fn user_and_password_are_taken_out_of_a_url() {
        let mut url = Url::parse("https://an%40a:p%3Aw@example.com/x").unwrap();
        assert_eq!(HttpAuthorization::take(&mut url), Some(HttpAuthorization::basic("an@a", "p:w")));
        assert_eq!(url.as_str(), "https://example.com/x");
        assert_eq!(HttpAuthorization::take(&mut url), None);
    }
}
