//! A small ext4 of its own for the store: one that can be full, and whose power can be cut.
//!
//! The file system is in a file, mounted by a loop device in a mount namespace of the test's thread: it goes with that.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::thread::UnshareFlags;
use test_support::TestEnv;

use crate::point::Breach;
use crate::scene::SCENES;
use crate::world::World;

/// Bytes of the file system.
const SIZE: u64 = 48 << 20;
/// How many moments of a build power is cut at.
const MOMENTS: usize = 5;

/// A file system, mounted over a store; dropped, it is not mounted any more.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn make(env: &TestEnv) -> Self {
        let (image, at) = (env.home().join("disk"), env.store());
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("a sparse file can be made");
        // nothing is kept for root, and no table is left to be written later
        succeeds(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-E", "lazy_itable_init=0"]).arg(&image));
        let disk = Self { image, at };
        disk.mount();
        disk
    }

    fn mount(&self) {
        succeeds(Command::new("mount").args(["-o", "loop"]).args([&self.image, &self.at]));
    }

    /// Fills the disk to its last byte.
    fn fill(&self) -> PathBuf {
        let filler = self.at.join("filler");
        let mut file = File::create(&filler).expect("an empty file has room");
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
        filler
    }

    /// Cuts the power and mounts what was on the disk by then.
    fn cut_power(&self, cutter: &Path) {
        succeeds(Command::new(cutter).arg(&self.at));
        unmount(&self.at, UnmountFlags::empty()).expect("nobody uses it");
        self.mount();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // else the store's directory could not be removed
        let _ = unmount(&self.at, UnmountFlags::DETACH);
    }
}

fn succeeds(command: &mut Command) {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `body` where it can mount; not at all for users who cannot.
fn with_mounts(body: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            #[expect(
                deprecated,
                reason = "these two flags concern this thread alone, and it shares no paths with others"
            )]
            rustix::thread::unshare(UnshareFlags::FS | UnshareFlags::NEWNS).expect("root may unshare");
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .expect("it is our namespace");
            body();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// A build meets a disk that is really full, and what frees it works there.
pub(crate) fn a_full_disk(world: &World) {
    with_mounts(|| {
        let mut disk = None;
        let copy = world.copy_to(&SCENES[0], |env| disk = Some(Disk::make(env)));
        let disk = disk.expect("it was made");
        let filler = disk.fill();
        let failed = copy.run().exits_with(1).stderr;
        let store = copy.env().store().display().to_string();
        assert!(failed.contains("No space left on device") && failed.contains(&store), "{failed}");
        assert!(failed.contains("hint: the disk is full"), "{failed}");
        copy.no_name_is_lost();
        copy.env().wharf(&["system", "check", "--quick"]).success();
        copy.remove_everything();
        assert_eq!(copy.env().wharf(&["images", "-q"]).success().stdout, "");
        std::fs::remove_file(filler).expect("it is ours");
        copy.env().wharf(&["system", "check"]).success();
        copy.env().nothing_is_left(&[]);
    });
}

/// Power is cut while a build runs, and right after it.
pub(crate) fn power_cuts(world: &World) {
    with_mounts(|| {
        let points = world.points(&SCENES[0], Breach::Kill);
        let cutter = compiled(&world.home());
        for point in points.iter().step_by(points.len().div_ceil(MOMENTS)).map(Some).chain([None]) {
            let mut disk = None;
            let copy = world.copy_to(&SCENES[0], |env| disk = Some(Disk::make(env)));
            let disk = disk.expect("it was made");
            succeeds(Command::new("sync").arg("-f").arg(&disk.at));
            match point {
                Some(point) => drop(copy.killed_at(point)),
                None => drop(copy.run().success()),
            }
            copy.env().no_process_is_left();
            disk.cut_power(&cutter);
            // what the build left may be half written; what has a name is not
            let repaired = copy.env().wharf(&["system", "check", "--repair"]).success().stdout;
            let is_lost = |line: &str| ["image ", "name ", "volume "].iter().any(|kind| line.starts_with(kind));
            assert!(!repaired.lines().any(is_lost), "{point:?}: {repaired}");
            copy.no_name_is_lost();
            if point.is_none() {
                copy.env().wharf(&["run", "--rm", "--network=none", "new", "true"]).success();
            }
            copy.run().success();
        }
    });
}

fn compiled(directory: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/power_cut.c");
    let program = directory.join("power_cut");
    succeeds(Command::new("cc").arg("-o").args([&program, &source]));
    program
}
