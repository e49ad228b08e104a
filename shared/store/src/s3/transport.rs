//! The HTTP client below `object_store`, and our own signed requests beside it.
//!
//! It is here and not in `object_store` because of what that has no setting for: it limits
//! a request's total time and not its silence, sends no `Content-MD5`, and hides the
//! cloud's words in text. Every answer that is not a success leaves here as a `Failure`,
//! so `object_store` never sees one and never retries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use walferry_proof::Md5;

use super::failure::{Answer, Failure, RootCause};
use super::idle::{Progress, Silent, unless_idle};
use crate::answers::is_error_body;

tokio::task_local! {
    /// MD5 of the body of the PUT that is made inside this scope.
    pub(crate) static CONTENT_MD5: Md5;
}

const CONTENT_MD5_HEADER: HeaderName = HeaderName::from_static("content-md5");
const BODY_HASH_HEADER: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// What stands in for the body's hash when TLS guards it (S3, "Signature calculations").
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// Longest body of an answer that is read into memory: a page of 1,000 versions with keys
/// of 1,024 bytes fits.
const LONGEST_ANSWER: usize = 4 * 1024 * 1024;

/// A connection out of the pool may have been closed by the server long ago, which shows
/// within this time.
const STALE: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct Transport(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    credential: AwsCredential,
    region: String,
    idle_timeout: Duration,
    connect_timeout: Duration,
}

