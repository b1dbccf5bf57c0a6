//! An agent on a socket: a thread for each connection, all of which end with [`Serving`].

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::Agent;
use crate::agent::Session;
use crate::protocol::{read, write};

/// Open streams at the same time; who comes then is cut off.
const MOST: usize = 64;

/// An agent that answers; dropped, it does not any more.
#[derive(Debug)]
pub struct Serving {
    listener: Arc<UnixListener>,
    streams: Arc<Mutex<Streams>>,
    thread: Option<JoinHandle<()>>,
}

/// The open connections, to be cut at the end.
#[derive(Debug, Default)]
struct Streams {
    has_ended: bool,
    open: Vec<Arc<UnixStream>>,
}

impl Agent {
    /// Answers whoever connects to `listener`.
    ///
    /// # Errors
    ///
    /// The system's when no thread can be started.
    pub fn serve(self: &Arc<Self>, listener: UnixListener) -> io::Result<Serving> {
        let (listener, streams) = (Arc::new(listener), Arc::<Mutex<Streams>>::default());
        let thread = {
            let (agent, listener, streams) = (Arc::clone(self), Arc::clone(&listener), Arc::clone(&streams));
            let name = thread::Builder::new().name("ssh-agent".to_owned());
            name.spawn(move || {
                thread::scope(|scope| {
                    while let Ok((stream, _)) = listener.accept() {
                        let stream = Arc::new(stream);
                        if !enter(&streams, &stream) {
                            continue;
                        }
                        let (agent, streams) = (&agent, &streams);
                        scope.spawn(move || {
                            // who breaks off, or is cut off, needs no answer
                            let _ = converse(agent, &stream, streams);
                            leave(streams, &stream);
                        });
                    }
                })
            })?
        };
        Ok(Serving { listener, streams, thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let open = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            streams.has_ended = true;
            std::mem::take(&mut streams.open)
        };
        for stream in open {
            // the other side may have gone already
            let _ = stream.shutdown(Shutdown::Both);
        }
        // wakes the thread that waits for connections
        let _ = rustix::net::shutdown(self.listener.as_fd(), rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _it_does_not_panic = thread.join();
        }
    }
}

/// Notes an open connection; `false` when there are too many, or it is over.
fn enter(streams: &Mutex<Streams>, stream: &Arc<UnixStream>) -> bool {
    let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
    let enters = !streams.has_ended && streams.open.len() < MOST;
    if enters {
        streams.open.push(Arc::clone(stream));
    }
    enters
}

fn leave(streams: &Mutex<Streams>, stream: &Arc<UnixStream>) {
    let mut streams = streams.lock().unwrap_or_else(PoisonError::into_inner);
    streams.open.retain(|open| !Arc::ptr_eq(open, stream));
}

fn converse(agent: &Agent, client: &Arc<UnixStream>, streams: &Mutex<Streams>) -> io::Result<()> {
    let mut session = agent.session()?;
    let other = match &session {
        Session::Other(stream) => Some(Arc::new(stream.try_clone()?)),
        Session::Keys(_) => None,
    };
    if other.as_ref().is_some_and(|other| !enter(streams, other)) {
        return Ok(());
    }
    let mut stream = &**client;
    let ended = loop {
        let request = match read(&mut stream) {
            Ok(Some(request)) => request,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        if let Err(error) = session.answer(&request).and_then(|answer| write(&mut stream, &answer)) {
            break Err(error);
        }
    };
    if let Some(other) = other {
        leave(streams, &other);
    }
    ended
}
