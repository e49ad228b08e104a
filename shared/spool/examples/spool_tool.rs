//! The archive directory from a shell, without the rest of walferry: what a DBA's script, or
//! a test that needs another user or a process to kill, does with it.
//!
//! `spool_tool push DIR FILE [MODE]` · `scan DIR` · `inspect DIR` · `delete DIR NAME` ·
//! `quarantine DIR NAME` · `check DIR`

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use walferry_spool::{
    Directory, PushSettings, check_permissions, delete, inspect, push, quarantine_move, scan,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Failure> {
    match arguments {
        ["push", directory, source] => store(directory, source, walferry_spool::DEFAULT_MODE),
        ["push", directory, source, mode] => {
            store(directory, source, u32::from_str_radix(mode, 8)?)
        }
        ["scan", directory] => {
            for entry in scan(&Directory::open(directory)?)? {
                match entry.file {
                    Ok(_) => println!("{}", entry.name.display()),
                    Err(suspicion) => println!("{} {}", entry.name.display(), suspicion.code()),
                }
            }
            Ok(())
        }
        ["inspect", directory] => {
            let directory = Directory::open(directory)?;
            for entry in scan(&directory)? {
                let Ok(file) = entry.file else { continue };
                match inspect(&directory, &file, None) {
                    Ok(_) => println!("{file} good"),
                    Err(error) => println!(
                        "{file} {}",
                        error
                            .suspicion()
                            .map_or_else(|| error.to_string(), |s| s.code().to_owned())
                    ),
                }
            }
            Ok(())
        }
        ["delete", directory, name] => {
            let directory = Directory::open(directory)?;
            let file = name.parse()?;
            let entry = scan(&directory)?
                .into_iter()
                .find(|entry| entry.file == Ok(file))
                .ok_or("not there")?;
            println!("{:?}", delete(&directory, &file, &entry.stat)?);
            Ok(())
        }
        ["quarantine", directory, name] => {
            let moved = quarantine_move(&Directory::open(directory)?, OsStr::new(name))?;
            println!("{}", moved.display());
            Ok(())
        }
        ["check", directory] => {
            for finding in check_permissions(&Directory::open(directory)?) {
                println!(
                    "{:?} {}: {} {}",
                    finding.severity, finding.what, finding.message, finding.hint
                );
            }
            Ok(())
        }
        _ => Err("usage: spool_tool push|scan|inspect|delete|quarantine|check DIR …".into()),
    }
}

fn store(directory: &str, source: &str, mode: u32) -> Result<(), Failure> {
    let directory = Directory::open(directory)?;
    let settings = PushSettings { mode, limit: None };
    println!("{:?}", push(Path::new(source), &directory, &settings)?);
    Ok(())
}
