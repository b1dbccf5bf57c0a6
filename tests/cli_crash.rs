//! Commands that are broken off: killed at any system call, by a full disk, or with the machine.
//!
//! ```text
//! a used store ─copy─▶ command under strace ─killed at point N─▶ `system check` finds the store whole
//!                                                              ▶ no name is lost, `tmp/` and `leases/` are empty
//!                                                              ▶ the same command succeeds
//!                                                              ▶ everything can be removed, and nothing is left
//! ```
//!
//! `crash/scene.rs` is the table of commands. The tests take points of all commands at even distances; `make crash` takes all of
//! them, and kills at random moments besides: it runs this program with the word `every-point`.

#[path = "crash/disk.rs"]
mod disk;
#[path = "crash/point.rs"]
mod point;
#[path = "crash/scene.rs"]
mod scene;
#[path = "crash/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use test_support::harness::{self, Test};

use point::{Breach, Point};
use scene::{SCENES, Scene};
use world::World;

/// Breaches in a test.
const SAMPLE: usize = 60;
/// Kills at random moments, of `make crash`.
const RANDOM: u32 = 500;
const THREADS: usize = 2;

type Job = (&'static Scene, Point);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "every-point") {
        return every_point(&World::new());
    }
    let tests: [Test<World>; 4] = [
        ("a_command_that_is_killed_anywhere_leaves_the_store_whole", |world| sample(world, Breach::Kill)),
        ("a_command_that_meets_a_full_disk_leaves_the_store_whole", |world| sample(world, Breach::DiskFull)),
        ("a_disk_that_is_full_is_named_and_can_be_freed", disk::a_full_disk),
        ("what_has_a_name_is_whole_after_a_power_cut", disk::power_cuts),
    ];
    harness::run(&words, &tests, World::new)
}

fn jobs(world: &World, breach: Breach) -> Vec<Job> {
    let of_scene = |scene: &'static Scene| world.points(scene, breach).into_iter().map(move |point| (scene, point));
    SCENES.iter().flat_map(of_scene).collect()
}

fn sample(world: &World, breach: Breach) {
    let jobs = jobs(world, breach);
    let step = jobs.len().div_ceil(SAMPLE);
    let sample: Vec<Job> = jobs.into_iter().step_by(step).collect();
    let (struck, failed) = at_once(&sample, |(scene, point)| world.break_off(scene, point, breach));
    assert!(failed.is_empty(), "{} of {} breaches went wrong: {failed:#?}", failed.len(), sample.len());
    // not every call that fails fails the command
    assert!(struck * 4 > sample.len(), "only {struck} of {} points were reached", sample.len());
}

/// Does the jobs, several at the same time; returns how many commands were broken off, and which jobs failed.
fn at_once<J: Sync + std::fmt::Debug>(jobs: &[J], work: impl Fn(&J) -> bool + Sync) -> (usize, Vec<String>) {
    let (next, struck) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let run = || {
        let mut failed = Vec::new();
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(AssertUnwindSafe(|| work(job))) {
                Ok(was_struck) => drop(struck.fetch_add(usize::from(was_struck), Ordering::Relaxed)),
                Err(_) => failed.push(format!("{job:?}")),
            }
        }
        failed
    };
    let failed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(run)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("its panics are caught")).collect()
    });
    (struck.into_inner(), failed)
}

/// Breaks every command off at every point, and at random moments; says how often.
#[expect(clippy::print_stdout, reason = "this is a program of its own")]
fn every_point(world: &World) -> ExitCode {
    let mut all_failed = 0;
    for breach in [Breach::Kill, Breach::DiskFull] {
        for scene in SCENES {
            let jobs: Vec<Job> = world.points(scene, breach).into_iter().map(|point| (scene, point)).collect();
            let (struck, failed) = at_once(&jobs, |(scene, point)| world.break_off(scene, point, breach));
            println!("{breach:?}: {}: {} points, {struck} broken off, {} wrong", scene.name, jobs.len(), failed.len());
            failed.iter().for_each(|job| println!("  {job}"));
            all_failed += failed.len();
        }
    }
    let lengths: Vec<(&Scene, Duration)> = SCENES.iter().map(|scene| (scene, world.length(scene))).collect();
    let jobs: Vec<(&(&Scene, Duration), u32)> = lengths.iter().cycle().zip(0..RANDOM).collect();
    let (struck, failed) =
        at_once(&jobs, |((scene, length), at)| world.kill(scene, || std::thread::sleep(moment(*length, *at))));
    println!("random moments: {} kills, {struck} broken off, {} wrong: {failed:#?}", jobs.len(), failed.len());
    if all_failed + failed.len() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Moments of a command that takes `length`, spread by a fixed multiplier.
fn moment(length: Duration, at: u32) -> Duration {
    length * (at.wrapping_mul(0x9E37_79B1) >> 22) / 1024
}
