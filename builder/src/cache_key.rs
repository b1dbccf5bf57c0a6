//! Cache keys: what decides whether a step's layer can be used again.
//!
//! | input | in the key | why |
//! |---|---|---|
//! | the op after expansion: arguments, script, environment, directory, user, network, further hosts, destinations, owners, modes | yes | it decides the result |
//! | build arguments that the step can see | yes, as environment | a step may print them |
//! | predefined proxy arguments | names no, values no | where a build runs must not matter (Dockerfile reference, "Predefined ARGs") |
//! | the layers below | yes, as chain ID | their content, however they were made |
//! | the layers below a linked copy | as above; and modes and owners of the directories above its destination, and who `--chown` is | nothing else of them is in its layer; the chain ID is a shorter way to the same answer |
//! | base image | as its layers | the same base under another name is the same base |
//! | files from the build context | by content (`content_digest.rs`) | a touch or a checkout must not miss |
//! | files from another stage or image, copied or mounted | by content; and by its chain ID, a shorter way to the same answer | a rebuilt stage with the same output hits |
//! | files and trees that ADD fetches | by digest, checksum or commit (`remote.rs`) | they are looked up before anything is fetched |
//! | platform | yes | |
//! | instruction text, line, stage name, label | no | only what it does counts |
//! | time, host, user who builds | no | |
//!
//! The *definition* of a step (op and platform, no inputs) answers "was this step ever built?": if not, nothing needs to be digested
//! before it runs. Its *exact* key names its inputs as they are; a second one names files of a stage by content, and a third what
//! a linked copy sees of the layers below. Each key is stored with its recipe, the JSON it was made of.

use layer_store::CacheKey;
use oci::{ChainId, Platform};
use serde::Serialize;
use serde_json::{Value, json};

use crate::content_digest::ContentDigest;
use crate::draft::Leading;
use crate::graph::Op;
use crate::remote::Pin;
use crate::rootfs::Owner;

/// Raised whenever a change of this program makes the same step give another result.
const VERSION: u32 = 3;

/// Files that a step copies or mounts, as its key sees them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FilesKey {
    /// These files.
    Content(ContentDigest),
    /// All files of this stack of layers; `None` for no layer.
    Chain(Option<ChainId>),
}

/// What lies below a step, as its key sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum BelowKey {
    /// This stack of layers; `None` for no layer.
    Chain(Option<ChainId>),
    /// What a linked copy sees of any stack.
    Linked(LinkedKey),
}

/// What a linked copy takes from the files below.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LinkedKey {
    /// Who `--chown` is there.
    pub(crate) owner: Option<Owner>,
    /// The directories that the layer repeats.
    pub(crate) leading: Leading,
}

/// A key with what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct RecipedKey {
    pub(crate) key: CacheKey,
    pub(crate) recipe: Value,
}

/// Returns the key of a step without its inputs.
pub(crate) fn definition_key(op: &Op, platform: &Platform) -> RecipedKey {
    from_recipe(json!({ "version": VERSION, "platform": platform.to_string(), "op": op_value(op) }))
}

/// Returns the key of a step on these layers and files.
pub(crate) fn input_key(
    op: &Op,
    platform: &Platform,
    below: &BelowKey,
    (files, pins): (&[FilesKey], &[Pin]),
) -> RecipedKey {
    from_recipe(json!({
        "version": VERSION,
        "platform": platform.to_string(),
        "op": op_value(op),
        "below": below,
        "files": files,
        "fetched": pins,
    }))
}

fn from_recipe(recipe: Value) -> RecipedKey {
    let bytes = serde_json::to_vec(&recipe).expect("a JSON value has string keys");
    let key = blake3::hash(&bytes).to_hex().as_str().parse().expect("BLAKE3 gives 64 hexadecimal digits");
    RecipedKey { key, recipe }
}

/// The op as JSON, without the values that are not part of a key.
fn op_value(op: &Op) -> Value {
    let mut op = op.clone();
    if let Op::Exec(exec) = &mut op {
        let unkeyed = std::mem::take(&mut exec.unkeyed_env);
        exec.env.retain(|entry| {
            let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
            !unkeyed.iter().any(|unkeyed| unkeyed == name)
        });
    }
    serde_json::to_value(&op).expect("ops have string keys and no failing serialisers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec_mount::{ExecMount, TmpfsMount};
    use crate::graph::{Exec, HostEntry, InlineFile, RunNetwork, RunSecurity};
    use oci::{DiffId, Digest};

    fn exec() -> Exec {
        Exec {
            args: vec!["/bin/sh".to_owned(), "-c".to_owned(), "make".to_owned()],
            script: None,
            env: vec!["A=1".to_owned(), "HTTP_PROXY=http://proxy".to_owned()],
            unkeyed_env: vec!["HTTP_PROXY".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            network: RunNetwork::Default,
            extra_hosts: Vec::new(),
            mounts: Vec::new(),
            security: RunSecurity::Sandbox,
        }
    }

    fn key(exec: Exec, below: &[&[u8]]) -> CacheKey {
        let layers: Vec<_> = below.iter().map(|bytes| DiffId(Digest::of(bytes))).collect();
        input_key(&Op::Exec(exec), &Platform::host(), &BelowKey::Chain(ChainId::of(&layers)), (&[], &[])).key
    }

    #[test]
    fn every_field_that_decides_the_result_changes_the_key() {
        let base = key(exec(), &[b"a"]);
        let changed: [fn(&mut Exec); 10] = [
            |exec| exec.args.push("x".to_owned()),
            |exec| exec.env[0] = "A=2".to_owned(),
            |exec| exec.cwd = "/x".to_owned(),
            |exec| exec.user = "app".to_owned(),
            |exec| exec.network = RunNetwork::None,
            |exec| exec.network = RunNetwork::Host,
            |exec| exec.security = RunSecurity::Insecure,
            |exec| exec.mounts.push(ExecMount::Tmpfs(TmpfsMount { target: "/t".to_owned(), size: None })),
            |exec| exec.extra_hosts.push(HostEntry { name: "db".to_owned(), address: [192, 0, 2, 1].into() }),
            |exec| exec.script = Some(InlineFile { name: "EOF".to_owned(), content: "#!/bin/sh\n".to_owned() }),
        ];
        for change in changed {
            let mut exec = exec();
            change(&mut exec);
            assert_ne!(key(exec, &[b"a"]), base);
        }
        assert_ne!(key(exec(), &[b"b"]), base);
        assert_ne!(key(exec(), &[]), base);
    }

    #[test]
    fn proxies_do_not_change_the_key() {
        let mut other = exec();
        other.env[1] = "HTTP_PROXY=http://other".to_owned();
        assert_eq!(key(other, &[b"a"]), key(exec(), &[b"a"]));
    }
}
