//! Errors that belong to a place in the Dockerfile.

use std::error::Error;
use std::fmt;

use dockerfile::Span;

/// An error and where in the Dockerfile its cause stands.
#[derive(Debug)]
pub struct Spanned<E> {
    /// Bytes of the Dockerfile; `None` when nothing that is written there is the cause.
    pub span: Option<Span>,
    /// What is wrong.
    pub error: E,
}

impl<E> Spanned<E> {
    pub(crate) fn new(span: Span, error: E) -> Self {
        Self { span: Some(span), error }
    }
}

impl<E: fmt::Display> fmt::Display for Spanned<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<E: Error> Error for Spanned<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
