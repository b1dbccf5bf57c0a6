//! RUN: a command whose changes make a layer.

use super::{Keyword, Statement, shell_or_exec};
use crate::csv;
use crate::flags::{FlagValue, Flags, Known, Takes};
use crate::mount::MountFlag;
use crate::parse::Context;
use crate::{Command, Diagnostic, Heredoc, Literal};

/// RUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What is started; never expanded by the builder.
    pub command: Command,
    /// What is mounted meanwhile, in order; the options' values are expanded.
    pub mounts: Vec<MountFlag>,
    /// The network it gets.
    pub network: NetworkMode,
    /// How far it is confined.
    pub security: Security,
    /// The devices it gets.
    pub devices: Vec<Device>,
}

/// The network of a RUN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The build's.
    #[default]
    Default,
    /// None but the loopback interface.
    None,
    /// The host's; has to be allowed.
    Host,
}

/// How far a RUN is confined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// As all are.
    #[default]
    Sandbox,
    /// Not at all; has to be allowed.
    Insecure,
}

/// A device of a RUN, by its CDI name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The device: `vendor/class=name`, `vendor/class` or a class.
    pub name: String,
    /// Whether the build fails without it.
    pub is_required: bool,
    /// The flag's value as written.
    pub text: Literal,
}

const FLAGS: Known =
    &[("mount", Takes::List), ("network", Takes::Value), ("security", Takes::Value), ("device", Takes::List)];

impl Run {
    pub(super) fn read(statement: &Statement<'_>, heredocs: Vec<Heredoc>, context: &mut Context) -> Option<Self> {
        let flags = Flags::check("RUN", &statement.flags, FLAGS, context);
        let network = choice(&flags, "network", &NETWORK_MODES, context);
        let security = choice(&flags, "security", &SECURITY, context);
        let mounts = flags.list("mount").into_iter().filter_map(|value| MountFlag::read(value, context)).collect();
        let devices = flags.list("device").into_iter().filter_map(|value| device(value, context)).collect();
        let command = shell_or_exec(statement.arguments, Keyword::Run, heredocs, context)?;
        Some(Self { command, mounts, network, security, devices })
    }
}

const NETWORK_MODES: [(&str, NetworkMode); 3] =
    [("default", NetworkMode::Default), ("none", NetworkMode::None), ("host", NetworkMode::Host)];
const SECURITY: [(&str, Security); 2] = [("sandbox", Security::Sandbox), ("insecure", Security::Insecure)];

fn choice<T: Copy + Default>(flags: &Flags, name: &str, choices: &[(&str, T)], context: &mut Context) -> T {
    let Some(value) = flags.value(name) else { return T::default() };
    if let Some((_, choice)) = choices.iter().find(|(choice, _)| *choice == value.text) {
        return *choice;
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    let error = Diagnostic::error(value.span, format!("unknown value `{}` of `--{name}`", value.text));
    context.report(error.label(format!("want {}", names.join(", "))).suggest(&value.text, names));
    T::default()
}

fn device(value: &FlagValue, context: &mut Context) -> Option<Device> {
    match read_device(value) {
        Ok(device) => Some(device),
        Err(error) => {
            context.report(error);
            None
        }
    }
}

fn read_device(value: &FlagValue) -> Result<Device, Diagnostic> {
    let fields = csv::fields(&value.text)
        .map_err(|reason| Diagnostic::error(value.span, format!("`--device` is no list of options: {reason}")))?;
    let mut device = Device { name: String::new(), is_required: false, text: value.clone().into_literal() };
    for (field, range) in fields {
        let span = value.span_of(range);
        let (key, setting) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value)));
        match (key.to_lowercase().as_str(), setting) {
            ("required", None) => device.is_required = true,
            ("required", Some(setting)) => {
                let wrong = || Diagnostic::error(span, format!("`{setting}` is neither true nor false"));
                device.is_required = crate::flags::boolean(setting).ok_or_else(wrong)?;
            }
            ("name", Some(name)) if device.name.is_empty() => name.clone_into(&mut device.name),
            ("name", Some(_)) => return Err(Diagnostic::error(span, "a device has one name")),
            _ if device.name.is_empty() => device.name = field,
            (key, _) => {
                let error = Diagnostic::error(span, format!("unknown device option `{field}`"));
                return Err(error.suggest(key, ["name", "required"]));
            }
        }
    }
    Ok(device)
}
