//! What the comparisons in `bench/` share: real segments, fronts for the S3 servers, pgBackRest, the
//! machine and its noise, what a process used, percentiles, and a report that is printed, and written into `docs/benchmarks.md`
//! word for word. `README.md` beside the manifest lists the comparisons.

pub mod archiver;
pub mod check;
pub mod corpus;
pub mod drain;
pub mod front;
pub mod machine;
pub mod needs;
pub mod pgbackrest;
pub mod prices;
pub mod report;
pub mod statistics;
mod svg;
pub mod usage;

pub use report::Report;
pub use usage::Usage;
