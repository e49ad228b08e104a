//! A cloud that stores a flipped byte and says that all is well.
//!
//! The object behind the proxy is really damaged: the proxy signs the damaged
//! body itself. What it reports of the object, in every answer, is the ETag of
//! the body that was sent.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use md5::{Digest, Md5};

use super::State;
use super::forward::send;
use super::serve::{Body, Error, never};

/// What [`super::Fault::WrongEtag`] tells: the MD5 of nothing that is ever stored.
const ANOTHERS: HeaderValue = HeaderValue::from_static("\"0123456789abcdef0123456789abcdef\"");

/// The two ETags of a damaged object, without quotes.
#[derive(Debug, Clone)]
pub(super) struct Lie {
    told: String,
    true_one: String,
}

/// Stores the body with one byte flipped in its middle.
pub(super) async fn store_flipped(
    request: Request<Incoming>,
    key: &str,
    state: &State,
) -> Result<Response<Body>, Error> {
    let (mut head, body) = request.into_parts();
    let sent = body.collect().await?.to_bytes();
    let mut damaged = sent.to_vec();
    let middle = damaged.len() / 2;
    if let Some(byte) = damaged.get_mut(middle) {
        *byte ^= 0x01;
    }
    let lie = Lie {
        told: hex::encode(Md5::digest(&sent)),
        true_one: hex::encode(Md5::digest(&damaged)),
    };
    if head.headers.contains_key("content-md5") {
        let md5 = BASE64_STANDARD.encode(Md5::digest(&damaged));
        head.headers
            .insert("content-md5", HeaderValue::from_str(&md5)?);
    }
    state.credentials.sign(
        &head.method,
        head.uri.path(),
        head.uri.query().unwrap_or_default(),
        &mut head.headers,
        &damaged,
        chrono::Utc::now(),
    );
    state
        .lies
        .lock()
        .expect("no panic under the lock")
        .insert(key.into(), lie);
    let body = Full::new(Bytes::from(damaged)).map_err(never).boxed();
    send(Request::from_parts(head, body), state).await
}

/// Puts another object's ETag in place of the true one.
pub(super) fn give_anothers(mut answer: Response<Body>) -> Response<Body> {
    if let Some(etag) = answer.headers_mut().get_mut("etag") {
        *etag = ANOTHERS;
    }
    answer
}

/// Puts the ETag that was promised in place of the true one: in the header of
/// an answer about a damaged object, and in listings.
pub(super) async fn tell_lies(
    mut answer: Response<Body>,
    key: &str,
    state: &State,
) -> Response<Body> {
    let lies = state.lies.lock().expect("no panic under the lock").clone();
    if let (Some(lie), Some(etag)) = (lies.get(key), answer.headers().get("etag")) {
        let told = etag
            .to_str()
            .unwrap_or_default()
            .replace(&lie.true_one, &lie.told);
        if let Ok(told) = HeaderValue::from_str(&told) {
            answer.headers_mut().insert("etag", told);
        }
    }
    if !key.is_empty() || lies.is_empty() {
        return answer;
    }
    // Both ETags are 32 digits long: the length that was announced holds.
    let (head, body) = answer.into_parts();
    let listing = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let mut listing = String::from_utf8_lossy(&listing).into_owned();
    for lie in lies.values() {
        listing = listing.replace(&lie.true_one, &lie.told);
    }
    let body = Full::new(Bytes::from(listing)).map_err(never).boxed();
    Response::from_parts(head, body)
}
