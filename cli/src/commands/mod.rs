//! One file per command.

pub(crate) mod backup;
pub(crate) mod backups;
pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod enqueue;
pub(crate) mod fetch;
pub(crate) mod gaps;
pub(crate) mod import;
pub(crate) mod ls;
pub(crate) mod push;
pub(crate) mod quarantine;
pub(crate) mod queue;
pub(crate) mod repository;
pub(crate) mod retention;
pub(crate) mod status;
pub(crate) mod workers;
