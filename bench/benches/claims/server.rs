//! The catalog's server: settings as on a machine of its own, SQL past its test's time limit.

use walferry_tests::World;
use walferry_tests::process::run;

/// What differs from PostgreSQL's defaults; durability is as shipped.
const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("autovacuum_naptime", "1min"),
    ("track_io_timing", "on"),
];

/// Sets the server up and says how.
pub(crate) fn prepare(world: &mut World) -> String {
    let catalog = world.catalog_mut();
    catalog.set(SETTINGS);
    catalog.execute(
        "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements', 'auto_explain'",
    );
    catalog.stop();
    catalog.start_again();
    world.rows("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    let version = &world.rows("SHOW server_version")[0][0];
    let settings: Vec<String> = SETTINGS
        .iter()
        .map(|(name, value)| format!("`{name} = {value}`"))
        .collect();
    format!(
        "PostgreSQL {} on loopback, `fsync` and `synchronous_commit` on, {}.",
        version.as_deref().unwrap_or("?"),
        settings.join(", ")
    )
}

/// Runs SQL in the catalog however long it takes.
pub(crate) fn sql(world: &World, statement: &str) {
    let mut psql = world.catalog().client("psql");
    psql.args(["-d", "walferry", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c"]);
    run(psql.arg(statement)).ok();
}
