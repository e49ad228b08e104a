//! Passing a request on to the cloud: plainly, slowly, or only half of it.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::State;
use super::serve::{Body, Cut, Error};

pub(super) async fn plainly(
    request: Request<Incoming>,
    state: &State,
) -> Result<Response<Body>, Error> {
    send(request.map(whole), state).await
}

/// Each way at most `rate` bytes a second.
pub(super) async fn slowly(
    request: Request<Incoming>,
    state: &State,
    rate: u64,
) -> Result<Response<Body>, Error> {
    let answer = send(request.map(|body| throttled(whole(body), rate)), state).await?;
    Ok(answer.map(|body| throttled(body, rate)))
}

/// Sends half of the body's bytes to the cloud, then cuts the connection to it.
pub(super) async fn half(request: Request<Incoming>, state: &State) {
    let length: usize = request
        .headers()
        .get("content-length")
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let mut left = length / 2;
    let request = request.map(|body| {
        let frames = BodyStream::new(whole(body)).map(move |frame| {
            let frame = frame?;
            let size = frame.data_ref().map_or(0, Bytes::len);
            left = left.checked_sub(size).ok_or(Cut)?;
            Ok(frame)
        });
        BodyExt::boxed(StreamBody::new(frames))
    });
    let _ = send(request, state).await;
}

/// Sends a request to the cloud over a connection of its own: a pooled one that
/// the cloud closes meanwhile would look like a fault that nobody asked for.
pub(super) async fn send(
    mut request: Request<Body>,
    state: &State,
) -> Result<Response<Body>, Error> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let uri: Uri = format!("http://{}{path}", state.upstream).parse()?;
    *request.uri_mut() = uri;
    let client = Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(0)
        .set_host(false)
        .build_http::<Body>();
    let answer = client.request(request).await?;
    Ok(answer.map(whole))
}

pub(super) fn whole(body: Incoming) -> Body {
    body.map_err(Into::into).boxed()
}

fn throttled(body: Body, rate: u64) -> Body {
    let frames = BodyStream::new(body).then(move |frame| async move {
        let frame: Frame<Bytes> = frame?;
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        tokio::time::sleep(Duration::from_micros(size * 1_000_000 / rate.max(1))).await;
        Ok(frame)
    });
    // `boxed` wants `Sync`, which the stream of sleeps is only behind a lock.
    http_body_util::combinators::BoxBody::new(StreamBody::new(SyncStream::new(frames.boxed())))
}

/// A stream that is `Sync` because nobody can reach it through `&self`.
type SyncStream = sync::Exclusive;

mod sync {
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use futures::Stream;
    use futures::stream::BoxStream;
    use hyper::body::Frame;

    use super::Error;

    type Frames = BoxStream<'static, Result<Frame<Bytes>, Error>>;

    pub(super) struct Exclusive(Mutex<Frames>);

    impl Exclusive {
        pub(super) fn new(frames: Frames) -> Self {
            Exclusive(Mutex::new(frames))
        }
    }

    impl Stream for Exclusive {
        type Item = Result<Frame<Bytes>, Error>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0
                .get_mut()
                .expect("no panic under the lock")
                .as_mut()
                .poll_next(cx)
        }
    }
}
