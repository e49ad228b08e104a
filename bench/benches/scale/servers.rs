//! The two servers under load: settings, processor time, what they count.

use std::time::Duration;

use walferry_bench::Usage;
use walferry_tests::World;

/// What differs from PostgreSQL's defaults; durability is as shipped.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("max_connections", "300"),
    ("autovacuum_naptime", "15s"),
];

/// Gives the catalog the settings of a server that is not a test's.
pub(crate) fn prepare(world: &mut World) {
    let catalog = world.catalog_mut();
    catalog.set(SETTINGS);
    catalog.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'");
    catalog.stop();
    catalog.start_again();
    catalog.set(&[("pg_stat_statements.track_planning", "on")]);
    world.rows("CREATE EXTENSION pg_stat_statements");
}

/// Versions and settings.
pub(crate) fn description(world: &World) -> String {
    let version = world.catalog().value("SHOW server_version");
    let redis = info(world, "server", "redis_version");
    let settings: Vec<String> = SETTINGS
        .iter()
        .map(|(name, value)| format!("`{name} = {value}`"))
        .collect();
    format!(
        "PostgreSQL {version} (`fsync` and `synchronous_commit` on, {}) and Redis {redis} (append-only, \
         `appendfsync everysec`) on loopback, on the same cores as the simulated workers.",
        settings.join(", ")
    )
}

/// Counters at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) catalog: Duration,
    pub(crate) redis: Duration,
    pub(crate) workers: Duration,
    pub(crate) commits: i64,
    /// Position in WAL, in bytes.
    pub(crate) wal: i64,
    pub(crate) connections: i64,
    pub(crate) redis_bytes: u64,
    /// Of all cores together, since the machine started.
    pub(crate) idle: Duration,
}

/// Looks at both servers, and at this process, which is the workers.
pub(crate) fn look(world: &mut World) -> Look {
    let (catalog, redis) = (
        world.catalog_mut().process().id(),
        world.redis_mut().process().id(),
    );
    Look {
        catalog: family(catalog),
        redis: Usage::of(redis).cpu,
        workers: Usage::of(std::process::id()).cpu - Usage::of_children(),
        commits: world
            .number("SELECT xact_commit FROM pg_stat_database WHERE datname = 'walferry'"),
        wal: world.number("SELECT (pg_current_wal_lsn() - '0/0')::bigint"),
        connections: world
            .number("SELECT numbackends - 1 FROM pg_stat_database WHERE datname = 'walferry'"),
        redis_bytes: redis_memory(world),
        idle: idle(),
    }
}

/// Time that the machine's cores had nothing to do, waiting for disks included (proc_stat(5)).
fn idle() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.split_whitespace().skip(4).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Forgets which statements were run.
pub(crate) fn forget_statements(world: &World) {
    world.rows("SELECT pg_stat_statements_reset()");
}

/// The statements that took most of the catalog's time since then: how often for a segment,
/// milliseconds of planning and of running for a segment, and how they begin.
pub(crate) fn statements(world: &World, segments: u64) -> Vec<Vec<String>> {
    let text = "regexp_replace(query, '\\s+', ' ', 'g')";
    let rows = world.rows(&format!(
        "SELECT round(calls / {segments}.0, 2), round((total_plan_time / {segments})::numeric, 2), \
                round((total_exec_time / {segments})::numeric, 2), left({text}, 100) \
           FROM pg_stat_statements WHERE query !~ 'pg_stat|pg_current_wal' \
          ORDER BY total_plan_time + total_exec_time DESC LIMIT 12"
    ));
    let row = |row: Vec<Option<String>>| {
        let mut row: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
        row.rotate_right(1);
        row[0] = format!("`{}`", row[0].replace('|', "\\|"));
        row
    };
    rows.into_iter().map(row).collect()
}

/// Redis's `used_memory`.
pub(crate) fn redis_memory(world: &World) -> u64 {
    let text = info(world, "memory", "used_memory");
    text.parse()
        .unwrap_or_else(|_| panic!("Redis says used_memory `{text}`"))
}

/// Bytes of the catalog's tables and indexes after a VACUUM.
pub(crate) fn catalog_bytes(world: &World) -> i64 {
    world.rows("VACUUM ANALYZE");
    world.number(
        "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class \
          WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    )
}

fn info(world: &World, section: &str, field: &str) -> String {
    let answer = format!("{:?}", world.redis().command(&["INFO", section]));
    let value = answer.split(&format!("{field}:")).nth(1);
    let value = value.unwrap_or_else(|| panic!("Redis tells no {field}: {answer}"));
    value
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == '.')
        .collect()
}

/// The postmaster's time, with that of its children, those that ended included.
fn family(postmaster: u32) -> Duration {
    let children = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let id: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let parent = stat
                .rsplit_once(')')?
                .1
                .split_whitespace()
                .nth(1)?
                .parse::<u32>()
                .ok()?;
            (parent == postmaster).then(|| Usage::of(id).cpu)
        });
    children.sum::<Duration>() + Usage::of(postmaster).cpu
}
