//! Listening, and what one request meets on its way.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cut::{Cutting, Scissors};
use super::record::Record;
use super::{Fault, State, flip, forward, resign};

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(super) type Body = BoxBody<Bytes, Error>;

/// The connection ends without an answer.
#[derive(Debug)]
pub(super) struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by the proxy")
    }
}

impl std::error::Error for Cut {}

/// Listens while the proxy is open; cuts every connection when it closes.
pub(super) async fn listen(address: SocketAddr, state: Arc<State>) {
    let mut open = state.open.subscribe();
    loop {
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        let listener = bind(address).await;
        let closed = CancellationToken::new();
        let _cut = closed.clone().drop_guard();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else { continue };
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(closed.clone().run_until_cancelled_owned(connection(stream, state.clone())));
                }
                end = open.wait_for(|open| !*open) => {
                    if end.is_err() { return }
                    break;
                }
            }
        }
    }
}

/// Tokio sets SO_REUSEADDR, so the port can be taken again at once, as a rule: who looks for a
/// free port may have it in hand for a moment.
async fn bind(address: SocketAddr) -> TcpListener {
    for _ in 0..200 {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    panic!("{address} is reserved for this proxy, and somebody else listens there");
}

async fn connection(stream: tokio::net::TcpStream, state: Arc<State>) {
    let scissors = Scissors::new();
    let stream = Cutting {
        stream,
        scissors: scissors.clone(),
    };
    let service = service_fn(move |request| {
        let (state, scissors) = (state.clone(), scissors.clone());
        async move { handle(request, &state, &scissors).await }
    });
    // An error here is the cut that a fault asked for, or a client gone away.
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn handle(
    request: Request<Incoming>,
    state: &State,
    scissors: &Scissors,
) -> Result<Response<Body>, Cut> {
    let method = request.method().clone();
    let path = request.uri().path().trim_start_matches('/');
    let key = path
        .split_once('/')
        .map_or("", |(_bucket, key)| key)
        .to_owned();
    let record = state.begin(&method, &key, request.uri().query().unwrap_or_default());
    let mut changes = state.changes.subscribe();
    let fault = state.fault_for(&method, &key);
    let gate = state.gate_for(&method, &key);
    if let Some(gate) = gate {
        gate.pass().await;
    }

    let response = match fault {
        Some(Fault::Refuse) => return Err(Cut),
        Some(Fault::Blackhole) => {
            let _ = changes.changed().await;
            return Err(Cut);
        }
        Some(Fault::Flapping { up, down }) => {
            let phase = state.age().as_millis() % (up + down).as_millis();
            if phase >= up.as_millis() {
                return Err(Cut);
            }
            forward::plainly(request, state).await
        }
        Some(Fault::Status(status)) => {
            let _ = request.into_body().collect().await;
            return Ok(error_answer(status, words_of(status), None, &method));
        }
        Some(Fault::Says {
            status,
            code,
            retry_after,
        }) => {
            let _ = request.into_body().collect().await;
            return Ok(error_answer(status, code, retry_after, &method));
        }
        Some(Fault::BucketGone) => resign::for_no_bucket(request, state).await,
        Some(Fault::KeyRevoked) => resign::with_no_key(request, state).await,
        Some(Fault::Latency(delay)) => {
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = changes.changed() => {}
            }
            forward::plainly(request, state).await
        }
        Some(Fault::Bandwidth(rate)) => forward::slowly(request, state, rate).await,
        Some(Fault::ResetMidBody) => {
            forward::half(request, state).await;
            return Err(Cut);
        }
        Some(Fault::DropResponse) => {
            let answer = forward::plainly(request, state).await;
            state.end(record, answer.as_ref().ok());
            return Err(Cut);
        }
        Some(Fault::FlipStored) if method == Method::PUT && !key.is_empty() => {
            flip::store_flipped(request, &key, state).await
        }
        Some(Fault::WrongEtag) if !key.is_empty() => forward::plainly(request, state)
            .await
            .map(flip::give_anothers),
        Some(Fault::TruncatedAnswer) => {
            scissors.cut();
            forward::plainly(request, state).await
        }
        Some(Fault::FlipStored | Fault::WrongEtag) | None => forward::plainly(request, state).await,
    };
    let response = response.unwrap_or_else(|error| {
        let mut answer = Response::new(text(format!(
            "the proxy could not reach the cloud: {error}"
        )));
        *answer.status_mut() = StatusCode::BAD_GATEWAY;
        answer
    });
    state.end(record, Some(&response));
    Ok(flip::tell_lies(response, &key, state).await)
}

impl State {
    fn begin(&self, method: &Method, key: &str, query: &str) -> usize {
        let mut records = self.records.lock().expect("no panic under the lock");
        records.push(Record {
            method: method.clone(),
            key: key.into(),
            query: query.into(),
            status: None,
            started: Instant::now(),
            answered: None,
        });
        records.len() - 1
    }

    fn end(&self, record: usize, answer: Option<&Response<Body>>) {
        let mut records = self.records.lock().expect("no panic under the lock");
        // The test may have forgotten the records meanwhile.
        if let (Some(record), Some(answer)) = (records.get_mut(record), answer) {
            record.status = Some(answer.status().as_u16());
            record.answered = Some(Instant::now());
        }
    }

    fn fault_for(&self, method: &Method, key: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().expect("no panic under the lock");
        rules
            .iter_mut()
            .find_map(|rule| rule.strikes(method, key).then_some(rule.fault))
    }

    fn gate_for(&self, method: &Method, key: &str) -> Option<super::Gate> {
        let gates = self.gates.lock().expect("no panic under the lock");
        gates.iter().find(|gate| gate.holds(method, key)).cloned()
    }

    fn age(&self) -> std::time::Duration {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

pub(super) fn text(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(never).boxed()
}

pub(super) fn never(never: Infallible) -> Error {
    match never {}
}

/// What the real clouds say with a status.
fn words_of(status: u16) -> &'static str {
    match status {
        403 => "AccessDenied",
        404 => "NoSuchBucket",
        429 | 503 => "SlowDown",
        507 => "InsufficientStorage",
        _ => "InternalError",
    }
}

/// S3's XML errors.
fn error_answer(
    status: u16,
    code: &str,
    retry_after: Option<u32>,
    method: &Method,
) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
         <Message>the proxy was told to answer {status}</Message></Error>"
    );
    let body = if method == Method::HEAD {
        String::new()
    } else {
        xml
    };
    let mut answer = Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header(
            "date",
            chrono::Utc::now()
                .format("%a, %d %b %Y %H:%M:%S GMT")
                .to_string(),
        );
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    answer.body(text(body)).expect("a valid status")
}
