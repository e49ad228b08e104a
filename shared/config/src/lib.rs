//! Configuration: flags over environment over a TOML file over defaults.
//!
//! Two steps. The raw step knows which names exist, where each value stands
//! and that it is text or a list of texts; the resolved step (one file per
//! section in [`sections`]) holds valid values only. The raw step is a flat
//! table of names and not a tree of serde structs with `deny_unknown_fields`,
//! because serde stops at the first problem and an operator gets all of them
//! at once, each with its file and line.
//!
//! Sections are resolved on demand: the scheduler never reads a cloud key,
//! `push` never reads the catalog's password. A secret in a file is read when
//! its section is, and no value of a secret setting is ever part of a message.

mod config;
mod environment;
mod file;
mod problem;
mod reader;
mod roles;
pub mod sections;
mod setting;
mod sources;
mod suggest;
mod value;

#[cfg(test)]
mod tests;

pub use config::{Config, Effective};
pub use environment::Environment;
pub use problem::{Problem, Problems};
pub use reader::{Reader, Section};
pub use roles::{PushConfig, SchedulerConfig, WorkerConfig};
pub use sections::*;
pub use setting::{Kind, Preset, Setting, settings};
pub use sources::{DEFAULT_FILE, Sources};
pub use value::{Share, parse_duration};
