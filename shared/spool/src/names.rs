//! Names in the directory that are not WAL and not somebody's mistake.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that `push` has not finished.
pub(crate) const PUSH: &str = ".walferry-push.";

/// A file that `delete` has put aside and not yet unlinked.
pub(crate) const ASIDE: &str = ".walferry-delete.";

/// What `check` makes and removes to see whether it may.
pub(crate) const PROBE: &str = ".walferry-check.";

/// Folder of ours: the ledger of handed-over history files.
pub(crate) const OURS: &str = ".walferry";

/// Folder of files that a person put aside.
pub(crate) const QUARANTINE: &str = "quarantine";

/// Names that no scan reports: temporary ones of ours, of `basic_archive` (`archtemp.`) and of
/// tools such as rsync (a leading dot), and folders that belong there.
pub(crate) fn ignored(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(b".")
        || name.starts_with(b"archtemp.")
        || name == QUARANTINE.as_bytes()
        || name == b"lost+found"
}

/// `<prefix><name>.<pid>.<time>.<count>`: never used twice, not even by the same process id
/// after a restart or in another container.
pub(crate) fn unique(prefix: &str, name: &str) -> OsString {
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{name}.{}.{now:x}.{count:x}", std::process::id()).into()
}

/// The WAL name inside a name that `unique` made.
pub(crate) fn inside(prefix: &str, name: &OsStr) -> Option<String> {
    let rest = name.to_str()?.strip_prefix(prefix)?;
    let mut parts = rest.rsplitn(4, '.');
    let (_count, _time, _pid) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_name_gives_back_the_wal_name_and_is_never_scanned() {
        for name in [
            "00000002.history",
            "0000000100000000000000A1",
            "0000000100000000000000A1.00000028.backup",
        ] {
            let unique = unique(ASIDE, name);
            assert_eq!(inside(ASIDE, &unique).as_deref(), Some(name));
            assert!(ignored(&unique));
        }
        assert_ne!(unique(PUSH, "x"), unique(PUSH, "x"));
        assert!(!ignored(OsStr::new("0000000100000000000000A1")));
        assert!(!ignored(OsStr::new("notes.txt")));
        assert!(ignored(OsStr::new("archtemp.0000000100000000000000A1.1.2")));
    }
}
