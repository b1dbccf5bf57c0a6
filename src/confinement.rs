//! The flags that say what a container may do, and what they mean together.
//!
//! | `--cap-add` | `--cap-drop` | capabilities |
//! |---|---|---|
//! | ALL | some | all that the caller has, less those |
//! | some | ALL | those only |
//! | some | some | the default ones less the dropped, and the added |
//!
//! `--privileged` is more than all of them; `--read-only` and `no-new-privileges` still take away. Spec: docker's `run`.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use runtime::{Access, Capabilities, Confinement, Device, KernelFiles, NewPrivileges, SystemCalls};

use crate::args::truth_value;
use crate::ending::Ending;
use crate::shown::shown;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ConfinementArgs {
    /// Give a capability, such as NET_ADMIN; ALL for every one that you have
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Take a capability away; ALL for every one
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Let the command do what you can do: all capabilities and devices, no filter, nothing hidden
    #[arg(long)]
    privileged: bool,
    /// `no-new-privileges`, `seccomp=unconfined` or `systempaths=unconfined`
    #[arg(long = "security-opt", value_name = "OPTION")]
    security_opts: Vec<String>,
    /// Make the root filesystem read-only
    #[arg(long)]
    read_only: bool,
    /// Give a device of the host, or all in a directory
    #[arg(long = "device", value_name = "PATH[:PATH_INSIDE[:rwm]]")]
    devices: Vec<String>,
}

impl ConfinementArgs {
    /// Returns what they mean.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] for a capability, option or device that there is not, or that cannot be had.
    pub(crate) fn confinement(&self) -> Result<Confinement, Ending> {
        let capabilities = capabilities(&self.cap_add, &self.cap_drop)?;
        let mut confinement = if self.privileged {
            Confinement::privileged()
        } else {
            Confinement { capabilities, ..Confinement::default() }
        };
        for option in &self.security_opts {
            apply(option, &mut confinement)?;
        }
        for given in &self.devices {
            confinement.devices.extend(devices(given)?);
        }
        if self.read_only {
            confinement.rootfs = Access::ReadOnly;
        }
        Ok(confinement)
    }
}

fn capabilities(added: &[String], dropped: &[String]) -> Result<Capabilities, Ending> {
    let (adds, drops) = (named(added)?, named(dropped)?);
    let union = |sets: &[Capabilities]| sets.iter().fold(Capabilities::NONE, |all, one| all.with(*one));
    Ok(if adds.contains(&Capabilities::ALL) {
        let exceptions: Vec<_> = drops.into_iter().filter(|drop| *drop != Capabilities::ALL).collect();
        Capabilities::ALL.without(union(&exceptions))
    } else {
        Capabilities::default().without(union(&drops)).with(union(&adds))
    })
}

fn named(words: &[String]) -> Result<Vec<Capabilities>, Ending> {
    words.iter().map(|word| Capabilities::named(word).ok_or_else(|| unknown_capability(word))).collect()
}

fn unknown_capability(word: &str) -> Ending {
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let found = dockerfile::nearest(name, Capabilities::names());
    let suggestion = found.map(|name| format!(": did you mean `{name}`?")).unwrap_or_default();
    Ending::usage(format!("there is no capability `{}`{suggestion}", shown(word)))
}

/// Applies one `--security-opt`; docker also writes them with a colon.
fn apply(option: &str, confinement: &mut Confinement) -> Result<(), Ending> {
    let (name, value) = match option.split_once(['=', ':']) {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    match (name, value) {
        ("no-new-privileges", value) => {
            let denied = value.map_or(Ok(true), truth_value);
            let denied = denied.map_err(|why| Ending::usage(format!("`--security-opt {}`: {why}", shown(option))))?;
            confinement.new_privileges = if denied { NewPrivileges::Denied } else { NewPrivileges::Allowed };
        }
        ("seccomp", Some("unconfined")) => confinement.system_calls = SystemCalls::Unfiltered,
        // the profile that there is
        ("seccomp", Some("builtin")) => confinement.system_calls = SystemCalls::Filtered,
        ("systempaths", Some("unconfined")) => {
            confinement.kernel_files = confinement.kernel_files.max(KernelFiles::Unmasked);
        }
        // what is the case anyway: no profile and no label is ever applied
        ("apparmor", Some("unconfined")) | ("label", Some("disable")) => (),
        _ => return Err(refused(option, name)),
    }
    Ok(())
}

fn refused(option: &str, name: &str) -> Ending {
    let why = match name {
        "seccomp" => "profiles from files are not built yet: `unconfined` or `builtin`",
        "systempaths" => "the only value is `unconfined`",
        "apparmor" => "AppArmor profiles are not applied: `unconfined` is the only one",
        "label" => "SELinux labels are not applied: `disable` is the only one",
        _ => "there are `no-new-privileges`, `seccomp=unconfined` and `systempaths=unconfined`",
    };
    Ending::usage(format!("`--security-opt {}`: {why}", shown(option)))
}

/// Reads one `--device`; a directory stands for all devices in it.
fn devices(given: &str) -> Result<Vec<Device>, Ending> {
    let refused = |why: &str| Ending::usage(format!("`--device {}`: {why}", shown(given)));
    let mut parts = given.split(':');
    let host = PathBuf::from(parts.next().unwrap_or_default());
    let rest: Vec<&str> = parts.collect();
    let (target, access) = match rest.as_slice() {
        [] => (None, None),
        [one] if is_access(one) => (None, Some(*one)),
        [target] => (Some(*target), None),
        [target, access] => (Some(*target), Some(*access)),
        _ => return Err(refused("write `PATH`, `PATH:PATH_INSIDE` or `PATH:PATH_INSIDE:rwm`")),
    };
    let target = target.map_or_else(|| host.clone(), PathBuf::from);
    if !host.is_absolute() || !target.is_absolute() {
        return Err(refused("both paths are absolute"));
    }
    match access {
        Some(access) if !is_access(access) => return Err(refused("the access is made of `r`, `w` and `m`")),
        Some(access) if !(access.contains('r') && access.contains('w')) => {
            return Err(refused("there is no device filter yet, so a device can be had with `rw` or `rwm` only"));
        }
        _ => (),
    }
    let found = if host.is_dir() { below(&host) } else { vec![host.clone()] };
    let inside = |path: &Path| match path.strip_prefix(&host) {
        Ok(rest) if !rest.as_os_str().is_empty() => target.join(rest),
        _ => target.clone(),
    };
    let text = |path: PathBuf| path.into_os_string().into_string().map_err(|_| refused("the path is not UTF-8"));
    found.into_iter().map(|host| Ok(Device { target: text(inside(&host))?, host })).collect()
}

fn is_access(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| b"rwm".contains(&byte))
}

