//! The commands that are broken off. A new verb that changes the store is a new line here.

/// A command on a store that has the images `base` and `app` and the volume `data`.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// Run before, undisturbed.
    pub(crate) before: &'static [&'static [&'static str]],
    /// `{stocked}` is a registry with the image `demo/other:1`, `{empty}` one with nothing.
    pub(crate) command: &'static [&'static str],
    /// The names of images that may be gone afterwards.
    pub(crate) loses: &'static [&'static str],
    /// What the command says when it had done its work before it was broken off and is run again; empty when it then succeeds.
    pub(crate) done: &'static str,
}

pub(crate) const SCENES: &[Scene] = &[
    scene("build", &["build", "-q", "-t", "new", "ctx"]),
    scene("build a name anew", &["build", "-q", "--no-cache", "-t", "app", "ctx"]),
    scene("pull", &["pull", "-q", "{stocked}/demo/other:1"]),
    Scene { before: &[&["tag", "app", "{empty}/demo/app:1"]], ..scene("push", &["push", "-q", "{empty}/demo/app:1"]) },
    scene(
        "run",
        &["run", "--rm", "--network=none", "-v", "data:/d", "-v", "new:/etc", "app", "sh", "-c", "echo 1 >/d/x"],
    ),
    scene("tag", &["tag", "app", "other"]),
    Scene { loses: &["app:latest"], done: "no image is called", ..scene("rmi", &["rmi", "app"]) },
    Scene { loses: &["app:latest", "base:latest"], ..scene("image prune", &["image", "prune", "-af"]) },
    scene("builder prune", &["builder", "prune", "-f"]),
    Scene { loses: &["app:latest", "base:latest"], ..scene("system prune", &["system", "prune", "-af", "--volumes"]) },
    scene("save", &["save", "-q", "-o", "images.tar", "app"]),
    Scene {
        before: &[&["save", "-q", "-o", "images.tar", "app"], &["rmi", "app"], &["builder", "prune", "-af"]],
        loses: &["app:latest"],
        ..scene("load", &["load", "-q", "-i", "images.tar"])
    },
    Scene { before: &[&["export", "-o", "root.tar", "base"]], ..scene("import", &["import", "root.tar", "new"]) },
    scene("volume create", &["volume", "create", "new"]),
    Scene { done: "no volume is called", ..scene("volume rm", &["volume", "rm", "data"]) },
    scene("volume prune", &["volume", "prune", "-af"]),
];

const fn scene(name: &'static str, command: &'static [&'static str]) -> Scene {
    Scene { name, before: &[], command, loses: &[], done: "" }
}
