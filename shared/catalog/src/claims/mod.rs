//! Claims: which worker works on which file, until when.
//!
//! A claim is a lease written in a short transaction; none is held through an upload. It is
//! named by its token: the file and an attempt that every claim raises.

mod backlog;
mod clock;
mod lease;
mod row;
mod take;

pub use backlog::{Backlog, backlog, make_due_now, make_one_due_now, next_wakeup};
pub use lease::{ReleaseAs, release, release_all, renew, still_held};
pub use row::{Claim, Copy, CopyState, Encoder, LocalFile, PackedSize};
pub use take::{CRASH_BACKOFF, CRASHES_BEFORE_ALONE, ClaimRequest, claim};

pub(crate) use lease::{COPY_DUE, FENCE, NOTHING_LEFT, STILL_THERE, lost};
