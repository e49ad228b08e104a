//! Base backups in repositories: taking, listing, copying, checking, removing them.
//!
//! A base is streamed once from the server, cut into slices, packed, and stored in all
//! repositories side by side. Three objects tell what lies there:
//!
//! - `begun.json` is written first and deleted last, so whatever was interrupted is found;
//! - `backup.json` is written last, when every object was verified in that repository, and
//!   deleted first: a base is complete in a repository or it does not exist there;
//! - `keep.json` is a person's wish that retention leaves it alone.
//!
//! What is absent: the catalog, schedules, and when to try again. Keys and JSON are spelled in
//! `walferry_layout::base`.

mod begun;
mod check;
mod clean;
mod copy;
mod folders;
mod keep;
mod lane;
mod list;
mod outcome;
mod packing;
mod progress;
mod read;
mod remove;
mod replication;
mod settings;
mod slicer;
mod small;
mod source;
mod take;
mod upload;

pub use check::{CheckError, Fault, FaultKind, check};
pub use clean::{Abandoned, CleanError, Cleaned, clean, is_abandoned};
pub use copy::{Copied, CopyError, CopySettings, copy};
pub use keep::{KeepError, is_kept, set_keep};
pub use lane::DropReason;
pub use list::{BaseState, FoundBase, ListError, list};
pub use outcome::{BaseFacts, Dropped, TakeError, Taken};
pub use packing::PackingError;
pub use progress::{Progress, RepositoryProgress, RepositoryState};
pub use remove::{RemoveError, Removed, remove};
pub use settings::{Patience, SliceSize, SliceSizeError, TakeSettings};
pub use source::{BaseSource, SourceError, SourceEvent, SourceStart, SourceTablespace};
pub use take::take;
pub use upload::UploadError;
