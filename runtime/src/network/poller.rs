//! Waits for descriptors: epoll with a token for each, and a way to be woken from other threads.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

/// Names a descriptor: the link it belongs to, and which of that link's it is. No token is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token {
    /// 0 is no link, but the waker.
    pub link: u32,
    /// 0 is the link's device.
    pub flow: u32,
}

/// When a descriptor is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    /// As long as it can be read.
    Readable,
    /// Whenever it becomes readable or writable.
    Changes,
}

/// What has happened to a descriptor. An error or a hang-up makes it both readable and writable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub token: Token,
    pub is_readable: bool,
    pub is_writable: bool,
}

const WAKER: Token = Token { link: 0, flow: 0 };
const EVENTS: usize = 128;

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
}

/// Wakes the thread that waits on a [`Poller`].
#[derive(Debug)]
pub(super) struct Waker {
    eventfd: OwnedFd,
}

impl Poller {
    pub(super) fn new() -> io::Result<(Poller, Waker)> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: each wake is reported once, and its count need not be read.
        epoll::add(&epoll, &eventfd, data(WAKER), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        Ok((Poller { epoll }, Waker { eventfd }))
    }

    /// Reports `fd` from now on, until it is closed.
    pub(super) fn add(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        let flags = match interest {
            Interest::Readable => epoll::EventFlags::IN,
            Interest::Changes => {
                epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET
            }
        };
        Ok(epoll::add(&self.epoll, fd, data(token), flags)?)
    }

    /// Reports `fd` no longer.
    pub(super) fn remove(&self, fd: impl AsFd) {
        // It can only fail for a descriptor that was not added.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits until something happens, `timeout` is over (`None` is never) or a [`Waker`] wakes it; moves what happened to
    /// `events`.
    pub(super) fn wait(&self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        // Rounded up to milliseconds, so that a deadline has passed when the wait is over.
        let timeout = timeout.map(|timeout| timeout + Duration::from_millis(1));
        let timeout = timeout.map(|timeout| Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_millis()) * 1_000_000,
        });
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let reported = match epoll::wait(&self.epoll, &mut buffer[..], timeout.as_ref()) {
            Ok((reported, _)) => reported,
            Err(Errno::INTR) => &mut [],
            Err(errno) => return Err(errno.into()),
        };
        events.extend(reported.iter().copied().map(event).filter(|event| event.token != WAKER));
        Ok(())
    }
}

impl Waker {
    pub(super) fn wake(&self) {
        // It can only fail when the count is at its limit, and then the thread is awake.
        let _ = rustix::io::write(&self.eventfd, &1_u64.to_ne_bytes());
    }
}

fn data(token: Token) -> epoll::EventData {
    epoll::EventData::new_u64(u64::from(token.link) << 32 | u64::from(token.flow))
}

fn event(event: epoll::Event) -> Event {
    let (data, flags) = (event.data.u64(), event.flags);
    let [a, b, c, d, e, f, g, h] = data.to_be_bytes();
    let token = Token { link: u32::from_be_bytes([a, b, c, d]), flow: u32::from_be_bytes([e, f, g, h]) };
    let failed = epoll::EventFlags::ERR | epoll::EventFlags::HUP;
    Event {
        token,
        is_readable: flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::RDHUP | failed),
        is_writable: flags.intersects(epoll::EventFlags::OUT | failed),
    }
}
