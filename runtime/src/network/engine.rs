//! The thread that relays the traffic of all links of a network.
//!
//! ```text
//! Network::attach, Attachment::drop ─ command, wake ─▶ thread: wait ▶ commands ▶ events of devices and sockets ▶ deadlines ▶ wait …
//! ```
//!
//! - The thread never blocks but in `Poller::wait`, and wakes only for something to do.
//! - It runs in the network namespace of the process: its sockets are the host's.
//! - It ends when the last [`Engine`] handle is dropped; all sockets and devices are closed then.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::budget::Budget;
use super::config::NetworkConfig;
use super::device::{Device, RECEIVE_SIZE};
use super::dns::Nameservers;
use super::link::{Link, Shared};
use super::poller::{Event, Interest, Poller, Token, Waker};
use super::published::PublishedPort;

/// What a flow reads from its socket at once.
const SCRATCH_SIZE: usize = 128 * 1024;

/// The running thread. Dropping it ends the thread.
#[derive(Debug)]
pub(super) struct Engine {
    commands: mpsc::Sender<Command>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Command {
    Attach { number: u32, device: Device, ports: Vec<PublishedPort>, done: mpsc::SyncSender<io::Result<()>> },
    Detach { number: u32, done: mpsc::SyncSender<Option<Device>> },
    Stop,
}

/// The thread has ended.
#[derive(Debug)]
pub(super) struct Ended;

impl Engine {
    pub(super) fn start(config: &NetworkConfig) -> io::Result<Engine> {
        let (poller, waker) = Poller::new()?;
        let (commands, received) = mpsc::channel();
        let shared = Shared {
            poller,
            budget: Budget::of_the_process(),
            nameservers: Nameservers::new(config.nameservers.clone()),
            host_loopback: config.host_loopback,
            scratch: vec![0; SCRATCH_SIZE],
            now: Instant::now(),
        };
        let relay = Relay { shared, commands: received, links: HashMap::new() };
        let thread = thread::Builder::new().name("network".to_owned()).spawn(move || relay.run())?;
        Ok(Engine { commands, waker, thread: Some(thread) })
    }

    /// Relays the traffic of `device` and what arrives at `ports` from now on; `number` is neither 0 nor that of another link.
    pub(super) fn attach(
        &self,
        number: u32,
        device: Device,
        ports: Vec<PublishedPort>,
    ) -> Result<io::Result<()>, Ended> {
        let (done, result) = mpsc::sync_channel(1);
        self.tell(Command::Attach { number, device, ports, done })?;
        result.recv().map_err(|_| Ended)
    }

    /// Closes the sockets of a link and returns its device: closing that takes long, and must not hold up the other links.
    pub(super) fn detach(&self, number: u32) -> Result<Option<Device>, Ended> {
        let (done, result) = mpsc::sync_channel(1);
        self.tell(Command::Detach { number, done })?;
        result.recv().map_err(|_| Ended)
    }

    fn tell(&self, command: Command) -> Result<(), Ended> {
        self.commands.send(command).map_err(|_| Ended)?;
        self.waker.wake();
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It fails only if the thread has ended already; a panic in it was reported by its hook.
        let _ = self.tell(Command::Stop);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the thread holds.
#[derive(Debug)]
struct Relay {
    shared: Shared,
    commands: mpsc::Receiver<Command>,
    links: HashMap<u32, Link>,
}

impl Relay {
    fn run(mut self) {
        let mut buffer = Box::new([0; RECEIVE_SIZE]);
        let mut events = Vec::new();
        loop {
            let deadline = self.links.values().filter_map(Link::deadline).min();
            let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if self.shared.poller.wait(timeout, &mut events).is_err() {
                // Only possible with a descriptor that is none: nothing could be relayed any more.
                return;
            }
            self.shared.now = Instant::now();
            while let Ok(command) = self.commands.try_recv() {
                match command {
                    Command::Attach { number, device, ports, done } => {
                        // Whoever asked may have gone.
                        let _ = done.send(self.attach(number, device, ports));
                    }
                    Command::Detach { number, done } => {
                        let link = self.links.remove(&number);
                        let _ = done.send(link.map(|link| link.detach(&mut buffer, &mut self.shared)));
                    }
                    Command::Stop => {
                        let Relay { links, mut shared, .. } = self;
                        links.into_values().for_each(|link| drop(link.detach(&mut buffer, &mut shared)));
                        return;
                    }
                }
            }
            for event in events.drain(..) {
                Self::on_event(&mut self.links, &mut self.shared, &event, &mut buffer);
            }
            for link in self.links.values_mut() {
                link.on_tick(&mut self.shared);
            }
        }
    }

    fn attach(&mut self, number: u32, device: Device, ports: Vec<PublishedPort>) -> io::Result<()> {
        let mut link = Link::new(number, device);
        let poller = &self.shared.poller;
        poller.add(link.device(), Token { link: number, flow: 0 }, Interest::Readable)?;
        ports.into_iter().try_for_each(|port| link.publish(port, poller))?;
        self.links.insert(number, link);
        Ok(())
    }

    fn on_event(links: &mut HashMap<u32, Link>, shared: &mut Shared, event: &Event, buffer: &mut [u8; RECEIVE_SIZE]) {
        // An event of a link that was detached in the same turn belongs to nobody.
        let Some(link) = links.get_mut(&event.token.link) else { return };
        if event.token.flow == 0 {
            // What is left is reported again.
            link.on_packets(buffer, shared);
        } else {
            link.on_socket(event, shared);
        }
    }
}
