//! Users and groups, as `/etc/passwd` and `/etc/group` of a root filesystem know them.
//!
//! | written | uid | gid | further groups | home |
//! |---|---|---|---|---|
//! | nothing | 0 | root's | root's | root's |
//! | name | of its line, or an error | of its line | that list the name | of its line |
//! | number | the number, never a name | of its line, else 0 | of the line's name | of its line, else `/` |
//! | `user:group` | as above | the group's, or the number | none | as above |
//!
//! The files are looked up inside the root filesystem, links and all; only regular files of at most 1 MiB are read, so that
//! neither a fifo nor a device can hold up or fill the reader. A missing file is an empty one.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::sys;

const LARGEST_ID: u64 = 0x7fff_ffff;
/// No `/etc/passwd` or `/etc/group` that counts has more bytes.
pub const LARGEST_ACCOUNT_FILE: u64 = 1024 * 1024;

/// Reads one of the two files, named by its path in the image; one that is not there is empty.
pub type ReadAccounts<'a> = &'a dyn Fn(&Path) -> Result<Vec<u8>, UserError>;

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further groups, without the primary one.
    pub additional_gids: Vec<u32>,
    /// Home directory, for `HOME`.
    pub home: String,
}

/// Why a user or group could not be found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each message says what its variant means")]
pub enum UserError {
    #[error("no user `{}` in /etc/passwd of the image", .name.escape_debug())]
    NoUser { name: String },
    #[error("no group `{}` in /etc/group of the image", .name.escape_debug())]
    NoGroup { name: String },
    #[error("id `{}` is not between 0 and 2147483647", .id.escape_debug())]
    OutOfRange { id: String },
    #[error("`{}` of the image is not a regular file", .path.display())]
    NotAFile { path: PathBuf },
    #[error("`{}` of the image is larger than 1 MiB", .path.display())]
    TooLarge { path: PathBuf },
    #[error("cannot read `{}` of the image", .path.display())]
    Read { path: PathBuf, source: io::Error },
}

impl User {
    /// Finds the user that `spec` means in the image at `rootfs`: nothing, `user`, or `user:group`, each a name or a number.
    ///
    /// # Errors
    ///
    /// [`UserError::NoUser`] and [`UserError::NoGroup`] for a name that is not there, [`UserError::OutOfRange`] for a number that
    /// is no id, otherwise the file that cannot be used.
    pub fn resolve(rootfs: &Path, spec: &str) -> Result<Self, UserError> {
        Self::find(spec, &|path| read_file(rootfs, path))
    }

    /// Finds the user that `spec` means in an image whose files `read` reads.
    ///
    /// # Errors
    ///
    /// As [`User::resolve`].
    pub fn find(spec: &str, read: ReadAccounts<'_>) -> Result<Self, UserError> {
        let (user, group) = split(spec);
        let passwd = Table::passwd(read)?;
        let (uid, line) = find_user(&passwd, user.unwrap_or("0"))?;
        let groups = Table::group(read)?;
        let (gid, additional_gids) = match group {
            Some(group) => (find_group(&groups, group)?, Vec::new()),
            None => {
                let gid = line.as_ref().map_or(0, |line| line.gid);
                (gid, line.as_ref().map_or_else(Vec::new, |line| memberships(&groups, &line.name, gid)))
            }
        };
        let home = line.map(|line| line.home).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
        Ok(Self { uid, gid, additional_gids, home })
    }

    /// Adds a group, by its name in the image at `rootfs` or its number.
    ///
    /// # Errors
    ///
    /// As [`User::resolve`].
    pub fn join(&mut self, rootfs: &Path, group: &str) -> Result<(), UserError> {
        let gid = find_group(&Table::group(&|path| read_file(rootfs, path))?, group)?;
        if gid != self.gid && !self.additional_gids.contains(&gid) {
            self.additional_gids.push(gid);
        }
        Ok(())
    }
}