/// A complete answer to one of our own requests.
pub(crate) struct Answered {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Transport {
    pub(crate) fn new(
        client: reqwest::Client,
        credential: AwsCredential,
        region: String,
        idle_timeout: Duration,
        connect_timeout: Duration,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            credential,
            region,
            idle_timeout,
            connect_timeout,
        }))
    }

    /// A signed request without a body, for what `object_store` has no call for.
    pub(crate) async fn request(&self, method: Method, url: &str) -> Result<Answered, Failure> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method;
        *request.uri_mut() = url
            .parse()
            .map_err(|error| Failure::NotHttp(RootCause::of(&error)))?;
        self.sign(&mut request, &Body::Empty)?;
        let response = self.exchange(request).await?;
        let headers = response.headers().clone();
        let body = self.collect(response).await?;
        Ok(Answered { headers, body })
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        self.0.idle_timeout
    }

    /// Sorts an error of a body that is being streamed.
    pub(crate) fn sort(&self, error: &reqwest::Error) -> Failure {
        Failure::from_client(error, self.0.connect_timeout)
    }

    async fn exchange(&self, mut request: HttpRequest) -> Result<reqwest::Response, Failure> {
        if let Ok(md5) = CONTENT_MD5.try_with(|md5| *md5) {
            self.add_content_md5(&mut request, md5)?;
        }
        let (parts, body) = request.into_parts();
        let body = body
            .collect()
            .await
            .map_err(|error| Failure::Interrupted(RootCause::of(&error)))?
            .to_bytes();
        let start = Instant::now();
        match self.attempt(&parts, body.clone()).await {
            // A POST completes a multipart upload: its second attempt would fail although
            // the first one did the work. Everything else here can be repeated.
            Err(Failure::Interrupted(_))
                if parts.method != Method::POST && start.elapsed() < STALE =>
            {
                self.attempt(&parts, body).await
            }
            result => result,
        }
    }

    async fn attempt(
        &self,
        parts: &http::request::Parts,
        body: Bytes,
    ) -> Result<reqwest::Response, Failure> {
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| Failure::NotHttp(RootCause::of(&error)))?;
        let progress = Progress::new(body.len() as u64);
        let mut request = reqwest::Request::new(parts.method.clone(), url);
        *request.headers_mut() = parts.headers.clone();
        *request.body_mut() = (!body.is_empty()).then(|| {
            request
                .headers_mut()
                .insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            reqwest::Body::wrap_stream(progress.watch(body))
        });
        let idle = self.0.idle_timeout;
        let response = unless_idle(&progress, idle, self.0.client.execute(request))
            .await
            .map_err(|Silent| Failure::Idle(idle))?
            .map_err(|error| self.sort(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let headers = response.headers().clone();
        // The words are welcome, but the status alone says that it failed.
        let words = self.collect(response).await.unwrap_or_default();
        Err(Failure::Answer(Answer::new(status, &headers, &words)))
    }

    async fn collect(&self, mut response: reqwest::Response) -> Result<Bytes, Failure> {
        let idle = self.0.idle_timeout;
        let mut body = BytesMut::new();
        loop {
            let chunk = tokio::time::timeout(idle, response.chunk())
                .await
                .map_err(|_| Failure::Idle(idle))?
                .map_err(|error| self.sort(&error))?;
            match chunk {
                Some(chunk) if body.len() + chunk.len() <= LONGEST_ANSWER => {
                    body.extend_from_slice(&chunk);
                }
                Some(_) => return Err(Failure::NotHttp(RootCause::text("endless answer"))),
                None => return Ok(body.freeze()),
            }
        }
    }

    /// `Content-MD5` is added after `object_store` has signed, so the request is signed
    /// again, in the same way: the hash of the body, the costly part, is taken over, and over
    /// TLS there is none.
    fn add_content_md5(&self, request: &mut HttpRequest, md5: Md5) -> Result<(), Failure> {
        let signed = request.headers().get(&BODY_HASH_HEADER);
        let Some(text) = signed.and_then(|value| value.to_str().ok()) else {
            return Ok(());
        };
        let body = match text {
            UNSIGNED_PAYLOAD => Body::Unsigned,
            hash => match hash.parse::<walferry_proof::Sha256>() {
                Ok(hash) => Body::Hashed(hash.to_bytes()),
                // Signed in chunks: that covers the body, and its signature is not ours to make.
                Err(_) => return Ok(()),
            },
        };
        let value = HeaderValue::from_str(&md5.base64()).expect("base64 is visible ASCII");
        let headers = request.headers_mut();
        headers.remove(http::header::AUTHORIZATION);
        headers.insert(CONTENT_MD5_HEADER, value);
        self.sign(request, &body)
    }

    fn sign(&self, request: &mut HttpRequest, body: &Body) -> Result<(), Failure> {
        let (signed, hash) = match body {
            Body::Empty => (true, None),
            Body::Hashed(hash) => (true, Some(&hash[..])),
            Body::Unsigned => (false, None),
        };
        AwsAuthorizer::new(&self.0.credential, "s3", &self.0.region)
            .with_sign_payload(signed)
            .try_authorize(request, hash)
            .map_err(|error| Failure::NotHttp(RootCause::of(&error)))
    }
}

/// What a signature says of the body.
enum Body {
    Empty,
    /// Its SHA-256.
    Hashed([u8; 32]),
    /// Nothing: `UNSIGNED-PAYLOAD`.
    Unsigned,
}

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let streamed = request.method() == Method::GET && request.uri().query().is_none();
        let response = self.exchange(request).await.map_err(Failure::into_http)?;
        if streamed {
            let transport = self.clone();
            let (parts, body) = http::Response::<reqwest::Body>::from(response).into_parts();
            let body = body.map_err(move |error| transport.sort(&error).into_http());
            return Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)));
        }
        let mut head = http::Response::new(());
        *head.status_mut() = response.status();
        *head.headers_mut() = response.headers().clone();
        let body = self.collect(response).await.map_err(Failure::into_http)?;
        if is_error_body(&body) {
            let answer = Answer::new(StatusCode::OK, head.headers(), &body);
            return Err(Failure::Answer(answer).into_http());
        }
        Ok(head.map(|()| HttpResponseBody::from(body)))
    }
}

impl HttpConnector for Transport {
    fn connect(&self, _: &object_store::ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Holds the secret key.
        f.write_str("Transport")
    }
}
