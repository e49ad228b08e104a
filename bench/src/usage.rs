//! What a process used, read from `/proc` (proc_pid_stat(5), proc_pid_status(5)).

use std::time::Duration;

/// Processor time and memory of one process so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of its threads, and of children that it waited for.
    pub cpu: Duration,
    /// Resident memory now, in bytes.
    pub rss: u64,
    /// The most resident memory it ever had, in bytes.
    pub peak_rss: u64,
}

impl Usage {
    /// What process `id` used so far; zeros when it is gone.
    #[must_use]
    pub fn of(id: u32) -> Usage {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name in parentheses may hold spaces; fields are counted from behind it.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map_or(Vec::new(), |(_, rest)| rest.split_whitespace().collect());
        // utime, stime, cutime, cstime are fields 14 to 17; `state`, the first here, is 3.
        let ticks: u64 = (11..15)
            .filter_map(|at| fields.get(at)?.parse::<u64>().ok())
            .sum();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kilobytes = |name: &str| {
            status
                .lines()
                .find_map(|line| {
                    line.strip_prefix(name)?
                        .strip_prefix(':')?
                        .split_whitespace()
                        .next()?
                        .parse::<u64>()
                        .ok()
                })
                .map_or(0, |kilobytes| kilobytes * 1024)
        };
        Usage {
            cpu: ticks_as_time(ticks),
            rss: kilobytes("VmRSS"),
            peak_rss: kilobytes("VmHWM"),
        }
    }

    /// What process `id` and all its living descendants used so far, together: a server with
    /// a process for each connection. Memory that they share counts for each.
    #[must_use]
    pub fn of_tree(id: u32) -> Usage {
        let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let child = entry.file_name().to_str()?.parse().ok()?;
                let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
                let (_, rest) = stat.rsplit_once(')')?;
                Some((child, rest.split_whitespace().nth(1)?.parse().ok()?))
            })
            .collect();
        let mut tree = vec![id];
        let mut at = 0;
        while let Some(parent) = tree.get(at).copied() {
            let children = parents.iter().filter(|(_, of)| *of == parent);
            tree.extend(children.map(|(child, _)| *child));
            at += 1;
        }
        tree.into_iter()
            .map(Usage::of)
            .fold(Usage::default(), |sum, one| Usage {
                cpu: sum.cpu + one.cpu,
                rss: sum.rss + one.rss,
                peak_rss: sum.peak_rss + one.peak_rss,
            })
    }

    /// The processor time that each living thread of process `id` used so far, by its name.
    #[must_use]
    pub fn of_threads(id: u32) -> Vec<(String, Duration)> {
        let threads = std::fs::read_dir(format!("/proc/{id}/task"));
        threads
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
            .filter_map(|stat| {
                let (head, rest) = stat.rsplit_once(')')?;
                let (_, name) = head.split_once('(')?;
                let fields = rest.split_whitespace().skip(11).take(2);
                let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
                Some((name.to_owned(), ticks_as_time(ticks)))
            })
            .collect()
    }

    /// The processor time that the children this process has waited for used so far: the
    /// difference around a command is what that command, and what it waited for, used.
    #[must_use]
    pub fn of_children() -> Duration {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let ticks: u64 = stat.rsplit_once(')').map_or(0, |(_, rest)| {
            rest.split_whitespace()
                .skip(13)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum()
        });
        ticks_as_time(ticks)
    }
}

fn ticks_as_time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Bytes as `12.3 MB` (millions).
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.1} MB")
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use rustix::process::{Pid, Signal};
    use walferry_tests::wait::{PATIENCE, eventually, is};

    use super::*;

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let before = Usage::of(std::process::id());
        let mut memory = vec![1_u8; 40_000_000];
        let began = std::time::Instant::now();
        // Other tests may have the cores for a while.
        let after = loop {
            memory
                .iter_mut()
                .step_by(4096)
                .for_each(|byte| *byte = byte.wrapping_add(1));
            let after = Usage::of(std::process::id());
            if after.cpu >= before.cpu + Duration::from_millis(50) {
                break after;
            }
            assert!(began.elapsed() < PATIENCE, "{before:?} {after:?}");
        };
        assert!(after.peak_rss >= 40_000_000, "{after:?}");
        drop(memory);
    }

    #[test]
    fn a_tree_is_a_process_with_its_children() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sh -c 'while :; do :; done' & wait"])
            .process_group(0)
            .spawn()
            .expect("start a shell");
        eventually("the child's work counts for the tree alone", || {
            let (alone, tree) = (Usage::of(child.id()), Usage::of_tree(child.id()));
            let counts = tree.cpu > alone.cpu + Duration::from_millis(50);
            is(counts, format!("{alone:?} {tree:?}"))
        });
        let group = Pid::from_child(&child);
        rustix::process::kill_process_group(group, Signal::KILL).expect("kill both shells");
        child.wait().expect("wait for it");
    }
}
