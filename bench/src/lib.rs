//! What the comparisons in `bench/` share: the machine and its noise, what a process used,
//! percentiles, and a report that is printed, and written into `docs/benchmarks.md`
//! word for word. `README.md` beside the manifest lists the comparisons.

pub mod machine;
pub mod needs;
pub mod prices;
pub mod report;
pub mod statistics;
mod svg;
pub mod usage;

pub use report::Report;
pub use usage::Usage;
