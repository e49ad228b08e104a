//! Whether the process that asked still lives.
//!
//! `%p` is `pg_wal/RECOVERYXLOG` for every segment. A fetch that outlives the server which
//! started it could put segment N there while the next start waits for M, so the kernel kills it
//! with its parent, and before the rename it looks once more.

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// The processes that wait for us: our parent and its parent, since PostgreSQL starts a shell,
/// and a shell with more to do than one command stays between.
#[derive(Clone, Debug)]
pub struct Parent {
    chain: Vec<i32>,
}

impl Parent {
    /// From now on this process dies (SIGKILL) when its parent does.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn bind() -> std::io::Result<Self> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(Self { chain: chain() })
    }

    /// For what has no server to outlive.
    #[must_use]
    pub fn of_now() -> Self {
        Self { chain: chain() }
    }

    /// Whether those who waited at the beginning still do.
    #[must_use]
    pub fn lives(&self) -> bool {
        self.chain == chain()
    }
}

fn chain() -> Vec<i32> {
    // 0 is a parent outside our process namespace; it stays 0 as long as it lives.
    let parent = getppid().map_or(0, Pid::as_raw_pid);
    let grandparent = std::fs::read_to_string(format!("/proc/{parent}/stat"))
        .ok()
        .and_then(|stat| ppid(&stat));
    std::iter::once(parent).chain(grandparent).collect()
}

/// The fourth field of `/proc/PID/stat`; the second, a name in brackets, may hold anything.
fn ppid(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_whatever_the_process_is_called() {
        assert_eq!(ppid("7 (a) b (c) S 42 7 7 0"), Some(42));
        assert_eq!(ppid("7 (sh"), None);
        assert!(Parent::of_now().lives());
        assert!(Parent::of_now().chain.len() == 2, "{:?}", Parent::of_now());
    }
}
