//! What peers are asked to do, each in its own words.

use std::path::Path;
use std::process::Command;

use crate::peer::{Peer, Tool};

/// The runtime of buildah and podman: crun wants cgroups of version 2.
const RUNC: &str = "/usr/sbin/runc";

/// Our registries speak no TLS; wharf and docker know that of loopback.
const NO_TLS: &str = "--tls-verify=false";

impl Peer {
    /// Builds `dockerfile` in `context`, and names the image `tag`.
    pub(crate) fn build(&self, context: &Path, dockerfile: &Path, tag: &str) -> Command {
        let mut command = self.command();
        match self.tool {
            Tool::Wharf => command.arg("build"),
            Tool::Docker => command.env("DOCKER_BUILDKIT", "1").arg("build"),
            Tool::Buildah => command.args(["bud", "--isolation", "oci", "--runtime", RUNC]),
            Tool::Podman => command.arg("build"),
        };
        if matches!(self.tool, Tool::Buildah | Tool::Podman) {
            command.args(["--layers", "--jobs", "4", NO_TLS, "--cgroup-parent", &self.containers.path()]);
        }
        command.args(["--network", "none", "--tag", tag, "--file"]).arg(dockerfile).arg(context);
        command
    }

    /// Fetches an image.
    pub(crate) fn pull(&self, reference: &str) -> Command {
        let mut command = self.command();
        command.arg("pull").args(self.transfer()).arg(reference);
        command
    }

    /// Starts and ends a container of an image, where that is still needed to know that one can start: docker, podman and
    /// buildah have unpacked an image once they have pulled it.
    pub(crate) fn mount(&self, reference: &str) -> Option<Command> {
        let mut command = self.command();
        command.args(["run", "--rm", "--network", "none", reference, "true"]);
        (self.tool == Tool::Wharf).then_some(command)
    }

    /// Sends an image to the registry that its name says.
    pub(crate) fn push(&self, reference: &str) -> Command {
        let mut command = self.command();
        command.arg("push").args(self.transfer()).arg(reference);
        command
    }

    /// Gives an image a further name.
    pub(crate) fn tag(&self, from: &str, to: &str) -> Command {
        let mut command = self.command();
        command.args(["tag", from, to]);
        command
    }

    /// Lists all images.
    pub(crate) fn images(&self) -> Command {
        let mut command = self.command();
        command.arg("images");
        command
    }

    /// Shows how an image came to be; buildah cannot.
    pub(crate) fn history(&self, reference: &str) -> Option<Command> {
        let mut command = self.command();
        command.args(["history", reference]);
        (self.tool != Tool::Buildah).then_some(command)
    }

    /// Shows everything about an image.
    pub(crate) fn inspect(&self, reference: &str) -> Command {
        let mut command = self.command();
        match self.tool {
            Tool::Buildah => command.args(["inspect", "--type", "image", reference]),
            Tool::Wharf | Tool::Docker | Tool::Podman => command.args(["inspect", reference]),
        };
        command
    }

    fn transfer(&self) -> &[&str] {
        match self.tool {
            Tool::Wharf | Tool::Docker => &[],
            Tool::Buildah | Tool::Podman => &[NO_TLS],
        }
    }

    /// Its program, told where its store or its daemon is.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        match self.tool {
            Tool::Wharf => command.arg("--root").arg(&self.store),
            Tool::Docker => command.args(self.daemon.iter().flat_map(|daemon| daemon.flags())),
            Tool::Buildah => self.of_containers(&mut command),
            Tool::Podman => {
                self.of_containers(&mut command);
                command
                    .args(["--cgroup-manager", "cgroupfs", "--runtime", RUNC])
                    .arg("--tmpdir")
                    .arg(self.store.join("tmp"))
            }
        };
        command
    }

    /// The flags that the programs of containers/storage share.
    fn of_containers<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.arg("--root").arg(self.store.join("root")).arg("--runroot").arg(self.store.join("run"));
        command.args(["--storage-driver", "overlay"])
    }
}
