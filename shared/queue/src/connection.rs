use std::future::Future;
use std::sync::{Arc, Once};
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, RedisError, TlsCertificates};
use secrecy::ExposeSecret;
use tokio::sync::Mutex;

use crate::error::QueueError;
use crate::settings::RedisSettings;

/// One connection to Redis, made when it is first needed and made anew after any
/// doubt. `redis`'s own `ConnectionManager` keeps a connection whose answers time
/// out; behind a peer that vanished without a reset it would time out for as long
/// as TCP retransmits, a quarter of an hour.
#[derive(Clone)]
pub(crate) struct Connection {
    client: Client,
    address: Arc<str>,
    limit: Duration,
    current: Arc<Mutex<Option<(u64, MultiplexedConnection)>>>,
}

impl Connection {
    /// Does not connect.
    pub(crate) fn new(settings: &RedisSettings) -> Result<Self, QueueError> {
        let info = settings
            .url
            .expose_secret()
            .into_connection_info()
            .map_err(|source| QueueError::Url { source })?;
        install_crypto_provider();
        let client = match &settings.ca_certificates {
            Some(path) => {
                let wrap = |source| QueueError::Certificates {
                    path: path.clone(),
                    source,
                };
                let root = std::fs::read(path).map_err(|e| wrap(e.into()))?;
                let certificates = TlsCertificates {
                    client_tls: None,
                    root_cert: Some(root),
                };
                Client::build_with_tls(info, certificates).map_err(|e| wrap(e.into()))?
            }
            None => Client::open(info).map_err(|source| QueueError::Url { source })?,
        };
        Ok(Self {
            client,
            address: settings.address().into(),
            limit: settings.response_timeout,
            current: Arc::default(),
        })
    }

    /// The same server over a connection of its own, whose answers nothing else
    /// can hold up, with a limit of its own.
    pub(crate) fn another(&self, limit: Duration) -> Self {
        Self {
            limit: limit.min(self.limit),
            current: Arc::default(),
            ..self.clone()
        }
    }

    /// How long one answer may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs `order` on a live connection; connecting and answering together are
    /// bounded by the response timeout.
    pub(crate) async fn run<T, F, Fut>(&self, order: F) -> Result<T, QueueError>
    where
        F: FnOnce(MultiplexedConnection) -> Fut,
        Fut: Future<Output = Result<T, RedisError>>,
    {
        let used = std::sync::atomic::AtomicU64::new(0);
        let attempt = async {
            let (generation, connection) = self.live().await?;
            used.store(generation, std::sync::atomic::Ordering::Relaxed);
            order(connection).await
        };
        let error = match tokio::time::timeout(self.limit, attempt).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => match error.code() {
                Some(code) => {
                    let message = format!("{code} {}", error.detail().unwrap_or_default());
                    // A primary that became a replica: the name may lead elsewhere now.
                    if code == "READONLY" {
                        self.discard(used.into_inner()).await;
                    }
                    return Err(QueueError::Refused {
                        address: self.address.to_string(),
                        message: message.trim_end().to_owned(),
                    });
                }
                None => QueueError::Unreachable {
                    address: self.address.to_string(),
                    source: error,
                },
            },
            Err(_) => QueueError::Timeout {
                address: self.address.to_string(),
                limit: self.limit,
            },
        };
        self.discard(used.into_inner()).await;
        Err(error)
    }

    /// A subscription to one channel, over a connection of its own.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<PubSub, RedisError> {
        let connect = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(channel).await?;
            Ok(subscription)
        };
        tokio::time::timeout(self.limit, connect)
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn live(&self) -> Result<(u64, MultiplexedConnection), RedisError> {
        let mut current = self.current.lock().await;
        if let Some((generation, connection)) = &*current {
            return Ok((*generation, connection.clone()));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limit))
            .set_response_timeout(Some(self.limit));
        let connection = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let generation = fastrand::u64(1..);
        *current = Some((generation, connection.clone()));
        Ok((generation, connection))
    }

    /// Only the connection that failed: another task may have made a new one.
    async fn discard(&self, failed: u64) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|(made, _)| *made == failed) {
            *current = None;
        }
    }
}

/// rustls wants one provider per process; with two of them in the build it would
/// panic at the first `rediss://` connection.
fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that the program has chosen one already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    });
}
