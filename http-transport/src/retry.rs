//! When a request is repeated, and after how long.
//!
//! Repeated are lost connections, timeouts, 408, 429 and server errors. The delay is random between nothing and a bound that
//! doubles with each attempt; a `Retry-After` of at most a minute is followed, a longer one ends the operation.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// The longest `Retry-After` that is waited for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often and how patiently a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all; 1 never repeats.
    pub attempts: u32,
    /// The bound of the first delay.
    pub base: Duration,
    /// The bound of every delay.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, base: Duration::from_millis(500), cap: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// Starts to count the attempts of one request.
    pub fn start(self) -> Attempts {
        Attempts { policy: self, failed: 0 }
    }

    fn bound(self, failed: u32) -> Duration {
        let factor = 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// Why an attempt failed, as far as repeating it is concerned.
pub trait Failure {
    /// Tells whether the same request may succeed a little later.
    fn is_transient(&self) -> bool;

    /// Returns how long the server asks to wait, if it does.
    fn retry_after(&self) -> Option<Duration>;
}

/// The attempts of one request so far.
#[derive(Debug)]
pub struct Attempts {
    policy: RetryPolicy,
    failed: u32,
}

impl Attempts {
    /// Waits until the request may be repeated after `error`, or gives the error back when it may not.
    ///
    /// # Errors
    ///
    /// `error` itself, when repeating would not help or was done often enough.
    pub async fn after<E: Failure>(&mut self, error: E) -> Result<(), E> {
        if !error.is_transient() {
            return Err(error);
        }
        self.after_any(error).await
    }

    /// Like [`after`](Self::after) for an error that the caller knows how to get around.
    ///
    /// # Errors
    ///
    /// `error` itself, when it was repeated often enough.
    pub async fn after_any<E: Failure>(&mut self, error: E) -> Result<(), E> {
        self.failed += 1;
        let asked = error.retry_after();
        if self.failed >= self.policy.attempts || asked.is_some_and(|wait| wait > MAX_RETRY_AFTER) {
            return Err(error);
        }
        let delay = asked.unwrap_or_else(|| jitter(self.policy.bound(self.failed)));
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Forgets the failures so far, because the last attempt got on.
    pub fn reset(&mut self) {
        self.failed = 0;
    }
}

/// Returns a random duration up to `bound`.
fn jitter(bound: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    bound.mul_f64(f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX))
}

/// Tells whether a request that was answered with this status may succeed a little later.
pub fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504 | 506..=599)
}

/// Reads a `Retry-After` header: seconds, or a date.
pub fn retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().all(|b| b.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let date = http_date(value)?;
    Some(Duration::try_from(date - now).unwrap_or_default())
}

/// Reads a date as HTTP writes it.
pub fn http_date(value: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.trim(), &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = OffsetDateTime::from_unix_timestamp(1_445_412_400).unwrap();
        let check = |value: &str, seconds: Option<u64>| {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        };
        check("0", Some(0));
        check(" 120 ", Some(120));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(80));
        check("Wed, 21 Oct 2015 07:00:00 GMT", Some(0));
        check("-5", None);
        check("soon", None);
        check("99999999999999999999999999", None);
    }

    #[test]
    fn delays_double_up_to_the_cap() {
        let policy = RetryPolicy { attempts: 9, base: Duration::from_secs(1), cap: Duration::from_secs(30) };
        let bounds: Vec<u64> = [1, 2, 5, 6, 40].iter().map(|&failed| policy.bound(failed).as_secs()).collect();
        assert_eq!(bounds, [1, 2, 16, 30, 30]);
        assert!((0..100).all(|_| jitter(Duration::from_secs(1)) <= Duration::from_secs(1)));
    }
}
