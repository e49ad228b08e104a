//! One WAL file from whichever cloud answers: PostgreSQL's `restore_command`.
//!
//! What it hands over was checked, and "there is no such file" is said only with a proof:
//! PostgreSQL takes that for the end of WAL, and promotes. Needs the repositories and nothing
//! else; no catalog, no Redis. In reading order: what is asked (`request`), who asks
//! (`role`), whose data directory that is (`working_directory`), the search (`search`) with
//! its two ends, a download (`download`) that is placed (`place`) or a proof of absence
//! (`absence`), and what comes of it (`verdict`). `ahead` fetches the next segments.

mod absence;
pub mod ahead;
mod answers;
mod check;
mod download;
mod evidence;
mod last;
mod lazy;
mod parent;
mod place;
mod problem;
mod report;
mod request;
mod role;
mod search;
mod temporary;
mod unpack;
mod verdict;
mod working_directory;

pub use absence::AbsentEverywhere;
pub use lazy::Lazy;
pub use parent::Parent;
pub use place::{Delivered, PlaceError};
pub use problem::Problem;
pub use report::Report;
pub use request::{Archive, Request};
pub use role::{Role, StandbyAsksAgain};
pub use search::{Search, Searched};
pub use verdict::{EXIT_UNKNOWN, Final, Verdict};
pub use working_directory::{WorkingDirectory, WorkingDirectoryError};
