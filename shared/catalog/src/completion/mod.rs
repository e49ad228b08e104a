//! What a claim finds out and achieves: the content, the copies, the proof, the end.

mod complete;
mod content;
mod proof;
mod quarantine;
mod withdraw;

pub use complete::{Completed, CopyFailure, Waiting, complete};
pub use content::{Packed, set_content, set_packed};
pub use proof::{Archived, Enough, Finished, local_deleted, prove_archived};
pub use quarantine::quarantine_local;
pub use withdraw::withdraw;
