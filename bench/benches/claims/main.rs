//! `bench/claims`: registering and claiming on catalogs of ten thousand, one and ten million
//! archived segments, the plan of every hot query, and what an idle tick costs.
//!
//! The calls are the product's own (`walferry-catalog`), the server is a real PostgreSQL, and
//! the ticks are jobs that a real worker runs.

mod asked;
mod calls;
mod fill;
mod log;
mod plans;
mod server;
mod sizes;
mod tick;
mod worker;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use walferry_bench::Report;
use walferry_tests::{Kind, World};

use crate::fill::Site;

#[derive(Parser, Debug)]
#[command(about = "Registering and claiming on small and large catalogs, plans, an idle tick")]
struct Settings {
    /// Archived segments that the catalog holds, one measurement each; ascending
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 1_000_000, 10_000_000])]
    sizes: Vec<u64>,
    /// Clusters that they belong to
    #[arg(long, default_value_t = 10)]
    clusters: u32,
    /// Workers at once, one measurement each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4, 8])]
    workers: Vec<usize>,
    /// Seconds that each measurement lasts
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Files that each measurement registers besides, so that claims find a backlog
    #[arg(long, default_value_t = 6_000)]
    backlog: u64,
    /// Ticks with nothing to do, at each size
    #[arg(long, default_value_t = 40)]
    ticks: u32,
    /// Also replace the section of docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes on
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let settings = Settings::parse();
    let mut report = Report::new("claims", "Claims: `bench/claims`");
    let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
    report.paragraph(&server::prepare(&mut world));
    let sites = Site::make(&world, settings.clusters);
    sizes::of_real_rows(&world, &sites[0], &mut report);

    let mut measured = Vec::new();
    let mut ticks = Vec::new();
    let mut disk = Vec::new();
    let mut read = Vec::new();
    let mut filled = 0;
    for &size in &settings.sizes {
        let took = fill::fill(&world, &sites, filled, size);
        filled = size;
        eprintln!("bench: {size} segments after {took:.0?}");
        disk.push(sizes::on_disk(&world));
        for &workers in &settings.workers {
            let time = Duration::from_secs(settings.seconds);
            measured.push(calls::measure(
                &world,
                &sites[0],
                size,
                workers,
                time,
                settings.backlog,
            ));
        }
        read.extend(plans::read_all(&world, &sites, size));
        eprintln!(
            "bench: a backlog of {} segments",
            calls::forget_backlog(&world)
        );
        ticks.push(tick::measure(&world, size, settings.ticks));
        fill::check(&world);
    }
    calls::tell(&measured, &mut report);
    tick::tell(&ticks, &mut report);
    sizes::tell(&disk, &mut report);
    plans::tell(&read, &mut report);
    match report.finish(settings.write) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
