//! `wharf run --rm`: runs a command in a new container of an image, in the foreground; nothing of it stays.

use std::path::PathBuf;

use anyhow::Context;
use builder::{Connection, ContainerSandbox, generated_files, make_working_directory};
use layer_store::{ActiveSnapshot, FindError, Image, ImageId, Lower, Skeleton, Store};
use oci::{Platform, Reference};
use runtime::{Confinement, Container, ExitStatus, LimitHit, Limits, Namespace, User, init_program};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::system::uname;

use super::pull::pull_image;
use crate::confinement::ConfinementArgs;
use crate::container::{Overrides, Terminal};
use crate::ending::{Ending, NotStarted};
use crate::environment::environment;
use crate::forwarded_signals::{ForwardedSignals, Passing};
use crate::limit_flags::RunLimitArgs;
use crate::mounts::{MountArgs, OpenedMounts};
use crate::namespaces::NamespaceArgs;
use crate::network::{Network, RunNetworkArgs, host_entries};
use crate::session::Session;
use crate::shown::shown;
use crate::stdio::{self, Input};
use crate::transfer_report::{Audience, Direction, TransferReport};
use crate::unkept::UnkeptArgs;
use crate::{output, prompt};

#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, override_usage = "wharf run --rm [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(crate) struct RunArgs {
    /// The image, the command to run instead of its own, and the command's arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND [ARG]...]")]
    pub(crate) image_and_command: Vec<String>,
    /// Remove the container when it ends (needed: containers are not kept yet)
    #[arg(long)]
    pub(crate) rm: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable; without a value, to that of the caller
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Set the variables of a file, a line each; `--env` comes after
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User, and group, as names or numbers
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Add the user to a group
    #[arg(long = "group-add", value_name = "GROUP")]
    groups: Vec<String>,
    /// Program to run instead of the image's entrypoint; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    #[command(flatten)]
    network: RunNetworkArgs,
    /// Name of the host as the command sees it
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Start an init as process 1, which passes signals on and reaps processes
    #[arg(long)]
    init: bool,
    #[command(flatten)]
    confinement: ConfinementArgs,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    #[command(flatten)]
    mounts: MountArgs,
    /// When to pull the image
    #[arg(long, value_enum, default_value_t = Pull::Missing)]
    pull: Pull,
    /// Tell nothing of a pull
    #[arg(short, long)]
    quiet: bool,
    /// Platform of the image (only this machine's is run, yet)
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Pass signals on to the command; otherwise they end the container
    #[arg(long, action = clap::ArgAction::Set, default_value_t = true, value_name = "true|false")]
    sig_proxy: bool,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    limits: RunLimitArgs,
    #[command(flatten)]
    unkept: UnkeptArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Pull {
    Missing,
    Always,
    Never,
}

/// Runs a container and returns the exit code of its command.
pub(crate) fn run(args: &RunArgs, session: &Session) -> anyhow::Result<u8> {
    let (image, command) = args.image_and_command.split_first().expect("at least the image is required");
    check(args)?;
    let (limits, confinement) = (args.limits.limits()?, args.confinement.confinement()?);
    let not_started = |error: anyhow::Error| error.context(NotStarted { image: image.clone() });
    let mut prepared = prepare(args, image, command, session).map_err(not_started)?;
    prepared.container.limits = limits;
    prepared.container.confinement = Confinement { namespaces: args.namespaces.namespaces(), ..confinement };
    session.block_on_one_thread(async {
        let passing = if args.sig_proxy { Passing::ToCommand } else { Passing::None };
        let signals = ForwardedSignals::watch(passing)?;
        let running = session.runtime().start(&prepared.container, prepared.stdio);
        let mut running = running.map_err(|error| not_started(error.into()))?;
        let copying = prepared.ends.copy(&running)?;
        let interrupt = signals.pass_to(&running)?;
        let ended = tokio::task::spawn_blocking(move || (running.wait(), running.limit_hit())).await;
        let copied = copying.finish();
        let (status, hit) = ended.context("cannot wait for the container")?;
        let status = status?;
        if let Some(ending) = interrupt.and_then(|interrupt| interrupt.ending()) {
            return Err(ending.into());
        }
        copied?;
        tell_limit(status, hit);
        Ok(exit_code(status))
    })
}

/// Refuses what makes no sense, or is not built yet.
fn check(args: &RunArgs) -> Result<(), Ending> {
    args.unkept.check()?;
    if !args.rm {
        return Err(Ending::usage("containers are not kept yet: add `--rm`, and this one goes when its command ends"));
    }
    if args.tty && args.interactive && !prompt::has_user() {
        return Err(Ending::usage("the input device is not a TTY: leave `-t` out where standard input is no terminal"));
    }
    let host = Platform::host();
    if let Some(platform) = args.platform.as_ref().filter(|platform| platform.normalised() != host.normalised()) {
        return Err(Ending::usage(format!("cannot run images for {platform} yet, only for this machine's {host}")));
    }
    args.namespaces.check(args.hostname.as_deref())?;
    args.mounts.check()
}

/// A container that can be started, and what must outlive it.
struct Prepared {
    container: Container,
    stdio: runtime::Stdio,
    ends: stdio::Ends,
    _mounts: OpenedMounts,
    _rootfs: ActiveSnapshot,
    _sandbox: ContainerSandbox,
    _connection: Connection,
}

