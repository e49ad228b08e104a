//! One session: opened, told what it must hold to, and its failures told apart.

use std::error::Error as StdError;
use std::time::Duration;

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::Target;
use crate::error::CatalogError;

#[derive(Clone)]
pub(super) struct Dial {
    pub(super) target: Target,
    pub(super) tls: MakeRustlsConnect,
    pub(super) connect_timeout: Duration,
    pub(super) statement_timeout: Duration,
    pub(super) lock_timeout: Duration,
}

impl Dial {
    /// # Errors
    /// Classified by what an operator would do about it.
    pub(super) async fn connect(&self) -> Result<AsyncPgConnection, CatalogError> {
        // The driver's own timeout covers the socket only, not a server that accepts and
        // then keeps silent.
        tokio::time::timeout(self.connect_timeout, self.open())
            .await
            .map_err(|_| CatalogError::ConnectTimeout {
                place: self.target.place(),
                seconds: self.connect_timeout.as_secs(),
            })?
    }

    async fn open(&self) -> Result<AsyncPgConnection, CatalogError> {
        let (client, connection) = self
            .target
            .config
            .connect(self.tls.clone())
            .await
            .map_err(|error| self.classify(error))?;
        let mut conn = AsyncPgConnection::try_from_client_and_connection(client, connection)
            .await
            .map_err(|error| CatalogError::Refused {
                place: self.target.place(),
                source: Box::new(error),
            })?;
        // A crash of the catalog's server right after a commit that was only in memory would
        // forget that a segment is archived after its local file was deleted. So whatever
        // the role's or the database's default is, this session's commits are durable.
        conn.batch_execute(&format!(
            "SET synchronous_commit = on; SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = '60s'; SET default_transaction_isolation = 'read committed'",
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
        ))
        .await?;
        // Compiling a plan takes a hundred times as long as what is asked for here.
        conn.batch_execute("SET jit = off").await?;
        Ok(conn)
    }

    fn classify(&self, error: tokio_postgres::Error) -> CatalogError {
        let place = self.target.place();
        let tls = is_tls(&error);
        let code = error.code().cloned();
        let source = Box::new(error);
        match code {
            Some(code)
                if code == SqlState::INVALID_PASSWORD
                    || code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
            {
                CatalogError::Authentication { place, source }
            }
            Some(SqlState::INVALID_CATALOG_NAME) => CatalogError::NoDatabase { place, source },
            Some(SqlState::TOO_MANY_CONNECTIONS) => {
                CatalogError::TooManyConnections { place, source }
            }
            Some(
                SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN,
            ) => CatalogError::NotReady { place, source },
            Some(_) => CatalogError::Refused { place, source },
            None if tls => CatalogError::Tls { place, source },
            // "password missing" and the like: the server asks for what the URL lacks.
            None if source.to_string().starts_with("invalid configuration") => {
                CatalogError::Authentication { place, source }
            }
            None => CatalogError::Unreachable { place, source },
        }
    }
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    if error
        .to_string()
        .starts_with("error performing TLS handshake")
    {
        return true;
    }
    let mut next: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return true;
        }
        next = cause.source();
    }
    false
}
