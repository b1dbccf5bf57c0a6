//! The command line: docker's verbs, with the flags that are built. The flags of each verb stand in its file of `commands/`.
//!
//! `wharf image ls` and its like are second names of the short verbs: [`Command::short`] turns one into the other, so that
//! everything behind knows each verb once.
//!
//! Every switch can be given a truth value, as in `--pull=false`: [`with_values`] sees to it in one place.
//!
//! The flags of a verb are defined once it was read ([`Verb`]): there are some hundreds, and each costs memory that is new.

use std::any::TypeId;
use std::ffi::OsString;
use std::ops::Deref;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, ArgGroup, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use layer_store::DriverChoice;

use crate::commands::{
    BuildArgs, BuilderPruneArgs, ContextLsArgs, DfArgs, DoctorArgs, ExportArgs, HistoryArgs, ImagePruneArgs,
    ImagesArgs, ImportArgs, InfoArgs, InspectArgs, LoadArgs, LoginArgs, LogoutArgs, PullArgs, PushArgs, RmiArgs,
    RunArgs, SaveArgs, SystemCheckArgs, SystemPruneArgs, TagArgs, VersionArgs, VolumeCreateArgs, VolumeInspectArgs,
    VolumeLsArgs, VolumePruneArgs, VolumeRmArgs,
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

    /// How layers become mountable: `auto`, `erofs` (through an index, as root on Linux 6.12 or later) or `tree` (unpacked)
    #[arg(long, global = true, value_name = "DRIVER", help_heading = "Global options")]
    pub(crate) storage_driver: Option<DriverChoice>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one command line")]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Verb<BuildArgs>),
    /// Run a command in a new container
    Run(Verb<RunArgs>),
    /// List images
    Images(Verb<ImagesArgs>),
    /// Show how an image came to be
    History(Verb<HistoryArgs>),
    /// Show everything about images
    Inspect(Verb<InspectArgs>),
    /// Give an image a further name
    Tag(Verb<TagArgs>),
    /// Remove images
    Rmi(Verb<RmiArgs>),
    /// Fetch an image from a registry
    Pull(Verb<PullArgs>),
    /// Send an image to a registry
    Push(Verb<PushArgs>),
    /// Write images to an archive
    Save(Verb<SaveArgs>),
    /// Read images from an archive
    Load(Verb<LoadArgs>),
    /// Make an image of a root file system
    Import(Verb<ImportArgs>),
    /// Write the root file system of an image to a tar archive
    Export(Verb<ExportArgs>),
    /// Log in to a registry
    Login(Verb<LoginArgs>),
    /// Log out of a registry
    Logout(Verb<LogoutArgs>),
    /// Show the version
    Version(Verb<VersionArgs>),
    /// Show the store, its driver, and the machine
    Info(Verb<InfoArgs>),
    /// Try out what this machine allows, and show what would allow more
    Doctor(Verb<DoctorArgs>),
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
    /// Manage volumes
    Volume {
        #[command(subcommand)]
        command: VolumeCommand,
    },
    /// Manage the store
    System {
        #[command(subcommand)]
        command: SystemCommand,
    },
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one command line")]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile
    Build(Verb<BuildArgs>),
    /// List images
    #[command(visible_alias = "list")]
    Ls(Verb<ImagesArgs>),
    /// Show how an image came to be
    History(Verb<HistoryArgs>),
    /// Show everything about images
    Inspect(Verb<InspectArgs>),
    /// Give an image a further name
    Tag(Verb<TagArgs>),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(Verb<RmiArgs>),
    /// Remove images that nothing needs
    Prune(Verb<ImagePruneArgs>),
    /// Fetch an image from a registry
    Pull(Verb<PullArgs>),
    /// Send an image to a registry
    Push(Verb<PushArgs>),
    /// Write images to an archive
    Save(Verb<SaveArgs>),
    /// Read images from an archive
    Load(Verb<LoadArgs>),
    /// Make an image of a root file system
    Import(Verb<ImportArgs>),
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one command line")]
pub(crate) enum BuilderCommand {
    /// Build an image from a Dockerfile
    Build(Verb<BuildArgs>),
    /// Remove the build cache
    Prune(Verb<BuilderPruneArgs>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List what a build can see
    #[command(visible_alias = "list")]
    Ls(Verb<ContextLsArgs>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume
    Create(Verb<VolumeCreateArgs>),
    /// Show everything about volumes
    Inspect(Verb<VolumeInspectArgs>),
    /// List volumes
    #[command(visible_alias = "list")]
    Ls(Verb<VolumeLsArgs>),
    /// Remove volumes that nothing uses
    Prune(Verb<VolumePruneArgs>),
    /// Remove volumes
    #[command(visible_alias = "remove")]
    Rm(Verb<VolumeRmArgs>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Check that the store is whole, and mend it
    Check(Verb<SystemCheckArgs>),
    /// Show how much disk the store uses
    Df(Verb<DfArgs>),
    /// Show the store, its driver, and the machine
    Info(Verb<InfoArgs>),
    /// Remove images, build cache and volumes that nothing needs
    Prune(Verb<SystemPruneArgs>),
}

/// The flags of a verb, which the command line defines only when it has read the verb.
#[derive(Debug)]
pub(crate) struct Verb<T>(T);

impl<T> Deref for Verb<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Args> Args for Verb<T> {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.defer(|command| define(command, T::augment_args))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command.defer(|command| define(command, T::augment_args_for_update))
    }
}

impl<T: FromArgMatches> FromArgMatches for Verb<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        T::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.update_from_arg_matches(matches)
    }
}

fn define(command: clap::Command, flags: fn(clap::Command) -> clap::Command) -> clap::Command {
    let takes_values = command.get_groups().any(|group| group.get_id() == WITH_VALUES);
    let command = flags(command);
    if takes_values { command.mut_args(with_value) } else { command }
}

impl Cli {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    ///
    /// What is wrong with it, or the help that it asks for.
    pub(crate) fn read(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let words: Vec<OsString> = words.into_iter().collect();
        let is_help = |error: &clap::Error| {
            matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand)
        };
        match with_values(Self::command()).try_get_matches_from(&words) {
            Ok(matches) => Self::from_arg_matches(&matches),
            // help shows switches as what they are
            Err(error) if is_help(&error) => {
                Err(Self::command().try_get_matches_from(words).err().filter(is_help).unwrap_or(error))
            }
            Err(error) => Err(error),
        }
    }
}