/// Finds the owner that `spec` means for files, as `COPY --chown` writes it: `user` or `user:group`, each a name or a number.
///
/// Without a group it is that of the user's line for a name, and the same number for a number. The image's files are read only
/// for names.
///
/// # Errors
///
/// As [`User::resolve`].
pub fn find_owner(spec: &str, read: ReadAccounts<'_>) -> Result<(u32, u32), UserError> {
    let (user, group) = split(spec);
    let (uid, own_gid) = match user {
        None => (0, 0),
        Some(user) => match number(user)? {
            Some(uid) => (uid, uid),
            None => {
                let (uid, line) = find_user(&Table::passwd(read)?, user)?;
                (uid, line.map_or(0, |line| line.gid))
            }
        },
    };
    let Some(group) = group else { return Ok((uid, own_gid)) };
    match number(group)? {
        Some(gid) => Ok((uid, gid)),
        None => Ok((uid, find_group(&Table::group(read)?, group)?)),
    }
}

/// Splits `user:group`; an empty half is not there.
fn split(spec: &str) -> (Option<&str>, Option<&str>) {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let some = |part: &'_ str| !part.is_empty();
    (Some(user).filter(|part| some(part)), Some(group).filter(|part| some(part)))
}

/// Reads `text` as an id if it is a number with or without a sign: then it is never a name.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let value = text.parse::<u64>().ok().filter(|id| *id <= LARGEST_ID && text == digits);
    let id = value.and_then(|id| u32::try_from(id).ok());
    id.map(Some).ok_or_else(|| UserError::OutOfRange { id: text.to_owned() })
}

struct PasswdLine {
    name: String,
    gid: u32,
    home: String,
}

fn find_user(passwd: &Table, user: &str) -> Result<(u32, Option<PasswdLine>), UserError> {
    let by_number = number(user)?;
    for fields in passwd.lines() {
        let [name, _, uid, gid, rest @ ..] = fields.as_slice() else { continue };
        let (Some(uid), Some(gid)) = (id(uid), id(gid)) else { continue };
        if by_number.map_or(*name == user, |number| number == uid) {
            let home = rest.get(1).copied().unwrap_or_default().to_owned();
            return Ok((uid, Some(PasswdLine { name: (*name).to_owned(), gid, home })));
        }
    }
    by_number.map(|uid| (uid, None)).ok_or_else(|| UserError::NoUser { name: user.to_owned() })
}

fn find_group(groups: &Table, group: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(group)? {
        return Ok(gid);
    }
    let mut lines = groups.lines();
    let found = lines.find_map(|fields| match fields.as_slice() {
        [name, _, gid, ..] if *name == group => id(gid),
        _ => None,
    });
    found.ok_or_else(|| UserError::NoGroup { name: group.to_owned() })
}

/// The groups that list `user`, without `primary`, each once.
fn memberships(groups: &Table, user: &str, primary: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for fields in groups.lines() {
        let [_, _, gid, members, ..] = fields.as_slice() else { continue };
        let Some(gid) = id(gid) else { continue };
        if gid != primary && !found.contains(&gid) && members.split(',').any(|member| member == user) {
            found.push(gid);
        }
    }
    found
}

/// An id in a file: a number in range, or the line does not count.
fn id(text: &str) -> Option<u32> {
    number(text).ok().flatten()
}

/// The text of one of the two files.
struct Table(String);

impl Table {
    fn passwd(read: ReadAccounts<'_>) -> Result<Self, UserError> {
        Self::read(read, "/etc/passwd")
    }

    fn group(read: ReadAccounts<'_>) -> Result<Self, UserError> {
        Self::read(read, "/etc/group")
    }

    fn read(read: ReadAccounts<'_>, path: &str) -> Result<Self, UserError> {
        Ok(Self(String::from_utf8_lossy(&read(Path::new(path))?).into_owned()))
    }

    /// Lines of colon-separated fields. Comments have too few to be seen.
    fn lines(&self) -> impl Iterator<Item = Vec<&str>> {
        self.0.lines().map(|line| line.trim().split(':').collect())
    }
}

