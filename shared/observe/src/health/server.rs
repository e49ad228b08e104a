use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::checks::{Checks, Report};
use crate::metrics::Metrics;

/// How long closing waits for answers under way.
const CLOSING: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error(
        "cannot listen on `{address}`\nHINT: choose another health address; port 0 takes any free one"
    )]
    Bind {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the health address to `{}`", .path.display())]
    AddressFile {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The health port, served on a task of its own from [`HealthServer::bind`] to
/// [`HealthServer::close`], which comes last in a shutdown: until then whoever
/// asks hears that the program drains, and not nothing.
pub struct HealthServer {
    address: SocketAddr,
    closing: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl HealthServer {
    /// Listens on `address`; port 0 takes a free one. The bound address is
    /// logged and, if a file is named, written there with a line end (a reader
    /// that sees no line end yet looks again).
    ///
    /// # Errors
    /// When the address is taken, or the file cannot be written.
    pub async fn bind(
        address: SocketAddr,
        address_file: Option<&Path>,
        checks: Checks,
        metrics: Metrics,
    ) -> Result<Self, HealthError> {
        let bind = |source| HealthError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        if let Some(path) = address_file {
            let written = tokio::fs::write(path, format!("{address}\n")).await;
            written.map_err(|source| HealthError::AddressFile {
                path: path.to_owned(),
                source,
            })?;
        }
        tracing::info!(health.address = %address, "health port open");
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(exposition))
            .with_state((checks, metrics));
        let closing = CancellationToken::new();
        let asked = closing.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(asked)
                .await
        });
        Ok(Self {
            address,
            closing,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, after the answers under way or three seconds.
    pub async fn close(mut self) {
        self.closing.cancel();
        match tokio::time::timeout(CLOSING, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => {
                tracing::warn!(error = %error, "health port had ended early");
            }
            Ok(Err(error)) => tracing::warn!(error = %error, "health port had ended early"),
            // Somebody holds a connection open; that is no reason to stay.
            Err(_) => self.task.abort(),
        }
    }
}

type Served = State<(Checks, Metrics)>;

async fn healthz(State((checks, _)): Served) -> Response {
    answer(&checks.liveness().await)
}

async fn readyz(State((checks, _)): Served) -> Response {
    answer(&checks.readiness().await)
}

async fn exposition(State((checks, metrics)): Served) -> Response {
    // Asked now: what is away is told by the very scrape that finds it so.
    metrics.readiness(&checks.readiness().await);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.encode()).into_response()
}

fn answer(report: &Report) -> Response {
    let status = if report.is_ok() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::to_string(report).expect("a report is texts only");
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    const ANY_PORT: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: walferry\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_turns_503_as_soon_as_a_check_fails_and_names_the_cause() {
        let ended = Arc::new(AtomicBool::new(false));
        let checks = Checks::new();
        let seen = Arc::clone(&ended);
        checks.alive("consumer", move || {
            let ended = seen.load(Ordering::SeqCst);
            async move {
                if ended {
                    Err("the consumer ended".to_owned())
                } else {
                    Ok(())
                }
            }
        });
        checks.ready("redis", || async { Err("connection refused".to_owned()) });
        let server = HealthServer::bind(ANY_PORT, None, checks, Metrics::new())
            .await
            .unwrap();

        let alive = ask(server.address(), "/healthz").await;
        assert!(alive.starts_with("HTTP/1.1 200 OK\r\n"), "{alive}");
        assert!(
            alive.ends_with(r#"{"status":"ok","failing":{},"passed":["consumer"]}"#),
            "{alive}"
        );
        let ready = ask(server.address(), "/readyz").await;
        assert!(ready.starts_with("HTTP/1.1 503 "), "{ready}");
        let body = r#"{"status":"failing","failing":{"redis":"connection refused"},"passed":["consumer"]}"#;
        assert!(ready.ends_with(body), "{ready}");

        ended.store(true, Ordering::SeqCst);
        let dead = ask(server.address(), "/healthz").await;
        assert!(dead.starts_with("HTTP/1.1 503 "), "{dead}");
        assert!(dead.contains("the consumer ended"), "{dead}");
        server.close().await;
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics() {
        let metrics = Metrics::new();
        metrics.upload("r2", true);
        let server = HealthServer::bind(ANY_PORT, None, Checks::new(), metrics)
            .await
            .unwrap();
        let answer = ask(server.address(), "/metrics").await;
        assert!(
            answer.contains("content-type: application/openmetrics-text"),
            "{answer}"
        );
        assert!(
            answer.contains(r#"walferry_uploads_total{repository="r2",outcome="success"} 1"#),
            "{answer}"
        );
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        let nothing = ask(server.address(), "/").await;
        assert!(nothing.starts_with("HTTP/1.1 404 "), "{nothing}");
        server.close().await;
    }

    #[tokio::test]
    async fn the_bound_address_is_written_and_a_taken_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("address");
        let server = HealthServer::bind(ANY_PORT, Some(&file), Checks::new(), Metrics::new())
            .await
            .unwrap();
        let written = std::fs::read_to_string(&file).unwrap();
        assert_eq!(written, format!("{}\n", server.address()));
        assert_ne!(server.address().port(), 0);

        let taken = HealthServer::bind(server.address(), None, Checks::new(), Metrics::new()).await;
        let Err(error @ HealthError::Bind { .. }) = taken else {
            panic!("two servers on one address");
        };
        assert!(error.to_string().contains("HINT: "), "{error}");
        server.close().await;
    }

    #[tokio::test]
    async fn closing_does_not_wait_for_ever_for_somebody_who_holds_a_connection() {
        let server = HealthServer::bind(ANY_PORT, None, Checks::new(), Metrics::new())
            .await
            .unwrap();
        let address = server.address();
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent
            .write_all(b"GET /healthz HTTP/1.1\r\n")
            .await
            .unwrap();
        // The answer proves that the silent connection before it was accepted.
        ask(address, "/healthz").await;
        tokio::time::timeout(CLOSING * 3, server.close())
            .await
            .expect("closed in time");
        assert!(
            TcpStream::connect(address).await.is_err(),
            "nobody listens any more"
        );
    }
}
