//! What `status`, `ls` and `gaps` show: reads only.

mod conflicts;
mod copies;
mod gaps;
mod list;
mod reach;
mod trouble;

pub use conflicts::{Conflict, OTHER_CONTENT, conflicts};
pub use copies::{Counts, RepositoryStatus, counts, repositories};
pub use gaps::{Gap, GapKind, gaps};
pub use list::{FileRow, Filter, ListedCopy, Status, list};
pub(crate) use reach::{Anchor, of_timeline};
pub use reach::{Reach, Since, reach};
pub use trouble::{
    Failure, Rate, Trouble, TroubledFile, WorkerClaims, failures, rate, troubled, workers,
};
