//! Asking the cloud for what it does not have: its refusals are its own then.

use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::State;
use super::forward::send;
use super::serve::{Body, Error, never};
use crate::sigv4::Credentials;

/// Names a bucket that is not there instead of the one that was asked for.
pub(super) async fn for_no_bucket(
    mut request: Request<Incoming>,
    state: &State,
) -> Result<Response<Body>, Error> {
    let path = request.uri().path().trim_start_matches('/');
    let key = path.split_once('/').map_or("", |(_bucket, key)| key);
    let query = request.uri().query().unwrap_or_default();
    let uri: Uri = match (key, query) {
        ("", "") => "/gone".parse()?,
        ("", query) => format!("/gone?{query}").parse()?,
        (key, "") => format!("/gone/{key}").parse()?,
        (key, query) => format!("/gone/{key}?{query}").parse()?,
    };
    *request.uri_mut() = uri;
    signed(request, &state.credentials.clone(), state).await
}

/// Signs with a key that the cloud does not know.
pub(super) async fn with_no_key(
    request: Request<Incoming>,
    state: &State,
) -> Result<Response<Body>, Error> {
    let revoked = Credentials {
        id: "revoked".into(),
        ..state.credentials.clone()
    };
    signed(request, &revoked, state).await
}

async fn signed(
    request: Request<Incoming>,
    credentials: &Credentials,
    state: &State,
) -> Result<Response<Body>, Error> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    credentials.sign(
        &head.method,
        head.uri.path(),
        head.uri.query().unwrap_or_default(),
        &mut head.headers,
        &body,
        chrono::Utc::now(),
    );
    let body = Full::new(body).map_err(never).boxed();
    send(Request::from_parts(head, body), state).await
}
