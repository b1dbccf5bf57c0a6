//! The built program in an environment of its own.
//!
//! ```text
//! /tmp/wharf-test-XXXXXX/   0755
//!   work/    the working directory: build contexts
//!   home/    HOME; home/.docker is DOCKER_CONFIG
//!   store/   WHARF_ROOT
//!   bin/     a copy of the program, when it runs as another user
//! ```
//!
//! Nothing of the caller's environment is passed on.

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TIMEOUT: Duration = Duration::from_secs(120);

/// Directories, variables and a user for running the program; dropped, they are gone.
#[derive(Debug)]
pub struct TestEnv {
    dir: TempDir,
    program: PathBuf,
    user: Option<User>,
    variables: Vec<(String, String)>,
    timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

/// What a run of the program came to.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Output {
    pub pid: u32,
    /// `None` when it was killed by a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl TestEnv {
    /// Makes an environment for `program` (`env!("CARGO_BIN_EXE_wharf")` in the CLI's tests), run as the calling user.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self::make(program.as_ref().to_owned(), None)
    }

    /// Makes an environment in which `program` runs as `user` (a name in `/etc/passwd`), from a copy that this user can read;
    /// `None` when the caller is not root or there is no such user.
    pub fn as_user(program: impl AsRef<Path>, user: &str) -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == user)?;
        let user = User { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? };
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let mut env = Self::make(program.as_ref().to_owned(), Some(user));
        let copy = env.dir.path().join("bin/wharf");
        fs::copy(&env.program, &copy).expect("the program can be copied");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("the copy is ours");
        env.program = copy;
        Some(env)
    }

    fn make(program: PathBuf, user: Option<User>) -> Self {
        let dir = tempfile::Builder::new().prefix("wharf-test-").tempdir_in("/tmp").expect("/tmp can be written");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("the directory is ours");
        for name in ["work", "home", "home/.docker", "store", "bin"] {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("a directory can be made");
            if let Some(user) = user {
                chown(&path, Some(user.uid), Some(user.gid)).expect("root may change owners");
            }
        }
        Self { dir, program, user, variables: Vec::new(), timeout: TIMEOUT }
    }

    /// Returns the working directory of the program.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// Returns the home directory of the program.
    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// Returns the program's store.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Returns the program's `config.json`, which need not exist.
    pub fn docker_config(&self) -> PathBuf {
        self.home().join(".docker/config.json")
    }

    /// Sets an environment variable of the program.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.variables.retain(|(held, _)| held != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets how long a run may take.
    pub fn set_timeout(&mut self, timeout: Duration) -> &mut Self {
        self.timeout = timeout;
        self
    }

    /// Writes `content` to `path`, relative to the working directory, with its directories; returns the whole path.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work().join(path);
        fs::create_dir_all(path.parent().expect("a file has a directory")).expect("directories can be made");
        fs::write(&path, content).expect("a file can be written");
        if let Some(user) = self.user {
            let within = path.ancestors().take_while(|above| *above != self.work());
            within.for_each(|above| chown(above, Some(user.uid), Some(user.gid)).expect("root may change owners"));
        }
        path
    }

    /// Runs the program in the working directory with these arguments and no input.
    pub fn wharf(&self, arguments: &[&str]) -> Output {
        self.wharf_with_input(arguments, "")
    }

    /// Runs the program in the working directory with these arguments and this input.
    pub fn wharf_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Output {
        let mut command = self.command();
        command.args(arguments);
        run(command, input.as_ref(), self.timeout)
    }

    /// Runs `wrapper`, a program and its arguments, with the program and `arguments` behind them.
    pub fn wharf_under(&self, wrapper: &[&str], arguments: &[&str]) -> Output {
        let program = self.command();
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program.get_program()).args(program.get_args()).args(arguments);
        let variables = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.env_clear().envs(variables).current_dir(self.work());
        run(command, b"", self.timeout)
    }

    /// Returns the program in its environment, for tests that need the running process.
    pub fn command(&self) -> Command {
        let mut command = match self.user {
            None => Command::new(&self.program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid));
                command.arg("--clear-groups").arg("--").arg(&self.program);
                command
            }
        };
        command.current_dir(self.work()).env_clear().env("PATH", SYSTEM_PATH).env("HOME", self.home());
        command.env("DOCKER_CONFIG", self.home().join(".docker")).env("WHARF_ROOT", self.store());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Output {
    /// Checks that the program succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits_with(0)
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn exits_with(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "signal {:?}\nstdout:\n{}\nstderr:\n{}",
            self.signal,
            self.stdout,
            self.stderr
        );
        self
    }
}

