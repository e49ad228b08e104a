//! The embedded migrations and the lock they are applied under.

use std::time::{Duration, Instant};

use diesel::QueryableByName;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel_async::{
    AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection as _,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::error::CatalogError;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// Key of the advisory lock: "walferry" in ASCII.
const LOCK: i64 = 0x7761_6c66_6572_7279;

/// How long a second `migrate` waits for the first, and a change for a table in use.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a change stands in the queue for a table at a time: every statement of the
/// running programs on that table stands behind it.
const IN_QUEUE: Duration = Duration::from_secs(2);
/// So long they go before it queues again.
const OUT_OF_QUEUE: Duration = Duration::from_secs(1);

pub(crate) async fn migrate(conn: AsyncPgConnection) -> Result<Vec<String>, CatalogError> {
    under_lock(conn, |harness| {
        let mut applied = Vec::new();
        for migration in harness.pending_migrations(MIGRATIONS)? {
            patiently(|| harness.run_migration(&*migration).map(drop))?;
            applied.push(migration.name().version().to_string());
        }
        Ok(applied)
    })
    .await
}

pub(crate) async fn revert_last(conn: AsyncPgConnection) -> Result<Option<String>, CatalogError> {
    under_lock(conn, |harness| {
        if harness.applied_migrations()?.is_empty() {
            return Ok(None);
        }
        Ok(Some(harness.revert_last_migration(MIGRATIONS)?.to_string()))
    })
    .await
}

/// Names of embedded migrations that are not applied, oldest first.
pub(crate) async fn pending(conn: &mut AsyncPgConnection) -> Result<Vec<String>, CatalogError> {
    let applied = applied(conn).await?;
    let known = known();
    if let Some(version) = applied
        .iter()
        .find(|version| !known.iter().any(|(known, _)| known == *version))
    {
        return Err(CatalogError::SchemaNewer {
            version: version.clone(),
        });
    }
    Ok(known
        .into_iter()
        .filter(|(version, _)| !applied.contains(version))
        .map(|(_, name)| name)
        .collect())
}

/// Refuses a schema that is not the one this program knows.
pub(crate) async fn check(conn: &mut AsyncPgConnection) -> Result<(), CatalogError> {
    let pending = pending(conn).await?;
    if pending.is_empty() {
        Ok(())
    } else {
        Err(CatalogError::SchemaOlder { pending })
    }
}

/// Version and name of each embedded migration, oldest first.
fn known() -> Vec<(String, String)> {
    let migrations: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS
        .migrations()
        .expect("embedded migrations were parsed when the program was built");
    let mut known: Vec<_> = migrations
        .iter()
        .map(|migration| {
            let name = migration.name();
            (name.version().to_string(), name.to_string())
        })
        .collect();
    known.sort();
    known
}

async fn applied(conn: &mut AsyncPgConnection) -> Result<Vec<String>, CatalogError> {
    #[derive(QueryableByName)]
    struct Version {
        #[diesel(sql_type = Text)]
        version: String,
    }
    // An empty database has not even diesel's own table.
    let table = diesel::sql_query(
        "SELECT table_name::text AS version FROM information_schema.tables \
          WHERE table_name = '__diesel_schema_migrations' AND table_schema = ANY (current_schemas(false))",
    )
    .load::<Version>(conn)
    .await?;
    if table.is_empty() {
        return Ok(Vec::new());
    }
    let rows = diesel::sql_query(
        "SELECT version::text AS version FROM __diesel_schema_migrations ORDER BY version",
    )
    .load::<Version>(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

/// Runs `work` on a connection of its own that holds the migration lock.
///
/// Migrations take no lock by themselves. Each runs in one transaction with the row that
/// records it, so a crash right here leaves whole migrations only; the lock ends with the
/// session.
async fn under_lock<R: Send + 'static>(
    mut conn: AsyncPgConnection,
    work: impl FnOnce(&mut AsyncMigrationHarness<AsyncPgConnection>) -> diesel::migration::Result<R>
    + Send
    + 'static,
) -> Result<R, CatalogError> {
    conn.batch_execute(&format!(
        "SET statement_timeout = 0; SET lock_timeout = {}; SELECT pg_advisory_lock({LOCK})",
        PATIENCE.as_millis()
    ))
    .await?;
    conn.batch_execute(&format!("SET lock_timeout = {}", IN_QUEUE.as_millis()))
        .await?;
    // The harness blocks its thread, which a runtime of one thread does not survive: it gets
    // a thread that may block.
    tokio::task::spawn_blocking(move || work(&mut AsyncMigrationHarness::new(conn)))
        .await
        .map_err(|error| CatalogError::Migration {
            source: Box::new(error),
        })?
        .map_err(|source| CatalogError::Migration { source })
}

/// Tries a change again that waited in vain for a table.
fn patiently(
    mut change: impl FnMut() -> diesel::migration::Result<()>,
) -> diesel::migration::Result<()> {
    let began = Instant::now();
    loop {
        match change() {
            // Each change is one transaction: nothing of it is left. The harness hands on the
            // server's words only.
            Err(error)
                if error.to_string().contains("canceling statement due to")
                    && began.elapsed() < PATIENCE =>
            {
                std::thread::sleep(OUT_OF_QUEUE);
            }
            done => return done,
        }
    }
}
