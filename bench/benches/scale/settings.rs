//! The settings, every size a flag.

use clap::Parser;

/// A thousand clusters' load on the real queue and catalog; packing and uploads are simulated.
#[derive(Debug, Parser)]
pub(crate) struct Settings {
    /// Numbers of clusters; the load is raised for the last
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    pub(crate) clusters: Vec<usize>,
    /// Seconds between two segments of one cluster, `archive_timeout`
    #[arg(long, default_value_t = 60)]
    pub(crate) archive_timeout: u32,
    /// Seconds of load at the last number of clusters
    #[arg(long, default_value_t = 150)]
    pub(crate) seconds: u64,
    /// Seconds of load at the other numbers
    #[arg(long, default_value_t = 60)]
    pub(crate) short_seconds: u64,
    /// Times the load that the last number of clusters makes, one after the other until it breaks
    #[arg(long, value_delimiter = ',', default_value = "2,3,4,6,8,12,16,24")]
    pub(crate) factors: Vec<f64>,
    /// Seconds of each raised load
    #[arg(long, default_value_t = 25)]
    pub(crate) step_seconds: u64,
    /// Seconds between two jobs of the scheduler, `scheduler.archive_interval`
    #[arg(long, default_value_t = 300)]
    pub(crate) tick: u64,
    /// Simulated workers; each serves every cluster
    #[arg(long, default_value_t = 8)]
    pub(crate) workers: usize,
    /// `worker.slots`
    #[arg(long, default_value_t = 4)]
    pub(crate) slots: usize,
    /// `worker.pack_threads`
    #[arg(long, default_value_t = 4)]
    pub(crate) pack_threads: usize,
    /// `worker.segments_in_flight`
    #[arg(long, default_value_t = 8)]
    pub(crate) in_flight: usize,
    /// `catalog.connections`, per worker
    #[arg(long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// Milliseconds that packing takes; what a real worker uses for a light segment if not given
    #[arg(long)]
    pub(crate) pack_ms: Option<u64>,
    /// Milliseconds that a copy takes, PUT and HEAD: a guess at a cloud, not measured
    #[arg(long, default_value_t = 150)]
    pub(crate) upload_ms: u64,
    /// Transactions of pgbench for the real worker's full segments, by each of two clients
    #[arg(long, default_value_t = 25_000)]
    pub(crate) transactions: u32,
    /// Segments switched after a few transactions for the real worker
    #[arg(long, default_value_t = 30)]
    pub(crate) switches: u32,
    /// Full segments a minute of a busy cluster, in the table of needs
    #[arg(long, default_value_t = 6)]
    pub(crate) busy: u32,
    /// Days that segments are kept, in the table of needs
    #[arg(long, default_value_t = 30)]
    pub(crate) retention: u32,
    /// Write the report into docs/benchmarks.md and the needs into docs/scaling.md too
    #[arg(long)]
    pub(crate) write: bool,
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}
