//! Measures a command: wall time, and CPU time and memory of the group that its peer is in.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cgroup::Cgroup;
use crate::figures::Figures;
use crate::interrupt::Interrupt;

/// How often the memory is looked at, and whether the user wants to stop.
const TICK: Duration = Duration::from_millis(10);

/// Where commands of a peer run and what is looked at meanwhile.
#[derive(Debug)]
pub(crate) struct Meter {
    /// What is read: everything of the peer.
    pub(crate) all: Cgroup,
    /// Where commands start.
    pub(crate) client: Cgroup,
    pub(crate) interrupt: Interrupt,
}

impl Meter {
    /// Runs `command`, `times` times one after the other, and returns what one of them cost. What they print goes to the file
    /// `output`.
    ///
    /// # Errors
    ///
    /// When one cannot be started or fails, with the last thing it said.
    pub(crate) fn measure(&self, command: &mut Command, times: u32, output: &Path) -> anyhow::Result<Figures> {
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch(&is_done));
            let timed = self.time(command, times, output);
            is_done.store(true, Ordering::Relaxed);
            let memory = watcher.join().expect("watching does not panic");
            self.interrupt.check()?;
            Ok(Figures { memory, ..timed? }.divided(times))
        })
    }

    fn time(&self, command: &mut Command, times: u32, output: &Path) -> anyhow::Result<Figures> {
        let (before, started) = (self.all.cpu_time()?, Instant::now());
        for _ in 0..times {
            run_in(&self.client, command, output)?;
        }
        let wall = started.elapsed();
        Ok(Figures { wall: Some(wall), cpu: Some(self.all.cpu_time()? - before), ..Figures::default() })
    }

    /// The most memory of the group until `is_done`; kills the commands when the user wants to stop.
    fn watch(&self, is_done: &AtomicBool) -> Option<u64> {
        let mut most = self.all.anonymous_memory();
        while !is_done.load(Ordering::Relaxed) {
            if self.interrupt.has_come() {
                self.client.kill();
            }
            std::thread::sleep(TICK);
            most = most.max(self.all.anonymous_memory());
        }
        most
    }
}

fn run_in(group: &Cgroup, command: &mut Command, output: &Path) -> anyhow::Result<()> {
    let file = || File::options().append(true).create(true).open(output);
    let name = shown(command);
    let written = fs::write(output, "").and_then(|()| Ok((file()?, file()?)));
    let (stdout, stderr) = written.with_context(|| format!("cannot write `{}`", output.display()))?;
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let mut child = group.enter(|| command.spawn().with_context(|| format!("cannot run `{name}`")))?;
    let status = child.wait().with_context(|| format!("cannot wait for `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed ({status}): {}", last_line(&fs::read_to_string(output).unwrap_or_default()));
    }
    Ok(())
}

/// Runs a helper program, of no peer, and returns what it prints.
///
/// # Errors
///
/// When it cannot be started or fails, with the last thing it said.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let name = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{name}`"))?;
    if !output.status.success() {
        bail!("`{name}` failed ({}): {}", output.status, last_line(&String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_is_named_with_the_last_thing_it_said() {
        let error = run(Command::new("sh").args(["-c", "echo one >&2; echo two >&2; echo >&2; exit 3"])).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("`sh -c ") && error.ends_with("failed (exit status: 3): two"), "{error}");
    }
}
