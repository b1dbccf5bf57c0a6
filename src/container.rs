//! What a container of an image runs: the image's config, with what the command line says instead.
//!
//! | `--entrypoint` | words after IMAGE | runs |
//! |---|---|---|
//! | – | – | Entrypoint Cmd |
//! | – | words | Entrypoint words |
//! | given | – | it alone: Cmd belongs to the image's own entrypoint |
//! | given | words | it, words |
//! | empty | words | words |
//!
//! Spec: image-spec 1.1, config.md "config"; docker's `run` where that leaves it open.

use oci::ContainerConfig;

use crate::ending::Ending;
use crate::shown::shown;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the command line says about a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) entrypoint: Option<String>,
    /// The words after the image.
    pub(crate) command: Vec<String>,
    /// `NAME=value`.
    pub(crate) env: Vec<String>,
    pub(crate) user: Option<String>,
    pub(crate) workdir: Option<String>,
    pub(crate) terminal: Terminal,
}

/// Whether a container has a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Terminal {
    #[default]
    Absent,
    Present,
}

impl Overrides {
    /// Returns the command and its arguments.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] when neither the image nor the command line says what to run.
    pub(crate) fn args(&self, config: &ContainerConfig) -> Result<Vec<String>, Ending> {
        let entrypoint = match &self.entrypoint {
            None => config.entrypoint.clone().unwrap_or_default(),
            Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
            Some(entrypoint) => vec![entrypoint.clone()],
        };
        let command = match (&self.entrypoint, self.command.is_empty()) {
            (None, true) => config.cmd.clone().unwrap_or_default(),
            _ => self.command.clone(),
        };
        let args: Vec<String> = entrypoint.into_iter().chain(command).collect();
        if args.is_empty() {
            return Err(Ending::usage("no command specified: the image has none, so name one after it"));
        }
        Ok(args)
    }

    /// Returns the environment: the image's, then the command line's, then what every container has.
    ///
    /// An entry of the image without `=` sets nothing and is left out.
    pub(crate) fn env(&self, config: &ContainerConfig, hostname: &str, home: &str) -> Vec<String> {
        let mut env: Vec<String> = Vec::new();
        for entry in config.env.iter().filter(|entry| entry.contains('=')).chain(&self.env) {
            set(&mut env, entry.clone());
        }
        let mut defaults = vec![PATH.to_owned(), format!("HOSTNAME={hostname}"), format!("HOME={home}")];
        if self.terminal == Terminal::Present {
            defaults.push("TERM=xterm".to_owned());
        }
        for entry in defaults {
            if !env.iter().any(|known| name_of(known) == name_of(&entry)) {
                env.push(entry);
            }
        }
        env
    }

    /// Returns the working directory.
    ///
    /// # Errors
    ///
    /// [`Ending::Usage`] for a relative one.
    pub(crate) fn cwd(&self, config: &ContainerConfig) -> Result<String, Ending> {
        let given = self.workdir.as_deref().filter(|workdir| !workdir.is_empty());
        let cwd = given.unwrap_or(&config.working_dir);
        match cwd {
            "" => Ok("/".to_owned()),
            cwd if cwd.starts_with('/') => Ok(cwd.to_owned()),
            cwd => Err(Ending::usage(format!("the working directory `{}` is not an absolute path", shown(cwd)))),
        }
    }

    /// Returns who the process is, as the image's `/etc/passwd` knows it.
    pub(crate) fn user<'a>(&'a self, config: &'a ContainerConfig) -> &'a str {
        self.user.as_deref().unwrap_or(&config.user)
    }
}

fn set(env: &mut Vec<String>, entry: String) {
    match env.iter_mut().find(|known| name_of(known) == name_of(&entry)) {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn entrypoint_and_command_combine_as_docker_does() {
        let cases = [
            (Some("e 1"), Some("c"), None, "", "e 1 c"),
            (Some("e 1"), Some("c"), None, "x y", "e 1 x y"),
            (None, Some("c d"), None, "", "c d"),
            (None, Some("c d"), None, "x", "x"),
            (Some("e"), None, None, "", "e"),
            (Some("e"), Some("c"), Some("n"), "", "n"),
            (Some("e"), Some("c"), Some("n"), "x", "n x"),
            (Some("e"), Some("c"), Some(""), "x", "x"),
        ];
        for (entrypoint, cmd, given, command, expected) in cases {
            let config = ContainerConfig {
                entrypoint: entrypoint.map(words),
                cmd: cmd.map(words),
                ..ContainerConfig::default()
            };
            let overrides =
                Overrides { entrypoint: given.map(str::to_owned), command: words(command), ..Overrides::default() };
            assert_eq!(overrides.args(&config).unwrap().join(" "), expected);
        }
        assert!(Overrides::default().args(&ContainerConfig::default()).is_err());
    }

    #[test]
    fn the_command_line_wins_over_the_image_and_both_over_defaults() {
        let config = ContainerConfig { env: words("A=1 PATH=/x NOTHING B=2"), ..ContainerConfig::default() };
        let overrides = Overrides { env: words("A=3 HOME=/h"), terminal: Terminal::Present, ..Overrides::default() };
        let expected = words("A=3 PATH=/x B=2 HOME=/h HOSTNAME=box TERM=xterm");
        assert_eq!(overrides.env(&config, "box", "/root"), expected);
        let plain = Overrides::default().env(&ContainerConfig::default(), "box", "/root");
        assert_eq!(plain, [PATH, "HOSTNAME=box", "HOME=/root"]);
    }

    #[test]
    fn a_working_directory_is_absolute() {
        let config = ContainerConfig { working_dir: "/app".to_owned(), ..ContainerConfig::default() };
        let cwd = |workdir: Option<&str>, config: &ContainerConfig| {
            Overrides { workdir: workdir.map(str::to_owned), ..Overrides::default() }.cwd(config)
        };
        assert_eq!(cwd(None, &config).unwrap(), "/app");
        assert_eq!(cwd(Some("/x"), &config).unwrap(), "/x");
        assert_eq!(cwd(None, &ContainerConfig::default()).unwrap(), "/");
        assert!(cwd(Some("x"), &config).is_err());
    }
}
