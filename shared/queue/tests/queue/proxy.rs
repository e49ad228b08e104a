use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use walferry_queue::{Queue, QueueSettings, RedisSettings};

/// Stands between a queue and its Redis, and loses or delays what passes.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    links: Arc<Mutex<Vec<Link>>>,
    swallow: Arc<AtomicBool>,
}

#[derive(Clone, Default)]
struct Link {
    hold_orders: Arc<AtomicBool>,
    hold_replies: Arc<AtomicBool>,
    cut: CancellationToken,
}

impl Proxy {
    pub(crate) async fn before(redis_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self {
            port: listener.local_addr().unwrap().port(),
            links: Arc::default(),
            swallow: Arc::default(),
        };
        let (links, swallow) = (Arc::clone(&proxy.links), Arc::clone(&proxy.swallow));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", redis_port)).await else {
                    continue;
                };
                let link = Link::default();
                links.lock().unwrap().push(link.clone());
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let never = Arc::<AtomicBool>::default();
                tokio::spawn(pump(
                    from_client,
                    to_server,
                    link.hold_orders,
                    never,
                    link.cut.clone(),
                ));
                let swallow = Arc::clone(&swallow);
                tokio::spawn(pump(
                    from_server,
                    to_client,
                    link.hold_replies,
                    swallow,
                    link.cut,
                ));
            }
        });
        proxy
    }

    /// A queue behind the proxy, quickly impatient.
    pub(crate) fn queue(&self, settings: QueueSettings) -> Queue {
        self.queue_that_waits(Duration::from_millis(400), settings)
    }

    pub(crate) fn queue_that_waits(&self, limit: Duration, settings: QueueSettings) -> Queue {
        let mut redis = RedisSettings::new(format!("redis://127.0.0.1:{}/", self.port));
        redis.response_timeout = limit;
        Queue::new(redis, "test-queue".parse().unwrap(), settings).unwrap()
    }

    /// From now on answers are lost.
    pub(crate) fn swallow_replies(&self) {
        self.swallow.store(true, Ordering::SeqCst);
    }

    /// Ends every connection; new ones work again.
    pub(crate) fn cut(&self) {
        for link in self.links.lock().unwrap().drain(..) {
            link.cut.cancel();
        }
        self.swallow.store(false, Ordering::SeqCst);
    }

    /// Existing connections stay open and carry nothing; new ones work.
    pub(crate) fn hold_orders(&self) {
        for link in &*self.links.lock().unwrap() {
            link.hold_orders.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) fn hold_replies(&self) {
        for link in &*self.links.lock().unwrap() {
            link.hold_replies.store(true, Ordering::SeqCst);
        }
    }

    /// What was held arrives now.
    pub(crate) fn release(&self) {
        for link in &*self.links.lock().unwrap() {
            link.hold_orders.store(false, Ordering::SeqCst);
            link.hold_replies.store(false, Ordering::SeqCst);
        }
    }
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    hold: Arc<AtomicBool>,
    swallow: Arc<AtomicBool>,
    cut: CancellationToken,
) {
    let carry = async {
        let mut buffer = [0; 65536];
        while let Ok(read) = from.read(&mut buffer).await {
            while hold.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            if read == 0 {
                break;
            }
            if !swallow.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = cut.cancelled() => {}
        () = carry => {}
    }
}