/// Every device node below a directory; links are not followed.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut rest = vec![directory.to_owned()];
    while let Some(directory) = rest.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => rest.push(entry.path()),
                Ok(kind) if kind.is_char_device() || kind.is_block_device() => found.push(entry.path()),
                _ => (),
            }
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn set(names: &str) -> Capabilities {
        let names = words(names);
        names.iter().fold(Capabilities::NONE, |all, name| all.with(Capabilities::named(name).unwrap()))
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        let ten = Capabilities::default();
        for (added, dropped, expected) in [
            ("", "", ten),
            ("net_admin CAP_SYS_TIME", "", ten.with(set("NET_ADMIN SYS_TIME"))),
            ("", "chown Cap_Kill", ten.without(set("CHOWN KILL"))),
            ("CHOWN", "CHOWN", ten),
            ("", "all", Capabilities::NONE),
            ("CHOWN", "ALL", set("CHOWN")),
            ("ALL", "", Capabilities::ALL),
            ("all", "SYS_ADMIN", Capabilities::ALL.without(set("SYS_ADMIN"))),
            ("ALL", "ALL", Capabilities::ALL),
        ] {
            assert_eq!(capabilities(&words(added), &words(dropped)).unwrap(), expected, "+{added} -{dropped}");
        }
    }

    #[test]
    fn an_unknown_capability_is_shown_with_the_nearest_one() {
        for (word, expected) in [
            ("NET_ADMN", "there is no capability `NET_ADMN`: did you mean `NET_ADMIN`?"),
            ("cap_sysadmin", "there is no capability `cap_sysadmin`: did you mean `SYS_ADMIN`?"),
            ("everything", "there is no capability `everything`"),
            ("", "there is no capability ``"),
        ] {
            assert_eq!(capabilities(&[word.to_owned()], &[]).unwrap_err().to_string(), expected);
        }
    }

    fn security(options: &str, privileged: bool) -> Result<Confinement, Ending> {
        ConfinementArgs { security_opts: words(options), privileged, ..ConfinementArgs::default() }.confinement()
    }

    #[test]
    fn security_options_mean_what_they_say_or_are_refused() {
        let default = Confinement::default;
        let denied = Confinement { new_privileges: NewPrivileges::Denied, ..default() };
        for (options, expected) in [
            ("no-new-privileges", denied.clone()),
            ("no-new-privileges:true", denied.clone()),
            ("no-new-privileges=true", denied),
            ("no-new-privileges=false", Confinement { new_privileges: NewPrivileges::Allowed, ..default() }),
            ("seccomp=unconfined", Confinement { system_calls: SystemCalls::Unfiltered, ..default() }),
            ("systempaths=unconfined", Confinement { kernel_files: KernelFiles::Unmasked, ..default() }),
            ("apparmor=unconfined label=disable label:disable seccomp=builtin", default()),
        ] {
            assert_eq!(security(options, false).unwrap(), expected, "{options}");
        }
        assert_eq!(security("systempaths=unconfined", true).unwrap(), Confinement::privileged());
        for option in
            ["seccomp=/tmp/p.json", "apparmor=mine", "label=type:x", "systempaths=x", "no-new-privileges=maybe", "what"]
        {
            let message = security(option, false).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`--security-opt {option}`: ")), "{message}");
        }
    }

    #[test]
    fn a_device_is_a_node_a_place_and_an_access_that_can_be_had() {
        let device = |host: &str, target: &str| Device { host: host.into(), target: target.to_owned() };
        for (given, expected) in [
            ("/dev/null", device("/dev/null", "/dev/null")),
            ("/dev/null:/dev/x", device("/dev/null", "/dev/x")),
            ("/dev/null:rw", device("/dev/null", "/dev/null")),
            ("/dev/null:/dev/x:rwm", device("/dev/null", "/dev/x")),
        ] {
            assert_eq!(devices(given).unwrap(), [expected], "{given}");
        }
        for given in ["", "null", "/dev/null:x", "/dev/null:/dev/x:r", "/dev/null:/dev/x:q", "/a:/b:rw:m"] {
            assert!(devices(given).is_err(), "{given}");
        }
        let terminals = devices("/dev/pts:/terminals").unwrap();
        assert!(terminals.contains(&device("/dev/pts/ptmx", "/terminals/ptmx")), "{terminals:?}");
    }
}
