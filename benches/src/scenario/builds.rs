//! Builds: cached, cold, of many files, and of images that share layers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::bench::{Bench, Stores};
use crate::disk::Space;
use crate::figures::Figures;
use crate::peer::Peer;
use crate::workload::{Workload, touch_one};

const BUSYBOX: &str = "base/busybox:1";

/// w1: a build of what was built.
pub(super) fn cached(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    let (context, base) = prepare(bench, Workload::W1)?;
    let dockerfile = bench.dockerfile(&context, "Dockerfile")?;
    bench.rounds(peers, Stores::Emptied, |_, peer| {
        peer.measure(&mut peer.pull(&base))?;
        peer.measure(&mut peer.build(&context, &dockerfile, "w1"))?;
        Ok(vec![("w1 cached".to_owned(), peer.measure(&mut peer.build(&context, &dockerfile, "w1"))?)])
    })
}

/// w2 and w6: a build of which nothing is cached.
pub(super) fn cold(bench: &mut Bench, peers: &mut [Peer], workload: Workload) -> anyhow::Result<()> {
    let (context, base) = prepare(bench, workload)?;
    let dockerfile = bench.dockerfile(&context, "Dockerfile")?;
    bench.rounds(peers, Stores::Emptied, |_, peer| {
        peer.measure(&mut peer.pull(&base))?;
        Ok(vec![(format!("{} cold", workload.name()), peer.measure(&mut peer.build(&context, &dockerfile, "cold"))?)])
    })
}

/// w3: a COPY of many files, with and without a RUN after it.
pub(super) fn files(bench: &mut Bench, peers: &mut [Peer], workload: Workload) -> anyhow::Result<()> {
    let (context, base) = prepare(bench, workload)?;
    touch_one(&context, 0)?;
    let with_run = bench.dockerfile(&context, "Dockerfile")?;
    let without = with_run.with_extension("without-run");
    let text = fs::read_to_string(&with_run).with_context(|| format!("cannot read `{}`", with_run.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with("RUN "));
    fs::write(&without, lines.map(|line| format!("{line}\n")).collect::<String>())
        .with_context(|| format!("cannot write `{}`", without.display()))?;

    let mut change = 0;
    for (dockerfile, name) in [(with_run, workload.name()), (without, &format!("{} COPY only", workload.name()))] {
        bench.rounds(peers, Stores::Emptied, |_, peer| {
            let build = || peer.measure(&mut peer.build(&context, &dockerfile, "w3"));
            peer.measure(&mut peer.pull(&base))?;
            let cold = build()?;
            change += 1;
            touch_one(&context, change)?;
            let (one_file, nothing) = (build()?, build()?);
            let named = |what: &str, figures| (format!("{name}, {what}"), figures);
            Ok(vec![named("cold", cold), named("one file", one_file), named("nothing", nothing)])
        })?;
    }
    Ok(())
}

/// w11: what ten images take that share a base and a layer.
pub(super) fn shared(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    let context = Workload::W11.make(&bench.contexts())?;
    bench.images().debian()?;
    let dockerfiles: Vec<_> =
        (0..10).map(|number| bench.dockerfile(&context, &format!("Dockerfile.{number}"))).collect::<Result<_, _>>()?;
    bench.once(peers, Stores::Emptied, |_, peer| {
        let empty = peer.space();
        let build = |dockerfile: &Path, number: usize| {
            peer.measure(&mut peer.build(&context, dockerfile, &format!("shared{number}")))
        };
        build(&dockerfiles[0], 0)?;
        let one = peer.space();
        for (number, dockerfile) in dockerfiles.iter().enumerate().skip(1) {
            build(dockerfile, number)?;
        }
        let ten = peer.space();
        Ok(vec![("w11 one image".to_owned(), taken(one, empty)), ("w11 ten images".to_owned(), taken(ten, empty))])
    })
}

/// Makes a workload on busybox, and returns its context and the base.
fn prepare(bench: &Bench, workload: Workload) -> anyhow::Result<(PathBuf, String)> {
    bench.images().busybox()?;
    Ok((workload.make(&bench.contexts())?, bench.registry.reference(BUSYBOX)))
}

fn taken(now: Space, before: Space) -> Figures {
    Figures {
        bytes: Some(now.bytes.saturating_sub(before.bytes)),
        inodes: Some(now.inodes.saturating_sub(before.inodes)),
        ..Figures::default()
    }
}
