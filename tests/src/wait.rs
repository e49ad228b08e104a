//! Waiting for a state, with a deadline and a message that shows the state.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a state may take that should come at once on an idle machine.
/// Generous, since two cores may run four tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Every wait of this process panics from now on, so that its worlds are dropped and
/// everything they started ends: what the demo does at Ctrl-C.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether somebody called [`interrupt`].
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Looks until `look` returns `Ok`; fails the test with the last `Err` after
/// [`PATIENCE`].
#[track_caller]
pub fn eventually<T, E: Debug>(what: &str, look: impl FnMut() -> Result<T, E>) -> T {
    eventually_within(PATIENCE, what, look)
}

/// The same with a deadline of one's own.
#[track_caller]
pub fn eventually_within<T, E: Debug>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        let last = match look() {
            Ok(value) => return value,
            Err(last) => last,
        };
        assert!(!interrupted(), "interrupted");
        assert!(
            start.elapsed() < deadline,
            "{what}: not within {deadline:?}; last seen: {last:#?}"
        );
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Turns a condition into what [`eventually`] awaits: `is(count == 3, count)`.
pub fn is<T>(condition: bool, seen: T) -> Result<(), T> {
    if condition { Ok(()) } else { Err(seen) }
}

/// Fails when `look` is anything but `Ok` at any moment of `period`: for "this
/// must not happen". Use it with a short period and only where no event marks
/// the moment after which it cannot happen any more.
#[track_caller]
pub fn throughout<T, E: Debug>(
    period: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T, E>,
) {
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(seen) = look() {
            panic!("{what}: broken after {:?}: {seen:#?}", start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
