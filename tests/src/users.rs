//! Who runs what. PostgreSQL refuses root, and PostgreSQL's user and the
//! worker's differ in the default set-up, so under root three users are
//! at work: root (the test), `postgres`, and one without a name for walferry.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// The group that the archive directory belongs to, given to PostgreSQL and to
/// the worker as a supplementary one. It needs no entry in `/etc/group`.
pub const SHARED_GROUP: u32 = 27_432;
const WALFERRY_USER: u32 = 27_433;

/// A user of the test world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the test.
    Tester,
    /// PostgreSQL's user, member of the shared group.
    Postgres,
    /// A user of walferry's own, member of the shared group.
    Walferry,
    /// A user who is in no group of the others.
    Stranger,
}

/// Whether the test may become other users.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fails the test when the world cannot have two users: such a test must not
/// pass by testing nothing.
pub fn need_two_users() {
    assert!(
        is_root(),
        "this test runs PostgreSQL and walferry as two users and needs root for that"
    );
}

impl User {
    /// A command that runs `program` as this user.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        let Some((uid, gid, groups)) = self.ids() else {
            return Command::new(program);
        };
        let mut command = Command::new("/usr/bin/setpriv");
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .arg(match groups {
                Some(group) => format!("--groups={group}"),
                None => "--clear-groups".into(),
            })
            .arg("--")
            .arg(program);
        command
    }

    /// Gives `path` to this user, with `group` if one is named.
    pub fn own(self, path: &Path, group: Option<u32>) {
        self.try_own(path, group)
            .unwrap_or_else(|error| panic!("chown {}: {error}", path.display()));
    }

    /// The same for a file that somebody else may take away meanwhile.
    ///
    /// # Errors
    /// The file system's.
    pub fn try_own(self, path: &Path, group: Option<u32>) -> std::io::Result<()> {
        if !is_root() {
            return Ok(());
        }
        let (uid, gid, _) = self.ids().unwrap_or((0, 0, None));
        std::os::unix::fs::chown(path, Some(uid), Some(group.unwrap_or(gid)))
    }

    /// User id, group id, supplementary group; nothing when the command runs as
    /// whoever runs the test.
    fn ids(self) -> Option<(u32, u32, Option<u32>)> {
        if !is_root() {
            return None;
        }
        match self {
            User::Tester => None,
            User::Postgres => {
                let (uid, gid) = postgres_account();
                Some((uid, gid, Some(SHARED_GROUP)))
            }
            User::Walferry => Some((WALFERRY_USER, WALFERRY_USER, Some(SHARED_GROUP))),
            User::Stranger => Some((WALFERRY_USER + 1, WALFERRY_USER + 1, None)),
        }
    }
}

/// The account of Debian's package; `nobody` where PostgreSQL came otherwise. Never root: the
/// server refuses it.
fn postgres_account() -> (u32, u32) {
    let passwd = std::fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    ["postgres:", "nobody:"]
        .into_iter()
        .find_map(|account| passwd.lines().find_map(|line| ids_of(line, account)))
        .expect("a user `postgres` or `nobody` exists. HINT: useradd --system postgres")
}

fn ids_of(line: &str, account: &str) -> Option<(u32, u32)> {
    let mut fields = line.strip_prefix(account)?.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
