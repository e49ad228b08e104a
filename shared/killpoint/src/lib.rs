//! Points at which a test kills the process, as a power loss would end it.
//!
//! A point lies between two durable effects: after an fsync and before the rename, after a PUT
//! and before the commit. In a debug build that was started with `WALFERRY_TEST_KILL_AT=NAME`
//! the process that reaches the point of that name sends itself SIGKILL: no destructor runs, no
//! buffer is flushed, no connection is closed. A release build holds no points at all, which a
//! check of its binaries shows: it looks for [`MARKER`], which every point carries.
//!
//! `tests/tests/faults` collects the names from the source and kills at each.

/// What every point's name begins with inside a debug binary.
#[cfg(debug_assertions)]
pub const MARKER: &str = "walferry-kill-point:";

/// A point with a literal name, `part.step.moment`: `push.rename.after`. Nothing in a release
/// build.
#[macro_export]
macro_rules! kill_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::reached(concat!("walferry-kill-point:", $name));
    };
}

/// Kills this process if the test asked for it at this point; called by [`kill_point!`].
///
/// # Panics
/// If the test asked for a panic instead, with `WALFERRY_TEST_PANIC_AT`.
#[cfg(debug_assertions)]
pub fn reached(point: &'static str) {
    use std::sync::LazyLock;

    static KILL: LazyLock<Option<String>> = LazyLock::new(|| order("WALFERRY_TEST_KILL_AT"));
    static PANIC: LazyLock<Option<String>> = LazyLock::new(|| order("WALFERRY_TEST_PANIC_AT"));
    let name = point.strip_prefix(MARKER).unwrap_or(point);
    assert!(
        PANIC.as_deref() != Some(name),
        "panic at {name}, as the test asked"
    );
    if KILL.as_deref() == Some(name) {
        // Whoever looks for the cause of a dead process finds it in its log.
        eprintln!("kill point {name} reached");
        let (this, kill) = (rustix::process::getpid(), rustix::process::Signal::KILL);
        let _ = rustix::process::kill_process(this, kill);
        // The signal is on its way; nothing after the point may happen meanwhile.
        loop {
            std::thread::park();
        }
    }
}

#[cfg(debug_assertions)]
#[expect(
    clippy::disallowed_methods,
    reason = "not a setting: a test's order to die, in debug builds only"
)]
fn order(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}