/// Reads one of the two files of the image at `rootfs`.
fn read_file(rootfs: &Path, path: &Path) -> Result<Vec<u8>, UserError> {
    let failed = |source: io::Error| UserError::Read { path: path.to_owned(), source };
    let Some(file) = open(rootfs, path).map_err(|errno| failed(errno.into()))? else { return Ok(Vec::new()) };
    let stat = rustix::fs::fstat(&file).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(UserError::NotAFile { path: path.to_owned() });
    }
    let mut bytes = Vec::new();
    file.take(LARGEST_ACCOUNT_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST_ACCOUNT_FILE {
        return Err(UserError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Opens a file of the image; `None` if there is none. Never waits for a fifo's other end, never becomes a terminal's.
fn open(rootfs: &Path, path: &Path) -> Result<Option<File>, Errno> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, rootfs, directory, Mode::empty())?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    match sys::open_in_root(&root, path, flags) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nana:x:1000:100:Ana:/home/ana:/bin/sh\n1234:x:7:7::/seven:\n\
                          bad:x:nine:9::/:\nhomeless:x:1001:1001:::\n";
    const GROUP: &str =
        "root:x:0:\nwheel:x:10:root,ana\nusers:x:100:ana\ndocker:x:998:ana,bob\n1234:x:8:\nwheel2:x:10:ana\n";

    fn image(passwd: &str, group: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), group).unwrap();
        root
    }

    fn show(user: Result<User, UserError>) -> String {
        match user {
            Ok(user) => format!("{}:{} {:?} {}", user.uid, user.gid, user.additional_gids, user.home),
            Err(error) => error.to_string(),
        }
    }

    fn check(cases: &[(&str, &str)]) {
        let root = image(PASSWD, GROUP);
        for (spec, expected) in cases {
            assert_eq!(show(User::resolve(root.path(), spec)), *expected, "`{spec}`");
        }
    }

    #[test]
    fn renames_elsewhere_do_not_disturb() {
        let root = image(PASSWD, GROUP);
        fs::create_dir(root.path().join("real")).unwrap();
        fs::rename(root.path().join("etc/passwd"), root.path().join("real/passwd")).unwrap();
        std::os::unix::fs::symlink("../real/../real/passwd", root.path().join("etc/passwd")).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let (one, two) = (elsewhere.path().join("1"), elsewhere.path().join("2"));
        fs::write(&one, "").unwrap();
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    fs::rename(&one, &two).and_then(|()| fs::rename(&two, &one)).unwrap();
                }
            });
            let found: Vec<_> = (0..2000).map(|_| show(User::resolve(root.path(), "ana"))).collect();
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(found.iter().all(|found| found == "1000:100 [10, 998] /home/ana"), "{found:?}");
        });
    }

    #[test]
    fn a_user_is_found_as_docker_finds_it() {
        check(&[
            ("", "0:0 [10] /root"),
            ("root", "0:0 [10] /root"),
            ("0", "0:0 [10] /root"),
            ("ana", "1000:100 [10, 998] /home/ana"),
            ("ana:", "1000:100 [10, 998] /home/ana"),
            ("1000", "1000:100 [10, 998] /home/ana"),
            ("ana:wheel", "1000:10 [] /home/ana"),
            ("ana:4242", "1000:4242 [] /home/ana"),
            ("5000", "5000:0 [] /"),
            ("5000:docker", "5000:998 [] /"),
            (":wheel", "0:10 [] /root"),
            ("homeless", "1001:1001 [] /"),
        ]);
    }

    #[test]
    fn a_joined_group_is_a_name_or_a_number_and_is_there_once() {
        let root = image(PASSWD, GROUP);
        let mut user = User::resolve(root.path(), "ana").unwrap();
        for group in ["users", "wheel", "docker", "4242", "4242"] {
            user.join(root.path(), group).unwrap();
        }
        assert_eq!(show(Ok(user.clone())), "1000:100 [10, 998, 4242] /home/ana");
        assert!(matches!(user.join(root.path(), "eve"), Err(UserError::NoGroup { .. })));
        assert!(matches!(user.join(root.path(), "-1"), Err(UserError::OutOfRange { .. })));
    }

    #[test]
    fn a_number_is_never_a_name() {
        check(&[("1234", "1234:0 [] /"), ("1234:1234", "1234:1234 [] /"), ("7", "7:7 [] /seven")]);
    }

    #[test]
    fn what_is_not_there_or_no_id_is_an_error() {
        check(&[
            ("eve", "no user `eve` in /etc/passwd of the image"),
            ("ana:eve", "no group `eve` in /etc/group of the image"),
            ("bad", "no user `bad` in /etc/passwd of the image"),
            ("2147483647", "2147483647:0 [] /"),
            ("2147483648", "id `2147483648` is not between 0 and 2147483647"),
            ("0:4294967296", "id `4294967296` is not between 0 and 2147483647"),
            ("99999999999999999999", "id `99999999999999999999` is not between 0 and 2147483647"),
            ("-1", "id `-1` is not between 0 and 2147483647"),
            ("+1", "id `+1` is not between 0 and 2147483647"),
            ("a\u{1b}b", "no user `a\\u{1b}b` in /etc/passwd of the image"),
        ]);
    }

    #[test]
    fn an_image_without_files_knows_numbers_and_root_by_number_only() {
        let root = tempfile::tempdir().unwrap();
        for (spec, expected) in
            [("", "0:0 [] /"), ("5:6", "5:6 [] /"), ("root", "no user `root` in /etc/passwd of the image")]
        {
            assert_eq!(show(User::resolve(root.path(), spec)), expected, "`{spec}`");
        }
    }

    #[test]
    fn an_owner_without_a_group_gets_the_line_of_a_name_and_the_number_of_a_number() {
        let owner = |spec| {
            let read = |path: &Path| Ok(if path.ends_with("passwd") { PASSWD } else { GROUP }.as_bytes().to_vec());
            find_owner(spec, &read)
        };
        for (spec, expected) in [
            ("ana", (1000, 100)),
            ("1000", (1000, 1000)),
            ("ana:wheel", (1000, 10)),
            ("5:6", (5, 6)),
            (":wheel", (0, 10)),
        ] {
            assert_eq!(owner(spec).unwrap(), expected, "`{spec}`");
        }
        assert!(matches!(owner("eve"), Err(UserError::NoUser { .. })));
        assert!(matches!(owner("0:eve"), Err(UserError::NoGroup { .. })));
    }

    #[test]
    fn links_are_followed_inside_the_image_only() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("passwd"), "eve:x:666:666::/:\n").unwrap();
        let root = image("", "");
        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        symlink(outside.path().join("passwd"), root.path().join("etc/passwd")).unwrap();
        assert!(matches!(User::resolve(root.path(), "eve"), Err(UserError::NoUser { .. })));
        fs::remove_file(root.path().join("etc/passwd")).unwrap();
        fs::write(root.path().join("real"), "eve:x:5:5::/:\n").unwrap();
        symlink("../../../real", root.path().join("etc/passwd")).unwrap();
        assert_eq!(User::resolve(root.path(), "eve").unwrap().uid, 5);
    }

    #[test]
    fn a_fifo_a_directory_and_an_endless_file_are_refused_at_once() {
        let root = image("", "");
        let passwd = root.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        rustix::fs::mknodat(CWD, &passwd, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        assert!(matches!(User::resolve(root.path(), "a"), Err(UserError::NotAFile { .. })));
        fs::remove_file(&passwd).unwrap();
        fs::create_dir(&passwd).unwrap();
        assert!(matches!(User::resolve(root.path(), "a"), Err(UserError::NotAFile { .. })));
        fs::remove_dir(&passwd).unwrap();
        File::create(&passwd).unwrap().set_len(LARGEST_ACCOUNT_FILE + 1).unwrap();
        assert!(matches!(User::resolve(root.path(), "a"), Err(UserError::TooLarge { .. })));
    }
}
