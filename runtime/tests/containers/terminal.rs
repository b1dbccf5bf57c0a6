//! A container with a terminal of its own.

use std::io::Read;

use runtime::terminal::{RawMode, Size, resize, size};
use runtime::{ExitStatus, Runtime, Stdio};

use crate::image::{Image, user};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] =
    tests![the_command_has_a_terminal_of_the_given_size, a_resized_terminal_tells_the_command, raw_mode_is_taken_back,];

fn read_all(mut terminal: impl Read) -> String {
    let mut bytes = Vec::new();
    // EIO is how a terminal says that nobody has the other end.
    let _io_error_at_the_end = terminal.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).replace("\r\n", "\n").trim_end().to_owned()
}

fn the_command_has_a_terminal_of_the_given_size(runtime: &Runtime) {
    let image = Image::new();
    let script =
        "tty; stty size; stat -c '%u %a' /dev/pts/0; echo via tty > /dev/tty; echo console > /dev/console; id -u";
    let mut container = image.shell(script);
    for uid in [0, 1000] {
        container.user = user(uid, uid, &[]);
        let size = Size { rows: 31, columns: 117 };
        let mut running = runtime.start(&container, Stdio::Terminal { size }).unwrap();
        let master = std::fs::File::from(running.terminal().unwrap().try_clone().unwrap());
        assert_eq!(read_all(master), format!("/dev/pts/0\n31 117\n{uid} 620\nvia tty\nconsole\n{uid}"));
        assert_eq!(running.wait().unwrap(), ExitStatus::Code(0));
    }
}

fn a_resized_terminal_tells_the_command(runtime: &Runtime) {
    let image = Image::new();
    let container = image.shell("trap 'stty size; exit 0' WINCH; echo ready; while true; do read -r line; done");
    let mut running = runtime.start(&container, Stdio::Terminal { size: Size::default() }).unwrap();
    let mut master = std::fs::File::from(running.terminal().unwrap().try_clone().unwrap());
    let mut ready = [0; 7];
    master.read_exact(&mut ready).unwrap();
    resize(running.terminal().unwrap(), Size { rows: 50, columns: 99 }).unwrap();
    assert_eq!(read_all(master), "50 99");
    assert_eq!(running.wait().unwrap(), ExitStatus::Code(0));
}

fn raw_mode_is_taken_back(runtime: &Runtime) {
    let image = Image::new();
    let container = image.container(&["sleep", "100"]);
    let running = runtime.start(&container, Stdio::Terminal { size: Size::default() }).unwrap();
    let master = running.terminal().unwrap();
    let before = rustix::termios::tcgetattr(master).unwrap();
    let raw = RawMode::enter(master).unwrap();
    let during = rustix::termios::tcgetattr(master).unwrap();
    assert_ne!(during.local_modes, before.local_modes);
    drop(raw);
    let after = rustix::termios::tcgetattr(master).unwrap();
    assert_eq!(after.local_modes, before.local_modes);
    assert_eq!(size(master).unwrap(), Size::default());
}