/// An empty group by which a command whose flags are not defined yet knows that its switches take values.
const WITH_VALUES: &str = "with-values";

/// Lets every switch of `command` and its verbs take a truth value after `=`; the last one given counts.
fn with_values(command: clap::Command) -> clap::Command {
    command.group(ArgGroup::new(WITH_VALUES)).mut_args(with_value).mut_subcommands(with_values)
}

fn with_value(arg: clap::Arg) -> clap::Arg {
    let is_switch = matches!(arg.get_action(), ArgAction::SetTrue);
    let takes_value =
        matches!(arg.get_action(), ArgAction::Set) && arg.get_value_parser().type_id() == TypeId::of::<bool>();
    if !is_switch && !takes_value {
        return arg;
    }
    let arg = if is_switch { arg.default_value("false") } else { arg };
    let id = arg.get_id().clone();
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .value_parser(truth_value)
        .overrides_with(id)
}

/// Reads a truth value as docker does.
///
/// Spec: Go's `strconv.ParseBool`.
pub(crate) fn truth_value(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

impl Command {
    /// Returns the command under its short name, where it has one.
    pub(crate) fn short(self) -> Self {
        match self {
            Self::Image { command } => match command {
                ImageCommand::Build(args) => Self::Build(args),
                ImageCommand::Ls(args) => Self::Images(args),
                ImageCommand::History(args) => Self::History(args),
                ImageCommand::Inspect(args) => Self::Inspect(Verb(args.0.of_images())),
                ImageCommand::Tag(args) => Self::Tag(args),
                ImageCommand::Rm(args) => Self::Rmi(args),
                ImageCommand::Pull(args) => Self::Pull(args),
                ImageCommand::Push(args) => Self::Push(args),
                ImageCommand::Save(args) => Self::Save(args),
                ImageCommand::Load(args) => Self::Load(args),
                ImageCommand::Import(args) => Self::Import(args),
                ImageCommand::Prune(_) => Self::Image { command },
            },
            Self::Builder { command: BuilderCommand::Build(args) } => Self::Build(args),
            Self::System { command: SystemCommand::Info(args) } => Self::Info(args),
            other => other,
        }
    }

    /// Tells whether the command mounts layers or touches files whose owners only exist in a namespace of our own.
    pub(crate) fn needs_namespace(&self) -> bool {
        match self {
            Self::Build(args) => args.builds(),
            Self::Run(_) | Self::Pull(_) | Self::Push(_) | Self::Rmi(_) => true,
            Self::Save(_) | Self::Load(_) | Self::Import(_) | Self::Export(_) => true,
            Self::Image { .. } | Self::Builder { .. } | Self::System { .. } => true,
            Self::Volume { command } => matches!(command, VolumeCommand::Prune(_) | VolumeCommand::Rm(_)),
            Self::Images(_) | Self::History(_) | Self::Inspect(_) | Self::Tag(_) => false,
            Self::Login(_) | Self::Logout(_) | Self::Version(_) | Self::Info(_) | Self::Context { .. } => false,
            // enters it itself, to tell what keeps it from that
            Self::Doctor(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(format!("wharf {line}").split_whitespace().map(OsString::from))
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        read(line).map(|cli| cli.command.short())
    }

    #[test]
    fn the_definition_is_consistent() {
        with_values(Cli::command()).debug_assert();
    }

    #[test]
    fn no_flags_are_defined_before_their_verb_is_read() {
        let command = with_values(Cli::command());
        assert!(command.get_subcommands().count() > 10);
        let defined = command.get_subcommands().filter(|verb| verb.get_arguments().next().is_some());
        assert_eq!(defined.map(clap::Command::get_name).collect::<Vec<_>>(), Vec::<&str>::new());
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
    fn switches_take_truth_values_and_the_last_counts() {
        for (line, expected) in [
            ("build --check .", false),
            ("build --check=true .", false),
            ("build --check=T .", false),
            ("build --check=0 .", true),
            ("build --check --check=false .", true),
            ("build --check=false --check .", false),
            ("build .", true),
        ] {
            // only what builds needs namespaces
            assert_eq!(parse(line).map(|command| command.needs_namespace()).ok(), Some(expected), "{line}");
        }
        for line in
            ["build -q=true --pull=false --no-cache=1 .", "image ls -aq=f --digests", "history -H=0 x", "history -H x"]
        {
            assert!(parse(line).is_ok(), "{line}");
        }
        let Ok(Command::Run(args)) = parse("run --rm=1 -it=false app --rm=x") else { panic!("it is right") };
        assert_eq!((args.rm, &args.image_and_command[..]), (true, &["app".to_owned(), "--rm=x".to_owned()][..]));
        for line in ["build --check=maybe .", "build --check= .", "build --check=yes .", "images -q=x"] {
            assert!(parse(line).is_err(), "{line}");
        }
        let Ok(Command::Build(args)) = parse("build --check true") else { panic!("`true` is the context") };
        assert!(!args.builds());
    }

    #[test]
    fn help_shows_switches_without_values() {
        let help = parse("build --help").unwrap_err().to_string();
        assert!(help.contains("--no-cache  ") && !help.contains("[=<"), "{help}");
        assert!(parse("build --check=true --help").unwrap_err().to_string().contains("--no-cache"));
    }

    #[test]
    fn management_verbs_are_the_short_ones() {
        assert!(matches!(parse("image ls -q"), Ok(Command::Images(_))));
        assert!(matches!(parse("image list"), Ok(Command::Images(_))));
        assert!(matches!(parse("image rm -f a b"), Ok(Command::Rmi(_))));
        assert!(matches!(parse("builder build ."), Ok(Command::Build(_))));
        assert!(matches!(parse("image prune -a"), Ok(Command::Image { .. })));
        assert!(matches!(parse("system info"), Ok(Command::Info(_))));
        assert!(matches!(parse("image save -o x a b"), Ok(Command::Save(_))));
        assert!(matches!(parse("image load -qi x"), Ok(Command::Load(_))));
        assert!(matches!(parse("image import - a:1"), Ok(Command::Import(_))));
    }

    #[test]
    fn only_what_touches_files_of_others_needs_namespaces() {
        for (line, expected) in [
            ("build .", true),
            ("build --check .", false),
            ("build --call=targets .", false),
            ("context ls", false),
            ("volume ls", false),
            ("volume rm ab", true),
        ] {
            assert_eq!(parse(line).unwrap().needs_namespace(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_built_is_refused() {
        for line in ["ps", "run --restart=always app", "build --squash .", "images --tree", "rmi", "image", ""] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_store_can_be_named_before_and_after_the_verb() {
        for line in ["--root /x images", "images --root /x"] {
            let cli = read(line).unwrap();
            assert_eq!(cli.root, Some(PathBuf::from("/x")));
        }
    }
}
