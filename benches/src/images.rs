//! The images that peers pull, and the bases of what they build; made once, and kept in the work directory.
//!
//! | image | what |
//! |---|---|
//! | `base/busybox:1` | this machine's static busybox |
//! | `base/debian:bookworm` | `debootstrap --variant=minbase`, from this machine's own mirror |
//! | `w7/image:1` | Debian and the six layers of w7 |
//! | `w10/image0:1` … `w10/image199:1` | busybox and one small layer |

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::image_layout::{ImageLayout, ONLY};
use crate::measure::run;
use crate::registry::Registry;
use crate::workload::Workload;

/// How many images w10 has.
pub(crate) const MANY: usize = 200;

/// What busybox is called by in the base image.
const APPLETS: &[&str] = &["sh", "echo", "mkdir", "sleep", "true", "cat", "ls"];

/// Where images are made, and the registry that they go to.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    pub(crate) work: &'a Path,
    pub(crate) registry: &'a Registry,
}

impl Images<'_> {
    /// Puts busybox into the registry.
    ///
    /// # Errors
    ///
    /// When busybox is not installed, or a program fails.
    pub(crate) fn busybox(&self) -> anyhow::Result<()> {
        self.provide("base/busybox:1", |layout| {
            let root = self.busybox_root()?;
            let layer = layout.add_layer(&root, ".")?;
            layout.add_image(ONLY, &[layer])
        })
    }

    /// Puts Debian into the registry.
    ///
    /// # Errors
    ///
    /// When debootstrap is not installed or fails.
    pub(crate) fn debian(&self) -> anyhow::Result<()> {
        self.provide("base/debian:bookworm", |layout| {
            let root = self.debian_root()?;
            let layer = layout.add_layer(&root, ".")?;
            layout.add_image(ONLY, &[layer])
        })
    }

    /// Puts the image of w7 into the registry.
    ///
    /// # Errors
    ///
    /// When its workload or Debian cannot be made.
    pub(crate) fn layers(&self) -> anyhow::Result<()> {
        self.provide("w7/image:1", |layout| {
            let context = Workload::W7.make(&self.work.join("contexts"))?;
            let mut layers = vec![layout.add_layer(&self.debian_root()?, ".")?];
            for number in 0..6 {
                layers.push(layout.add_layer(&context, &format!("l{number}"))?);
            }
            layout.add_image(ONLY, &layers)
        })
    }

    /// Puts the images of w10 into the registry.
    ///
    /// # Errors
    ///
    /// When a program fails.
    pub(crate) fn many(&self) -> anyhow::Result<()> {
        let layout = self.layout("w10", |layout| {
            let base = layout.add_layer(&self.busybox_root()?, ".")?;
            let parent = self.fresh("roots/w10")?;
            for number in 0..MANY {
                let file = parent.join(format!("file{number}"));
                fs::write(&file, format!("{number}\n"))
                    .with_context(|| format!("cannot write `{}`", file.display()))?;
                let own = layout.add_layer(&parent, &format!("file{number}"))?;
                layout.add_image(&number.to_string(), &[base.clone(), own])?;
            }
            Ok(())
        })?;
        (0..MANY)
            .try_for_each(|number| self.registry.fill(&layout, &number.to_string(), &format!("w10/image{number}:1")))
    }

    fn provide(&self, name: &str, write: impl FnOnce(&mut ImageLayout) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let layout = self.layout(&name.replace(['/', ':'], "-"), write)?;
        self.registry.fill(&layout, ONLY, name)
    }

    /// A layout in the work directory, written now if it is not there.
    fn layout(
        &self,
        name: &str,
        write: impl FnOnce(&mut ImageLayout) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let directory = self.work.join("images").join(name);
        if !directory.exists() {
            let unfinished = self.fresh(&format!("images/{name}.unfinished"))?;
            let mut layout = ImageLayout::begin(&unfinished)?;
            write(&mut layout)?;
            layout.finish()?;
            fs::rename(&unfinished, &directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
        }
        Ok(directory)
    }

    fn busybox_root(&self) -> anyhow::Result<PathBuf> {
        let root = self.fresh("roots/busybox")?;
        for directory in ["bin", "etc", "tmp"] {
            fs::create_dir(root.join(directory)).with_context(|| format!("cannot make `{}`", root.display()))?;
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .context("cannot copy `/bin/busybox` (package busybox-static)")?;
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).with_context(|| format!("cannot link `{applet}`"))?;
        }
        Ok(root)
    }

    fn debian_root(&self) -> anyhow::Result<PathBuf> {
        let root = self.work.join("roots/debian");
        if !root.exists() {
            let unfinished = self.fresh("roots/debian.unfinished")?;
            let mut command = Command::new("debootstrap");
            command.args(["--variant=minbase", "bookworm"]).arg(&unfinished).arg(debian_mirror()?);
            run(&mut command)?;
            fs::rename(&unfinished, &root).with_context(|| format!("cannot make `{}`", root.display()))?;
        }
        Ok(root)
    }

    /// An empty directory in the work directory.
    fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let directory = self.work.join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).with_context(|| format!("cannot remove `{}`", directory.display()))?;
        }
        fs::create_dir_all(&directory).with_context(|| format!("cannot make `{}`", directory.display()))?;
        Ok(directory)
    }
}

/// The first mirror of Debian that apt on this machine uses.
fn debian_mirror() -> anyhow::Result<String> {
    let files = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = files.chain([PathBuf::from("/etc/apt/sources.list")]).filter_map(|path| fs::read_to_string(path).ok());
    mirror_in(&texts.collect::<String>())
        .context("apt on this machine names no mirror of Debian, which debootstrap needs")
}

/// The first URL that ends in `/debian`, in either form of apt's sources.
fn mirror_in(sources: &str) -> Option<String> {
    let lines = sources.lines().filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace).filter(|word| word.starts_with("http"));
    words.find(|word| word.trim_end_matches('/').ends_with("/debian")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_read_from_both_forms_of_sources() {
        let both = ["deb [x=y] http://mirror/debian bookworm main\n", "Types: deb\nURIs: http://mirror/debian\n"];
        assert!(both.iter().all(|text| mirror_in(text).as_deref() == Some("http://mirror/debian")));
        assert_eq!(mirror_in("# deb http://old/debian\ndeb http://mirror/debian-security x main\n"), None);
    }
}
