//! BASE_BACKUP: what is asked for, and what comes.

mod begin;
mod each;
mod event;
mod one;
mod options;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use begin::{begin, timeline};
pub use event::{BackupEvent, StartPoint, TablespaceInfo};
pub use options::BaseBackupOptions;
pub use stream::BaseBackupStream;
