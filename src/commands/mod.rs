//! One file for each verb: its flags, and what it does.
//!
//! A verb returns the exit code, or an error that `report` shows. One that works on several things reports each failure itself,
//! goes on, and returns 1.

mod build;
mod builder_prune;
mod context_ls;
mod doctor;
mod export;
mod history;
mod image_prune;
mod images;
mod import;
mod info;
mod inspect;
mod load;
mod login;
mod logout;
mod pull;
mod push;
mod rmi;
mod run;
mod save;
mod system_check;
mod system_df;
mod system_prune;
mod tag;
mod version;
mod volume_create;
mod volume_inspect;
mod volume_ls;
mod volume_prune;
mod volume_rm;

pub(crate) use build::{Access, BuildArgs, NoDockerfile};
pub(crate) use builder_prune::BuilderPruneArgs;
pub(crate) use context_ls::ContextLsArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use export::ExportArgs;
pub(crate) use history::HistoryArgs;
pub(crate) use image_prune::ImagePruneArgs;
pub(crate) use images::ImagesArgs;
pub(crate) use import::ImportArgs;
pub(crate) use info::InfoArgs;
pub(crate) use inspect::{InspectArgs, NoSuchObject};
pub(crate) use load::LoadArgs;
pub(crate) use login::LoginArgs;
pub(crate) use logout::LogoutArgs;
pub(crate) use pull::PullArgs;
pub(crate) use push::PushArgs;
pub(crate) use rmi::{RmiArgs, SeveralNames};
pub(crate) use run::RunArgs;
pub(crate) use save::SaveArgs;
pub(crate) use system_check::SystemCheckArgs;
pub(crate) use system_df::DfArgs;
pub(crate) use system_prune::SystemPruneArgs;
pub(crate) use tag::TagArgs;
pub(crate) use version::VersionArgs;
pub(crate) use volume_create::VolumeCreateArgs;
pub(crate) use volume_inspect::VolumeInspectArgs;
pub(crate) use volume_ls::VolumeLsArgs;
pub(crate) use volume_prune::VolumePruneArgs;
pub(crate) use volume_rm::VolumeRmArgs;

use crate::args::{BuilderCommand, Command, ContextCommand, ImageCommand, SystemCommand, VolumeCommand};
use crate::session::Session;

/// Runs `command`, which has its short name, and returns its exit code.
///
/// # Errors
///
/// Anything that kept it from its work.
pub(crate) fn run(command: Command, session: &Session) -> anyhow::Result<u8> {
    match command {
        Command::Build(args) => build::build(&args, session),
        Command::Run(args) => run::run(&args, session),
        Command::Images(args) => images::images(&args, session),
        Command::History(args) => history::history(&args, session),
        Command::Inspect(args) => inspect::inspect(&args, session),
        Command::Tag(args) => tag::tag(&args, session),
        Command::Rmi(args) => rmi::rmi(&args, session),
        Command::Pull(args) => pull::pull(&args, session),
        Command::Push(args) => push::push(&args, session),
        Command::Save(args) => save::save(&args, session),
        Command::Load(args) => load::load(&args, session),
        Command::Import(args) => import::import(&args, session),
        Command::Export(args) => export::export(&args, session),
        Command::Login(args) => login::login(&args, session),
        Command::Logout(args) => logout::logout(&args, session),
        Command::Version(args) => version::version(&args),
        Command::Info(args) => info::info(&args, session),
        Command::Doctor(args) => doctor::doctor(&args, session),
        Command::Image { command: ImageCommand::Prune(args) } => image_prune::image_prune(&args, session),
        Command::Builder { command: BuilderCommand::Prune(args) } => builder_prune::builder_prune(&args, session),
        Command::Context { command: ContextCommand::Ls(args) } => context_ls::context_ls(&args, session),
        Command::System { command: SystemCommand::Check(args) } => system_check::system_check(&args, session),
        Command::System { command: SystemCommand::Df(args) } => system_df::system_df(&args, session),
        Command::System { command: SystemCommand::Prune(args) } => system_prune::system_prune(&args, session),
        Command::Volume { command } => volume(command, session),
        Command::Image { .. } | Command::Builder { .. } | Command::System { .. } => {
            unreachable!("the command has its short name")
        }
    }
}

fn volume(command: VolumeCommand, session: &Session) -> anyhow::Result<u8> {
    match command {
        VolumeCommand::Create(args) => volume_create::volume_create(&args, session),
        VolumeCommand::Inspect(args) => volume_inspect::volume_inspect(&args, session),
        VolumeCommand::Ls(args) => volume_ls::volume_ls(&args, session),
        VolumeCommand::Prune(args) => volume_prune::volume_prune(&args, session),
        VolumeCommand::Rm(args) => volume_rm::volume_rm(&args, session),
    }
}
