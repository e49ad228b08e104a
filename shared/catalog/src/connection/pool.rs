//! The pool: made without connecting, so that a program starts while the catalog is down.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool::managed::{
    Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult, Timeouts,
};
use diesel_async::pooled_connection::PoolableConnection as _;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};

use super::session::Dial;
use super::settings::CatalogSettings;
use super::tls;
use crate::error::CatalogError;
use crate::migrations;

/// A connection that was idle for so long is asked whether it still answers.
const ASK_AFTER: Duration = Duration::from_millis(500);

/// The catalog's pool of connections. Cloning is cheap.
#[derive(Clone)]
pub struct Catalog {
    pool: Pool<Sessions>,
    dial: Arc<Dial>,
    /// The schema was seen to be the one this program knows.
    schema_seen: Arc<AtomicBool>,
}

/// A connection from the pool; goes back when dropped, unless it was dropped in the middle
/// of a transaction: then it is closed at once.
pub struct Connection(Option<Object<Sessions>>);

impl Catalog {
    /// Parses the settings and connects to nothing.
    ///
    /// # Errors
    /// When the URL or the certificates cannot be used.
    pub fn new(settings: CatalogSettings) -> Result<Self, CatalogError> {
        let target = settings.parse()?;
        let dial = Arc::new(Dial {
            tls: tls::connector(&target, settings.ca_certificates.as_deref())?,
            target,
            connect_timeout: settings.connect_timeout,
            statement_timeout: settings.statement_timeout,
            lock_timeout: settings.lock_timeout,
        });
        let pool = Pool::builder(Sessions(Arc::clone(&dial)))
            .max_size(settings.pool_size.max(1))
            .runtime(deadpool::Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(settings.statement_timeout),
                // The dial has a limit of its own, and says what it waited for.
                create: None,
                recycle: Some(settings.connect_timeout),
            })
            .build()
            .expect("a runtime is given, so timeouts can be kept");
        Ok(Self {
            pool,
            dial,
            schema_seen: Arc::new(AtomicBool::new(false)),
        })
    }

    /// A connection to a catalog whose schema this program knows.
    ///
    /// # Errors
    /// `SchemaOlder` and `SchemaNewer` besides everything that keeps from connecting.
    pub async fn get(&self) -> Result<Connection, CatalogError> {
        let mut conn = self.get_unchecked().await?;
        // Only success is remembered: a migration under a running program is made so that
        // the running program goes on working.
        if !self.schema_seen.load(Ordering::Relaxed) {
            migrations::check(&mut conn).await?;
            self.schema_seen.store(true, Ordering::Relaxed);
        }
        Ok(conn)
    }

    /// A connection whatever the schema is, for `migrate` and `check`.
    ///
    /// # Errors
    /// Everything that keeps from connecting.
    pub async fn get_unchecked(&self) -> Result<Connection, CatalogError> {
        match self.pool.get().await {
            Ok(object) => Ok(Connection(Some(object))),
            Err(PoolError::Backend(error)) => Err(error),
            Err(
                PoolError::Timeout(_)
                | PoolError::Closed
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(_),
            ) => Err(CatalogError::PoolExhausted {
                size: self.pool.status().max_size,
            }),
        }
    }

    /// Applies what is pending; returns the names of what was applied now. Two at the same
    /// time wait for each other.
    ///
    /// # Errors
    /// `Migration` names the failed one through its source; those before it stay applied.
    pub async fn migrate(&self) -> Result<Vec<String>, CatalogError> {
        migrations::migrate(self.dial.connect().await?).await
    }

    /// Takes the newest migration back; returns its name, or `None` when none is applied.
    ///
    /// # Errors
    /// As `migrate`.
    pub async fn revert_last(&self) -> Result<Option<String>, CatalogError> {
        self.schema_seen.store(false, Ordering::Relaxed);
        migrations::revert_last(self.dial.connect().await?).await
    }

    /// Names of the migrations that the catalog lacks.
    ///
    /// # Errors
    /// `SchemaNewer` when it has one that this program does not know.
    pub async fn pending(&self) -> Result<Vec<String>, CatalogError> {
        let mut conn = self.get_unchecked().await?;
        migrations::pending(&mut conn).await
    }
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A handler that was cancelled inside a transaction would leave its row locks in the
        // pool until somebody takes this connection out again. Closed, the server rolls back.
        if let Some(mut object) = self.0.take()
            && object.is_broken()
        {
            drop(Object::take(object));
        }
    }
}

struct Sessions(Arc<Dial>);

impl Manager for Sessions {
    type Type = AsyncPgConnection;
    type Error = CatalogError;

    async fn create(&self) -> Result<AsyncPgConnection, CatalogError> {
        self.0.connect().await
    }

    async fn recycle(
        &self,
        conn: &mut AsyncPgConnection,
        metrics: &Metrics,
    ) -> RecycleResult<CatalogError> {
        if conn.is_broken() {
            return Err(RecycleError::message("dropped inside a transaction"));
        }
        // One that closed the connection was noticed by the line above. To ask is for one that
        // vanished without a word, and not worth a round trip for each statement.
        if metrics.last_used() < ASK_AFTER {
            return Ok(());
        }
        // A catalog that was restarted is noticed here, not in the caller's first statement.
        conn.batch_execute("SELECT 1")
            .await
            .map_err(|error| RecycleError::Backend(error.into()))
    }
}
