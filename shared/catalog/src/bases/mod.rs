//! Base backups: what lies in which repository, what the WAL there makes of it, and who
//! takes one now. The object in the bucket is the truth, and these rows follow it.

mod list;
mod reach;
mod record;
mod runs;

pub use list::{BaseCopy, BaseCopyState, BaseRow, list};
pub use reach::{BaseReach, reach};
pub use record::{Base, Keep, copied, keep, record, removed};
pub use runs::{Begun, Ended, RunOutcome, RunRow, begin, end, last_run, renew};
