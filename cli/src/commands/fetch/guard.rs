//! What a process may not end with by accident.
//!
//! To PostgreSQL a usage error (2), a panic (101) and an `Err` out of `main` (1) are "there is no
//! such file", and it promotes. So from its first moment on a `fetch` ends with 200 in every case
//! that nobody has thought of, and the process that fetches ahead with 0.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;
use walferry_fetch::EXIT_UNKNOWN;
use walferry_wal::WalFile;

/// What a command line is about, as far as can be told before it is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    Fetch,
    Ahead,
    Other,
}

/// Looks for `fetch` among the arguments, or for what only PostgreSQL would pass: the name of a
/// WAL file by itself, as in a restore_command whose subcommand is mistyped: none that is `known`.
pub(crate) fn meant(
    arguments: impl IntoIterator<Item = OsString>,
    known: impl Fn(&str) -> bool,
) -> Meant {
    let words: Vec<String> = arguments
        .into_iter()
        .skip(1)
        .filter_map(|word| word.into_string().ok())
        .collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    let commands: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let command = commands.first().map_or("", |word| word.as_str());
    let named = words.iter().any(|word| word.parse::<WalFile>().is_ok());
    match command {
        "fetch-ahead" => Meant::Ahead,
        _ if has("fetch") => Meant::Fetch,
        _ if named && !known(command) => Meant::Fetch,
        _ => Meant::Other,
    }
}

impl Meant {
    /// From here on a panic of any thread, and an abort (no memory, a stack that overflows), ends
    /// the process with the right code.
    pub(crate) fn guard(self) {
        let code = match self {
            Self::Fetch => i32::from(EXIT_UNKNOWN),
            Self::Ahead => 0,
            Self::Other => return,
        };
        std::panic::set_hook(Box::new(move |panic| {
            say(&format!("{panic}"));
            std::process::exit(code);
        }));
        let always = Arc::new(AtomicBool::new(true));
        let mut signals = vec![Signal::ABORT];
        if self == Self::Ahead {
            // An orphan that dies of a signal restarts PostgreSQL where that is process 1.
            signals.extend([Signal::TERM, Signal::INT, Signal::HUP]);
        }
        for signal in signals {
            // Refused, it leaves 128 + signal, which stops recovery as well.
            let _ = signal_hook::flag::register_conditional_shutdown(
                signal.as_raw(),
                code,
                Arc::clone(&always),
            );
        }
    }

    /// The end of a command line that cannot be understood, or asks for help.
    pub(crate) fn usage(self, error: &clap::Error) -> ExitCode {
        if self == Self::Other {
            error.exit();
        }
        // Its own text, without a panic when nobody reads.
        let _ = error.print();
        match self {
            Self::Ahead => ExitCode::SUCCESS,
            // In a data directory 0 would be taken for a file that was delivered and is gone.
            Self::Fetch if error.use_stderr() || Path::new("global/pg_control").exists() => {
                ExitCode::from(EXIT_UNKNOWN)
            }
            Self::Fetch | Self::Other => ExitCode::SUCCESS,
        }
    }
}

/// One line on standard error, which may be closed.
pub(crate) fn say(line: &str) {
    let line: String = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let _ = writeln!(std::io::stderr(), "walferry: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Meant) {
        let words = line.split(' ').map(OsString::from);
        let known = |word: &str| ["push", "ls", "status"].contains(&word);
        assert_eq!(meant(words, known), expected, "{line}");
    }

    #[test]
    fn whatever_postgresql_may_call_as_its_restore_command_is_taken_for_a_fetch() {
        let name = "0000000100000000000000A1";
        for line in [
            "walferry fetch",
            "walferry --config x fetch a b",
            "walferry --confg x fetch a b",
            "walferry fetch-ahaed fetch",
            &format!("walferry fetsh {name} pg_wal/RECOVERYXLOG"),
            "walferry 00000002.history pg_wal/RECOVERYHISTORY",
        ] {
            check(line, Meant::Fetch);
        }
        check("walferry fetch-ahead --system-id 7", Meant::Ahead);
        for line in [
            "walferry",
            "walferry status",
            &format!("walferry push pg_wal/{name}"),
            &format!("walferry push {name}"),
            &format!("walferry ls {name}"),
        ] {
            check(line, Meant::Other);
        }
    }

    #[test]
    fn the_code_of_absence_is_made_on_one_line() {
        let mut ones = Vec::new();
        for folder in ["src/commands/fetch", "../shared/fetch/src"] {
            sources(
                &Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
                &mut |line| {
                    let line = line.trim();
                    let code = line.contains("=> 1,") || line.contains("exit(1)");
                    let named = line.contains("FAILURE") || line.contains("from(1)");
                    if (code || named) && !line.contains("line.contains") {
                        ones.push(line.to_owned());
                    }
                },
            );
        }
        assert_eq!(ones.len(), 1, "{ones:#?}");
        assert!(ones[0].starts_with("Self::NotThere("), "{ones:?}");
    }

    fn sources(folder: &Path, look: &mut impl FnMut(&str)) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, look);
            } else {
                std::fs::read_to_string(&path)
                    .unwrap()
                    .lines()
                    .for_each(&mut *look);
            }
        }
    }
}
