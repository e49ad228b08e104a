//! Removing what pushes that died have left.

use crate::directory::Directory;
use crate::{lock, names};

/// Unlinks temporary files whose push is dead. Best effort: a push does not fail for it.
pub(crate) fn clean(directory: &Directory) {
    let Ok(names) = directory.names() else {
        return;
    };
    let temporary = |name: &&std::ffi::OsString| {
        name.to_str()
            .is_some_and(|name| name.starts_with(names::PUSH))
    };
    for name in names.iter().filter(temporary) {
        // Not readable for us: another user's, whose own pushes will remove it.
        let Ok(handle) = directory.open_file(name) else {
            continue;
        };
        // Whoever works on it, even frozen, holds the lock until it dies. A file without one
        // was never acknowledged to PostgreSQL, since its name never became final: a push
        // that renames gives up the lock only after the rename, and then this name is gone.
        // Names are never used twice, so the unlink hits this file or nothing.
        if lock::try_lock(&handle).unwrap_or(false) {
            let _ = directory.unlink(name);
        }
    }
}