fn prepare(args: &RunArgs, image: &str, command: &[String], session: &Session) -> anyhow::Result<Prepared> {
    let input = if args.interactive { Input::Passed } else { Input::Closed };
    let terminal = if args.tty { Terminal::Present } else { Terminal::Absent };
    let overrides = Overrides {
        entrypoint: args.entrypoint.clone(),
        command: command.to_vec(),
        env: environment(&args.env_files, &args.env)?,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        terminal,
    };
    let store = session.store()?;
    let image = store.image(&find(args, image, session, &store)?)?;
    check_platform(&image)?;
    let layers = &image.config.value().rootfs.diff_ids;
    let layers: Vec<Lower> = layers.iter().map(|diff_id| Lower::Layer(diff_id.clone())).collect();
    let rootfs = store.prepare(&layers, Skeleton::Container).context("cannot mount its layers")?;
    let network = &args.network;
    let ports = network.publish.bind(&image.config.value().config, network.network)?;
    let sandbox = session.sandbox(&network.dns);
    let connection = sandbox.attach(network.network.into(), ports)?;
    let mut container = container(args, &overrides, &image, (&rootfs, &connection))?;
    let mounts = args.mounts.open(&image.config.value().config, &store, rootfs.path())?;
    mounts.put_into(&mut container)?;
    if args.init {
        start_with_init(&mut container);
    }
    let (stdio, ends) = stdio::open(terminal, input)?;
    Ok(Prepared {
        container,
        stdio,
        ends,
        _mounts: mounts,
        _rootfs: rootfs,
        _sandbox: sandbox,
        _connection: connection,
    })
}

fn container(
    args: &RunArgs,
    overrides: &Overrides,
    image: &Image,
    (rootfs, connection): (&ActiveSnapshot, &Connection),
) -> anyhow::Result<Container> {
    let config = &image.config.value().config;
    let spec = overrides.user(config);
    let mut user =
        User::resolve(rootfs.path(), spec).with_context(|| format!("cannot tell who `{}` is", shown(spec)))?;
    for group in &args.groups {
        let joined = user.join(rootfs.path(), group);
        joined.with_context(|| format!("cannot add the user to the group `{}`", shown(group)))?;
    }
    let cwd = overrides.cwd(config)?;
    make_working_directory(rootfs.path(), &cwd, &user)?;
    let hostname = match &args.hostname {
        Some(hostname) => hostname.clone(),
        None if is_named_as_host(args) => uname().nodename().to_string_lossy().into_owned(),
        None => random_hostname()?,
    };
    let extra_hosts = host_entries(&args.network.extra_hosts, args.network.network)?;
    Ok(Container {
        rootfs: rootfs.path().to_owned(),
        args: overrides.args(config)?,
        env: overrides.env(config, &hostname, &user.home),
        cwd,
        user,
        files: generated_files(&hostname, connection, &extra_hosts),
        hostname,
        mounts: Vec::new(),
        network: connection.namespace.clone(),
        limits: Limits::default(),
        confinement: Confinement::default(),
    })
}

/// Whether a container without a name of its own has the host's, as docker has it.
fn is_named_as_host(args: &RunArgs) -> bool {
    args.network.network == Network::Host || args.namespaces.namespaces().uts == Namespace::Host
}

fn start_with_init(container: &mut Container) {
    let (program, words) = init_program();
    container.files.push(program);
    container.args.splice(0..0, words);
}

/// Says that a limit was hit, which the command itself may not know: that of processes only where the command failed.
fn tell_limit(status: ExitStatus, hit: Option<LimitHit>) {
    match hit {
        Some(LimitHit::Pids { .. }) if status.is_success() => (),
        Some(hit) => output::notice(&format!("wharf: {hit}")),
        None => (),
    }
}

fn find(args: &RunArgs, name: &str, session: &Session, store: &Store) -> anyhow::Result<ImageId> {
    let pull = args.pull;
    let found = match store.find(name) {
        Ok(id) if pull != Pull::Always => return Ok(id),
        Err(error) if pull == Pull::Never || !matches!(error, FindError::NotFound { .. }) => return Err(error.into()),
        other => other.is_ok(),
    };
    let Ok(reference) = name.parse::<Reference>().map(Reference::or_latest) else {
        return Ok(store.find(name)?);
    };
    if !found && !args.quiet {
        output::notice(&format!("Unable to find image '{}' locally", reference.familiar()));
    }
    let audience = if args.quiet { Audience::Nobody } else { Audience::Errors };
    let transfer = TransferReport::new(audience, Direction::Pull);
    Ok(pull_image(session, store, (&reference, None), &transfer)?.id)
}

fn check_platform(image: &Image) -> anyhow::Result<()> {
    let (platform, host) = (&image.config.value().platform, Platform::host());
    anyhow::ensure!(
        platform.runs_on(&host),
        "the image is for {}, and this machine is {host}",
        shown(&platform.to_string())
    );
    Ok(())
}

fn random_hostname() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 6];
    getrandom(&mut bytes, GetRandomFlags::empty()).context("cannot make up a hostname")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn exit_code(status: ExitStatus) -> u8 {
    u8::try_from(status.code() & 0xff).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_pass_through() {
        assert_eq!(exit_code(ExitStatus::Code(7)), 7);
        assert_eq!(exit_code(ExitStatus::Signal(15)), 143);
    }

    #[test]
    fn a_hostname_is_made_up_of_twelve_digits() {
        let random = random_hostname().unwrap();
        assert!(random.len() == 12 && random.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
