//! Reads `--tmpfs TARGET[:OPTIONS]`, whose options are those of `mount`; without any, no program in it runs, as with docker.

use runtime::{Access, Programs, Tmpfs};

use super::spec::{MountSpec, MountSpecError, Source, target};
use crate::size;

const KNOWN: &str = "size=, mode=, uid=, gid=, nr_inodes=, ro, rw, exec, noexec, suid, nosuid, nodev";

/// What both flags make when they say nothing else.
pub(super) fn default() -> Tmpfs {
    Tmpfs { programs: Programs::None, ..Tmpfs::default() }
}

/// Reads the value of the flag.
pub(super) fn parse(text: &str) -> Result<MountSpec, MountSpecError> {
    let (to, options) = text.split_once(':').unwrap_or((text, ""));
    let target = target(to)?;
    let mut draft = Draft { tmpfs: default(), is_executable: false, has_set_uid: false };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        draft.set(option)?;
    }
    Ok(MountSpec { target, source: Source::Tmpfs(draft.finish()) })
}

/// Options in any order; of two that contradict, the later counts, as with `mount`.
struct Draft {
    tmpfs: Tmpfs,
    is_executable: bool,
    has_set_uid: bool,
}

impl Draft {
    fn set(&mut self, option: &str) -> Result<(), MountSpecError> {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        let tmpfs = &mut self.tmpfs;
        let value = match (key, value) {
            ("size" | "mode" | "uid" | "gid" | "nr_inodes", value) => value.unwrap_or_default(),
            (_, None) => "",
            _ => return Err(unknown(option)),
        };
        let wrong = || MountSpecError::Value { option: key.to_owned(), value: value.to_owned() };
        match key {
            "size" => tmpfs.size = Some(size::binary(value).map_err(|_| wrong())?),
            "nr_inodes" => tmpfs.inodes = Some(size::binary(value).map_err(|_| wrong())?),
            "mode" => tmpfs.mode = mode(value).ok_or_else(wrong)?,
            "uid" => tmpfs.owner.0 = id(value).ok_or_else(wrong)?,
            "gid" => tmpfs.owner.1 = id(value).ok_or_else(wrong)?,
            "ro" => tmpfs.access = Access::ReadOnly,
            "rw" => tmpfs.access = Access::ReadWrite,
            "exec" => self.is_executable = true,
            "noexec" => self.is_executable = false,
            "suid" => self.has_set_uid = true,
            "nosuid" => self.has_set_uid = false,
            "nodev" => {}
            "dev" => {
                let instead = "device nodes work only in `/dev`";
                return Err(MountSpecError::NotBuilt { option: "dev".to_owned(), instead });
            }
            _ => return Err(unknown(option)),
        }
        Ok(())
    }

    fn finish(self) -> Tmpfs {
        let programs = match (self.is_executable, self.has_set_uid) {
            (false, _) => Programs::None,
            (true, false) => Programs::Plain,
            (true, true) => Programs::SetUid,
        };
        Tmpfs { programs, ..self.tmpfs }
    }
}

/// Reads permission bits in octal.
pub(super) fn mode(text: &str) -> Option<u32> {
    let is_octal = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    u32::from_str_radix(text, 8).ok().filter(|mode| is_octal && *mode <= 0o7777)
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id < u32::MAX && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn unknown(option: &str) -> MountSpecError {
    MountSpecError::Option { option: option.to_owned(), known: KNOWN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<Tmpfs, &str>) {
        let found = parse(text).map(|spec| match spec {
            MountSpec { target, source: Source::Tmpfs(tmpfs) } if target == "/t" => tmpfs,
            other => panic!("{other:?}"),
        });
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{text}");
    }

    #[test]
    fn options_are_those_of_mount() {
        let default = Tmpfs { programs: Programs::None, ..Tmpfs::default() };
        assert_eq!((default.mode, default.size), (0o1777, None));
        check("/t", Ok(default));
        check("/t/:", Ok(default));
        check("/t:size=64m,mode=700", Ok(Tmpfs { size: Some(64 << 20), mode: 0o700, ..default }));
        let owned = Tmpfs { owner: (33, 44), inodes: Some(10), access: Access::ReadOnly, ..default };
        check("/t:uid=33,gid=44,nr_inodes=10,ro", Ok(owned));
        check("/t:exec", Ok(Tmpfs { programs: Programs::Plain, ..default }));
        check("/t:exec,suid,nodev", Ok(Tmpfs { programs: Programs::SetUid, ..default }));
        check("/t:suid,exec,noexec,ro,rw", Ok(default));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        check("t", Err("target `t` is not an absolute path"));
        check("/t:size=many", Err("`many` is not a value of `size`"));
        check("/t:mode=9", Err("`9` is not a value of `mode`"));
        check("/t:mode", Err("`` is not a value of `mode`"));
        check("/t:uid=-1", Err("`-1` is not a value of `uid`"));
        check("/t:gid=4294967295", Err("`4294967295` is not a value of `gid`"));
        check("/t:dev", Err("`dev` is not built: device nodes work only in `/dev`"));
        let unknown = |option| format!("`{option}` is not an option here (there are {KNOWN})");
        check("/t:huge=always", Err(&unknown("huge=always")));
        check("/t:ro=1", Err(&unknown("ro=1")));
    }
}
