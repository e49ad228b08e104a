//! How large each segment becomes beside zlib's level 9, and what that takes.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use clap::Parser;
use walferry_bench::Report;
use walferry_bench::corpus::{Corpus, Counts, Kind};
use walferry_bench::statistics::human;
use walferry_pack::pack::{Bench, PIECE, Packer};
use walferry_tests::World;

/// The level that is asked for, and measured against.
const LEVEL: u8 = 9;

/// Compares sizes with zlib's.
#[derive(Parser)]
#[command(name = "bench/size")]
struct Args {
    /// Segments full of pgbench's transactions
    #[arg(long, default_value_t = 50)]
    full: usize,
    /// Segments that were switched away from after some transactions
    #[arg(long, default_value_t = 130)]
    light: usize,
    /// Segments of random bytes
    #[arg(long, default_value_t = 20)]
    random: usize,
    /// Segments that were switched away from after almost nothing
    #[arg(long, default_value_t = 50)]
    idle: usize,
    /// Write the report into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    /// What cargo passes to a bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// What came of the segments of one kind.
#[derive(Default)]
struct Sizes {
    segments: usize,
    ours: u64,
    zlib: u64,
    /// The most that a segment is larger by than it may be; below zero when none is.
    over: i64,
    /// The largest excess over zlib, in bytes.
    worst: i64,
    time: Duration,
    zlib_time: Duration,
}

fn main() {
    let args = Args::parse();
    let mut report = Report::new("size", "Size of what is stored");
    let home = World::builder().bare().build();
    let counts = Counts {
        full: args.full,
        light: args.light,
        random: args.random,
        idle: args.idle,
    };
    let corpus = Corpus::make(home.folder(), counts);
    report.paragraph(
        "Real segments of a server under pgbench, each packed by one thread as a worker packs \
         it and by zlib-rs at level 9 (whose sizes are zlib's within a few bytes). Each is \
         unpacked again and compared. The same encoder is used whatever the backlog.",
    );
    let mut bench = Bench::default();
    let kinds = [Kind::Full, Kind::Light, Kind::Random, Kind::Idle];
    let mut rows = Vec::new();
    let (mut ours, mut zlib, mut over) = (0, 0, i64::MIN);
    for kind in kinds {
        let mut sizes = Sizes {
            over: i64::MIN,
            worst: i64::MIN,
            ..Sizes::default()
        };
        for segment in corpus
            .segments()
            .iter()
            .filter(|segment| segment.kind == kind)
        {
            measure(&segment.read(), &mut bench, &mut sizes);
        }
        if sizes.segments > 0 {
            (ours, zlib, over) = (ours + sizes.ours, zlib + sizes.zlib, over.max(sizes.over));
            rows.push(row(kind, &sizes));
        }
    }
    report.table(
        &[
            "content",
            "segments",
            "bytes",
            "zlib 9",
            "against zlib",
            "largest excess",
            "ms a segment",
            "zlib 9, ms",
        ],
        &rows,
    );
    report.goal(
        "no segment more than 0.2 % or 1 KiB larger than zlib's level 9",
        &if over > 0 {
            format!("one is {over} bytes over")
        } else {
            "none is".to_owned()
        },
        over <= 0,
    );
    report.goal(
        "the total no larger",
        &format!("{ours} against {zlib} bytes"),
        ours <= zlib,
    );
    let missed = report.finish(args.write);
    drop(home);
    std::process::exit(i32::from(missed > 0));
}

/// Packs `plain` in both ways and adds what came of it.
fn measure(plain: &[u8], bench: &mut Bench, sizes: &mut Sizes) {
    let began = Instant::now();
    let mut packer = Packer::new(LEVEL, plain.len() as u64).expect("a level of gzip");
    for piece in plain.chunks(PIECE) {
        packer.add(bench, piece).expect("it packs");
    }
    let body = packer.finish(bench).expect("it packs");
    sizes.time += began.elapsed();
    let began = Instant::now();
    let mut encoder = walferry_pack::pack::zlib(Vec::new(), LEVEL);
    encoder.write_all(plain).expect("memory takes it");
    let zlib = encoder.finish().expect("memory takes it").len();
    sizes.zlib_time += began.elapsed();
    let mut back = Vec::with_capacity(plain.len());
    flate2::read::MultiGzDecoder::new(&body[..])
        .read_to_end(&mut back)
        .expect("it is gzip");
    assert!(back == plain, "a segment came back as another one");
    let (ours, zlib) = (body.len() as u64, zlib as u64);
    let excess = ours.cast_signed() - zlib.cast_signed();
    sizes.segments += 1;
    sizes.ours += ours;
    sizes.zlib += zlib;
    sizes.worst = sizes.worst.max(excess);
    sizes.over = sizes
        .over
        .max(excess - (zlib / 500).max(1024).cast_signed());
}

#[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
fn row(kind: Kind, sizes: &Sizes) -> Vec<String> {
    let share = (sizes.ours as f64 / sizes.zlib as f64 - 1.0) * 100.0;
    let each = |time: Duration| human(time / u32::try_from(sizes.segments).unwrap_or(1));
    vec![
        format!("{kind:?}").to_lowercase(),
        sizes.segments.to_string(),
        sizes.ours.to_string(),
        sizes.zlib.to_string(),
        format!("{share:+.2} %"),
        format!("{:+} bytes", sizes.worst),
        each(sizes.time),
        each(sizes.zlib_time),
    ]
}
