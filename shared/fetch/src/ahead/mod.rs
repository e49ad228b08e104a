//! The segments that PostgreSQL will ask for next, fetched before it asks.
//!
//! A process of its own (`run`, started by `start`) keeps the next segments in a `space`,
//! and each `fetch` takes its segment from there (`take`) and tells where recovery is
//! (`position`). Nothing of it is needed: what is not there, or not as it should be, is fetched
//! from the clouds as if there were no space. Only what exists is kept; that a file is absent is
//! asked each time.

mod position;
pub mod run;
mod space;
mod start;
mod take;
mod timelines;

pub use run::Ahead;
pub use space::{Space, SpaceError};
pub use start::{Started, detach, start};
pub use take::Taken;
