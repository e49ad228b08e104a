//! A real worker on real segments: its processor time and its requests for one segment.

use std::collections::BTreeMap;

use walferry_bench::Usage;
use walferry_tests::world::Intake;
use walferry_tests::{Cloud, Kind, Postgres, World};

use walferry_bench::needs::{Requests, Segment};

/// Checkpoints while the full segments are written.
const ROUNDS: u32 = 4;

/// What one segment costs.
pub(crate) struct Costs {
    pub(crate) full: Segment,
    pub(crate) light: Segment,
    pub(crate) r2: Requests,
    pub(crate) b2: Requests,
    /// How it was measured, and on what.
    pub(crate) words: String,
}

/// Archives what pgbench writes, in full segments and in switched ones, to two clouds, and
/// compares every object with its original.
pub(crate) fn measure(transactions: u32, switches: u32) -> Costs {
    let mut world = World::builder().clouds(Kind::S3s, Kind::S3s).build();
    let settings = world
        .protected("protected", Intake::Cp)
        .option("shared_buffers", "128MB");
    let server = world.postgres_with(settings);
    let worker = world.worker_with(&[]);
    let process = worker.process().id();
    server.pgbench_init(15);
    settle(&mut world, &server);

    world
        .clouds()
        .iter()
        .for_each(|cloud| cloud.proxy().forget());
    let (full, segments) = phase(&mut world, &server, process, |server| {
        // Checkpoints come as often as on a busy server: full page images make most of its WAL.
        for _ in 0..ROUNDS {
            server.execute("CHECKPOINT");
            server.pgbench_run(transactions / ROUNDS);
        }
    });
    let (light, switched) = phase(&mut world, &server, process, |server| {
        for _ in 0..switches {
            server.pgbench_run(20);
            server.switch();
        }
    });
    let archived = segments + switched;
    let (r2, b2) = (
        requests(world.cloud("r2"), archived),
        requests(world.cloud("b2"), archived),
    );
    world.compare_clouds();
    let words = format!(
        "A real worker with its defaults archived {segments} segments of PostgreSQL under pgbench and \
         {switched} that were switched after a few transactions, to two S3 servers on this machine, \
         without TLS; every object was compared with its original. Requests are the proxies' records."
    );
    Costs {
        full,
        light,
        r2,
        b2,
        words,
    }
}

fn phase(
    world: &mut World,
    server: &Postgres,
    process: u32,
    write: impl Fn(&Postgres),
) -> (Segment, u64) {
    let newest = world.number("SELECT coalesce(max(id), 0) FROM wal_files");
    let before = Usage::of(process).cpu;
    write(server);
    settle(world, server);
    let cpu = Usage::of(process).cpu - before;
    let of_phase = format!("FROM wal_files WHERE id > {newest} AND status = 'VERIFIED'");
    let segments = world.number(&format!("SELECT count(*) {of_phase}"));
    let bytes = world.number(&format!("SELECT sum(compressed_size)::bigint {of_phase}"));
    assert!(
        segments >= 10,
        "only {segments} segments were written: too few to say anything"
    );
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let (number, bytes) = (segments as f64, bytes as f64);
    let segment = Segment {
        cpu: cpu.as_secs_f64() / number,
        stored: bytes / number,
    };
    (segment, segments.unsigned_abs())
}

/// Ends the segment under way, and waits until all are VERIFIED and deleted.
fn settle(world: &mut World, server: &Postgres) {
    let last = server.switch();
    walferry_tests::eventually("PostgreSQL has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        walferry_tests::wait::is(archived >= last, archived)
    });
    world.originals_mut().remember_archived_by(server);
    world.await_archived();
}

/// Requests about the archived files, for one of them.
fn requests(cloud: &Cloud, segments: u64) -> Requests {
    let mut found: BTreeMap<&str, u64> = BTreeMap::new();
    for record in cloud.proxy().records() {
        let list = record.key.is_empty();
        // The harness reads the objects past the proxy.
        let kind = match record.method.as_str() {
            "PUT" => "put",
            "GET" if list => "list",
            "GET" | "HEAD" => "read",
            other => panic!(
                "{}: archiving sent a {other} of `{}`",
                cloud.name(),
                record.key
            ),
        };
        *found.entry(kind).or_default() += 1;
    }
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let each = |kind: &str| found.get(kind).copied().unwrap_or_default() as f64 / segments as f64;
    Requests {
        puts: each("put"),
        reads: each("read"),
        lists: each("list"),
    }
}
