//! Docker's daemon, of our own: its store in a directory, its socket in `/run`, no network, in a group.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::Cgroup;
use crate::disk::remove;

/// Where the machine's own containerd is; a daemon would use that one, and its CPU time would not be counted.
const OTHER_CONTAINERD: &str = "/run/containerd/containerd.sock";

/// A running daemon; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct DockerDaemon {
    program: Child,
    group: Cgroup,
    /// Its socket and what it keeps while it runs; short, as the path of a socket must be.
    state: PathBuf,
}

impl DockerDaemon {
    /// Starts a daemon whose store is `store`, in the group `group`; its containers are in `containers`. What it says goes to
    /// the file `log`.
    ///
    /// # Errors
    ///
    /// When `dockerd` is not installed or does not start, or the machine's containerd would do its work.
    pub(crate) fn start(store: &Path, group: &Cgroup, containers: &Cgroup, log: &Path) -> anyhow::Result<Self> {
        if Path::new(OTHER_CONTAINERD).exists() {
            bail!("`dockerd` would use the containerd of `{OTHER_CONTAINERD}`, whose CPU time is not counted here");
        }
        let state = Path::new("/run").join(group.path().trim_start_matches('/').replace('/', "-"));
        remove(&state)?;
        fs::create_dir(&state).with_context(|| format!("cannot make `{}`", state.display()))?;
        let output = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let errors = output.try_clone().context("cannot write the log of `dockerd`")?;
        let mut command = Command::new("dockerd");
        command
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false", "--cgroup-parent", &containers.path()])
            .arg("--data-root")
            .arg(store)
            .arg("--exec-root")
            .arg(state.join("exec"))
            .arg("--pidfile")
            .arg(state.join("pid"))
            .arg("--host")
            .arg(host(&state))
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C is for us; it is told when its turn has come.
            .process_group(0);
        let program = group.enter(|| command.spawn().context("cannot run `dockerd`"))?;
        let mut daemon = Self { program, group: group.clone(), state };
        daemon.wait(log)?;
        Ok(daemon)
    }

    /// What clients need to find it, and nothing of the user's.
    pub(crate) fn flags(&self) -> [String; 4] {
        let config = self.state.join("client").display().to_string();
        ["--config".to_owned(), config, "--host".to_owned(), host(&self.state)]
    }

    fn wait(&mut self, log: &Path) -> anyhow::Result<()> {
        for _ in 0..600 {
            if self.state.join("sock").exists() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.program.try_wait() {
                bail!("`dockerd` ended at once ({status}); it says why in `{}`", log.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("`dockerd` does not start; see `{}`", log.display())
    }

    fn has_ended(&mut self) -> bool {
        matches!(self.program.try_wait(), Ok(Some(_)))
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        if let Ok(Some(pid)) = i32::try_from(self.program.id()).map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..400 {
            if self.has_ended() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // Containerd ends a little later, and what has hung is not waited for.
        self.group.kill();
        let _ = self.program.wait();
        // The next one removes what cannot be removed now.
        let _ = remove(&self.state);
    }
}

fn host(state: &Path) -> String {
    let socket: PathBuf = state.join("sock");
    format!("unix://{}", socket.display())
}
