//! Listings: what the short commands cost in a store of many images.

use crate::bench::{Bench, Stores};
use crate::images::MANY;
use crate::peer::Peer;

/// How many times a command runs for one figure, as one alone is too short to be told from noise.
const TIMES: u32 = 20;

/// w10: images, history and inspect.
pub(super) fn many_images(bench: &mut Bench, peers: &mut [Peer]) -> anyhow::Result<()> {
    bench.images().many()?;
    let references: Vec<_> =
        (0..MANY).map(|number| bench.registry.reference(&format!("w10/image{number}:1"))).collect();
    bench.once(peers, Stores::Emptied, |_, peer| {
        references.iter().try_for_each(|reference| peer.measure(&mut peer.pull(reference)).map(drop))?;
        Ok(vec![])
    })?;
    let middle = &references[MANY / 2];
    bench.rounds(peers, Stores::Kept, |_, peer| {
        let mut figures = vec![("w10 images".to_owned(), peer.measure_many(&mut peer.images(), TIMES)?)];
        if let Some(mut history) = peer.history(middle) {
            figures.push(("w10 history".to_owned(), peer.measure_many(&mut history, TIMES)?));
        }
        figures.push(("w10 inspect".to_owned(), peer.measure_many(&mut peer.inspect(middle), TIMES)?));
        Ok(figures)
    })
}
