//! What has to hold whatever the bytes are: one function for each parser of bytes from
//! outside. A parser must not panic, must give back what it has read when that is written
//! and read again, and must accept one spelling of a name only.
//!
//! Three things call them: the fuzzer (`./test fuzz SECONDS`, targets in `libfuzzer`), the
//! test that replays `corpus`, and the property tests.

mod clouds;
mod configuration;
#[cfg(test)]
mod corpus;
mod queue;
mod wal;

/// A target's name, which is also that of its corpus, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All of them; a file in `libfuzzer/fuzz_targets` is one of these.
pub const TARGETS: [Target; 13] = [
    ("names", wal::names),
    ("page_header", wal::page_header),
    ("history", wal::history),
    ("label", wal::label),
    ("records", wal::records),
    ("control", wal::control),
    ("job", queue::job),
    ("configuration", configuration::configuration),
    ("keys", clouds::keys),
    ("listing", clouds::listing),
    ("versions", clouds::versions),
    ("metadata", clouds::metadata),
    ("owner_mark", clouds::owner_mark),
];

/// Calls the target of that name.
///
/// # Panics
/// When there is none, and when what has to hold does not.
pub fn check(name: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let (_, target) = found.unwrap_or_else(|| panic!("no target `{name}`"));
    target(bytes);
}