/// Runs `command` with `input`, and kills it and its process group when it takes longer than `timeout`.
fn run(mut command: Command, input: &[u8], timeout: Duration) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = piped.spawn().expect("the program starts");
    let (pid, group) = (child.id(), Pid::from_child(&child));
    let stdout = read(child.stdout.take().expect("it is piped"));
    let stderr = read(child.stderr.take().expect("it is piped"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let (send, receive) = mpsc::channel::<ExitStatus>();
    let waiter = thread::spawn(move || {
        let status = child.wait().expect("a child can be waited for");
        send.send(status).expect("the status is waited for");
    });
    let in_time = receive.recv_timeout(timeout);
    // What it left behind would keep the pipes open.
    let _ = kill_process_group(group, Signal::KILL);
    let status = in_time.or_else(|_| receive.recv()).expect("a killed child ends");
    waiter.join().expect("waiting does not panic");
    writer.join().expect("writing does not panic");
    let stdout = stdout.join().expect("reading does not panic");
    let stderr = stderr.join().expect("reading does not panic");
    assert!(in_time.is_ok(), "the program ran longer than {timeout:?}\nstdout:\n{stdout}\nstderr:\n{stderr}");
    Output { pid, code: status.code(), signal: status.signal(), stdout, stderr }
}

fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_only_the_environment_made_for_it() {
        let mut env = TestEnv::new("/usr/bin/env");
        env.set("WHARF_EXTRA", "1");
        let output = env.wharf(&[]).success();
        let mut names: Vec<_> = output.stdout.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["DOCKER_CONFIG", "HOME", "PATH", "WHARF_EXTRA", "WHARF_ROOT"]);
    }

    #[test]
    fn files_input_output_and_code_pass_through() {
        let env = TestEnv::new("/bin/sh");
        env.file("sub/name", "content");
        let output = env.wharf_with_input(&["-c", "cat sub/name -; echo bad >&2; exit 3"], "input").exits_with(3);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("contentinput", "bad\n"));
        assert_eq!(env.wharf(&["-c", "kill -9 $$"]).signal, Some(9));
    }

    #[test]
    fn a_wrapper_runs_the_program_in_the_same_environment() {
        let env = TestEnv::new("/bin/sh");
        let output = env.wharf_under(&["nice", "-n", "1"], &["-c", "echo $WHARF_ROOT; pwd; nice"]).success();
        assert_eq!(output.stdout, format!("{}\n{}\n1\n", env.store().display(), env.work().display()));
    }

    #[test]
    #[should_panic(expected = "the program ran longer than")]
    fn a_program_that_hangs_is_killed() {
        let mut env = TestEnv::new("/bin/sh");
        env.set_timeout(Duration::from_millis(50));
        drop(env.wharf(&["-c", "cat /dev/zero >/dev/null & wait"]));
    }

    #[test]
    fn another_user_can_run_a_copy_and_write_its_directories() {
        let Some(env) = TestEnv::as_user("/bin/sh", "nobody") else { return };
        env.file("sub/name", "content");
        let output = env.wharf(&["-c", "id -u; cat sub/name; touch sub/x $HOME/x $WHARF_ROOT/x"]).success();
        assert_eq!(output.stdout, "65534\ncontent");
    }
}
