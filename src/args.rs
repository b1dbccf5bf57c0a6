//! The command line: docker's verbs, with the flags that are built. The flags of each verb stand in its file of `commands/`.
//!
//! `wharf image ls` and its like are second names of the short verbs: [`Command::short`] turns one into the other, so that
//! everything behind knows each verb once.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::{
    BuildArgs, BuilderPruneArgs, ContextLsArgs, DfArgs, HistoryArgs, ImagePruneArgs, ImagesArgs, InspectArgs,
    LoginArgs, LogoutArgs, PullArgs, PushArgs, RmiArgs, RunArgs, TagArgs, VersionArgs,
};

/// Builds container images from Dockerfiles, keeps them in a local store and moves them to and from registries.
///
/// No daemon, and no root needed.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Cli {
    /// Directory of the store
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub(crate) root: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(BuildArgs),
    /// Run a command in a new container
    Run(RunArgs),
    /// List images
    Images(ImagesArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Show everything about images
    Inspect(InspectArgs),
    /// Give an image a further name
    Tag(TagArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
    /// Log in to a registry
    Login(LoginArgs),
    /// Log out of a registry
    Logout(LogoutArgs),
    /// Show the version
    Version(VersionArgs),
    /// Manage images
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Manage builds
    Builder {
        #[command(subcommand)]
        command: BuilderCommand,
    },
    /// Look at build contexts
    Context {
        #[command(subcommand)]
        command: ContextCommand,
    },
    /// Manage the store
    System {
        #[command(subcommand)]
        command: SystemCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(BuildArgs),
    /// List images
    #[command(visible_alias = "list")]
    Ls(ImagesArgs),
    /// Show how an image came to be
    History(HistoryArgs),
    /// Show everything about images
    Inspect(InspectArgs),
    /// Give an image a further name
    Tag(TagArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(RmiArgs),
    /// Remove images that nothing needs
    Prune(ImagePruneArgs),
    /// Fetch an image from a registry
    Pull(PullArgs),
    /// Send an image to a registry
    Push(PushArgs),
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one command line")]
pub(crate) enum BuilderCommand {
    /// Build an image from a Dockerfile
    Build(BuildArgs),
    /// Remove the build cache
    Prune(BuilderPruneArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List what a build can see
    #[command(visible_alias = "list")]
    Ls(ContextLsArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show how much disk the store uses
    Df(DfArgs),
}

impl Command {
    /// Returns the command under its short name, where it has one.
    pub(crate) fn short(self) -> Self {
        match self {
            Self::Image { command } => match command {
                ImageCommand::Build(args) => Self::Build(args),
                ImageCommand::Ls(args) => Self::Images(args),
                ImageCommand::History(args) => Self::History(args),
                ImageCommand::Inspect(args) => Self::Inspect(args.of_images()),
                ImageCommand::Tag(args) => Self::Tag(args),
                ImageCommand::Rm(args) => Self::Rmi(args),
                ImageCommand::Pull(args) => Self::Pull(args),
                ImageCommand::Push(args) => Self::Push(args),
                ImageCommand::Prune(_) => Self::Image { command },
            },
            Self::Builder { command: BuilderCommand::Build(args) } => Self::Build(args),
            other => other,
        }
    }

    /// Tells whether the command mounts layers or touches files whose owners only exist in a namespace of our own.
    pub(crate) fn needs_namespace(&self) -> bool {
        match self {
            Self::Build(args) => args.builds(),
            Self::Run(_) | Self::Pull(_) | Self::Push(_) | Self::Rmi(_) => true,
            Self::Image { .. } | Self::Builder { .. } | Self::System { .. } => true,
            Self::Images(_) | Self::History(_) | Self::Inspect(_) | Self::Tag(_) => false,
            Self::Login(_) | Self::Logout(_) | Self::Version(_) | Self::Context { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(format!("wharf {line}").split_whitespace()).map(|cli| cli.command.short())
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_image_belongs_to_its_command() {
        let cases = [
            ("run --rm app ls -l --rm", &["app", "ls", "-l", "--rm"][..]),
            ("run --rm -- app ls", &["app", "ls"]),
            ("run --rm -it -e A=1 app -- x", &["app", "--", "x"]),
            ("run --rm app sh -c exit", &["app", "sh", "-c", "exit"]),
            ("run --rm app -h", &["app", "-h"]),
        ];
        for (line, expected) in cases {
            let Ok(Command::Run(args)) = parse(line) else { panic!("{line}") };
            assert_eq!(args.image_and_command, expected, "{line}");
            assert!(args.rm, "{line}");
        }
    }

    #[test]
    fn management_verbs_are_the_short_ones() {
        assert!(matches!(parse("image ls -q"), Ok(Command::Images(_))));
        assert!(matches!(parse("image list"), Ok(Command::Images(_))));
        assert!(matches!(parse("image rm -f a b"), Ok(Command::Rmi(_))));
        assert!(matches!(parse("builder build ."), Ok(Command::Build(_))));
        assert!(matches!(parse("image prune -a"), Ok(Command::Image { .. })));
    }

    #[test]
    fn only_what_builds_needs_namespaces() {
        for (line, expected) in
            [("build .", true), ("build --check .", false), ("build --call=targets .", false), ("context ls", false)]
        {
            assert_eq!(parse(line).unwrap().needs_namespace(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for line in ["ps", "run -d app", "run --name x app", "build --squash .", "images --tree", "rmi", "image", ""] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_store_can_be_named_before_and_after_the_verb() {
        for line in ["--root /x images", "images --root /x"] {
            let cli = Cli::try_parse_from(format!("wharf {line}").split_whitespace()).unwrap();
            assert_eq!(cli.root, Some(PathBuf::from("/x")));
        }
    }
}
