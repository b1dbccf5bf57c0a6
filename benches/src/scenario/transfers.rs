//! Transfers: a pull until a container can start, and pushes to an empty registry.

use crate::bench::{Bench, Stores};
use crate::disk::size_of;
use crate::figures::Figures;
use crate::peer::Peer;
use crate::workload::Workload;

const IMAGE: &str = "w7/image:1";

/// w7: a pull into an empty store.
pub(super) fn pull(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    bench.images().layers()?;
    let image = bench.registry.reference(IMAGE);
    bench.rounds(peers, Stores::Emptied, |_, peer| {
        let pulled = peer.measure(&mut peer.pull(&image))?;
        let mountable = "w7 pull to mountable".to_owned();
        let Some(mut mount) = peer.mount(&image) else { return Ok(vec![(mountable, pulled)]) };
        let mounted = peer.measure(&mut mount)?;
        Ok(vec![(mountable, pulled.then(mounted)), ("w7 pull alone".to_owned(), pulled)])
    })
}

/// w8: pushes of the same image, as it was pulled and as it was built.
pub(super) fn push(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    bench.images().layers()?;
    bench.images().debian()?;
    let context = Workload::W7.make(&bench.contexts())?;
    let dockerfile = bench.dockerfile(&context, "Dockerfile")?;
    let image = bench.registry.reference(IMAGE);
    bench.rounds(peers, Stores::Emptied, |bench, peer| {
        peer.measure(&mut peer.pull(&image))?;
        let pulled = push_to_empty(bench, peer, &image)?;
        peer.measure(&mut peer.build(&context, &dockerfile, "built"))?;
        let built = push_to_empty(bench, peer, "built")?;
        Ok(vec![("w8 push as pulled".to_owned(), pulled), ("w8 push as built".to_owned(), built)])
    })
}

/// Empties the target registry, and pushes an image there.
fn push_to_empty(bench: &mut Bench, peer: &Peer, image: &str) -> anyhow::Result<Figures> {
    bench.target.empty()?;
    let target = bench.target.reference("w8/image:1");
    peer.measure(&mut peer.tag(image, &target))?;
    let pushed = peer.measure(&mut peer.push(&target))?;
    Ok(Figures { bytes: Some(size_of(&bench.target.blobs())), ..pushed })
}
