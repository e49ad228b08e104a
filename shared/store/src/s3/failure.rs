//! What an exchange with an S3 server can end in, before it is told in the operator's terms.

use std::error::Error;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use object_store::client::{HttpError, HttpErrorKind};

use crate::answers::Words;
use crate::{At, Said, StoreError};

/// Why there was no good answer. Travels through `object_store` inside its errors.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Refused(RootCause),
    #[error("{0}")]
    Interrupted(RootCause),
    #[error("no progress for {0:?}")]
    Idle(Duration),
    #[error("{0}")]
    Tls(RootCause),
    #[error("HTTP {}", .0.status)]
    Answer(Answer),
    #[error("{0}")]
    NotHttp(RootCause),
}

/// An answer that is not what was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) date: Option<DateTime<Utc>>,
}

/// The innermost error of a chain: transport libraries wrap "connection refused" five
/// times, and their outer messages may hold the URL.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct RootCause(String);

impl Failure {
    /// Sorts an error of the HTTP client; `idle` is what its connect timeout was set to.
    pub(crate) fn from_client(error: &reqwest::Error, connect_timeout: Duration) -> Self {
        let cause = RootCause::of(error);
        let chain = || chain(error);
        if chain().any(|e| e.is::<rustls::Error>()) {
            return Self::Tls(cause);
        }
        if error.is_timeout() {
            return Self::Idle(connect_timeout);
        }
        if error.is_connect() {
            return Self::Refused(cause);
        }
        if chain()
            .filter_map(|e| e.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_parse)
        {
            return Self::NotHttp(cause);
        }
        Self::Interrupted(cause)
    }

    /// Finds the failure inside an error of `object_store`.
    pub(crate) fn inside(error: &object_store::Error) -> Option<&Self> {
        chain(error).find_map(|e| e.downcast_ref::<Self>())
    }

    pub(crate) fn into_http(self) -> HttpError {
        // The kind decides on retries inside object_store, which are switched off.
        HttpError::new(HttpErrorKind::Unknown, self)
    }

    /// Tells it in the operator's terms.
    pub(crate) fn at(self, at: At) -> StoreError {
        match self {
            Self::Refused(cause) => StoreError::Refused {
                at,
                source: Box::new(cause),
            },
            Self::Interrupted(cause) => StoreError::Interrupted {
                at,
                source: Box::new(cause),
            },
            Self::Idle(idle) => StoreError::Timeout { at, idle },
            Self::Tls(cause) => StoreError::Tls {
                at,
                source: Box::new(cause),
            },
            Self::NotHttp(cause) => StoreError::Protocol {
                at,
                problem: "not an HTTP answer".to_owned(),
                source: Some(Box::new(cause)),
            },
            Self::Answer(answer) => answer.at(at),
        }
    }
}

impl Answer {
    pub(crate) fn new(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let words = Words::parse(body);
        Self {
            status,
            code: words.code,
            message: words.message,
            retry_after: retry_after(headers),
            date: date(headers),
        }
    }

    /// The key is not there, and the server said so in so many words. A bare 404 can also
    /// come from a proxy or from an endpoint that is no S3 server at all.
    pub(crate) fn is_no_such_key(&self) -> bool {
        self.status == StatusCode::NOT_FOUND && self.code == "NoSuchKey"
    }

    /// The server lacks this part of S3.
    pub(crate) fn is_unsupported(&self) -> bool {
        self.status == StatusCode::NOT_IMPLEMENTED
            || self.status == StatusCode::METHOD_NOT_ALLOWED
            || self.code == "NotImplemented"
    }

    fn at(self, at: At) -> StoreError {
        let Self {
            status,
            code,
            message,
            retry_after,
            date,
        } = self;
        let said = Said::new(status.as_u16(), &code, &message);
        match (status.as_u16(), code.as_str()) {
            (_, "NoSuchBucket" | "InvalidBucketName") => StoreError::NoBucket { at, said },
            (_, "RequestTimeTooSkewed") => StoreError::Clock {
                at,
                said,
                server: date,
            },
            (
                _,
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "TemporaryRedirect"
                | "IllegalLocationConstraintException"
                | "InvalidRegionName",
            )
            | (301 | 302 | 307 | 308, _) => StoreError::WrongRegion { at, said },
            (_, "SlowDown" | "TooManyRequests" | "RequestLimitExceeded") | (429, _) => {
                StoreError::Throttled {
                    at,
                    said,
                    retry_after,
                }
            }
            (503, _) if retry_after.is_some() => StoreError::Throttled {
                at,
                said,
                retry_after,
            },
            (_, "NotImplemented") | (501 | 405, _) => StoreError::Unsupported { at, said },
            (
                _,
                "BadDigest"
                | "InvalidDigest"
                | "XAmzContentSHA256Mismatch"
                | "IncompleteBody"
                | "UnexpectedContent",
            ) => StoreError::Damaged { at, said },
            (_, "RequestTimeout") | (408, _) => StoreError::Interrupted {
                at,
                source: Box::new(RootCause(said.to_string())),
            },
            (401 | 403, _)
            | (
                _,
                "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "NotSignedUp" | "Unauthorized",
            ) => StoreError::Denied { at, said },
            (409 | 412, _) => StoreError::Conflict { at, said },
            // 200 with an error inside: CompleteMultipartUpload answers before it is done.
            (500..=599 | 200..=299, _) => StoreError::Server { at, said },
            (404, "") => StoreError::Protocol {
                at,
                problem: "HTTP 404 without an S3 error".to_owned(),
                source: None,
            },
            _ => StoreError::Rejected { at, said },
        }
    }
}

impl RootCause {
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let cause = chain(error).last().unwrap_or(error);
        Self(cause.to_string())
    }

    pub(crate) fn text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// The error, its cause, and so on.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| source_of(*error))
}

/// The next error inside. An `io::Error` made from another error reports that one's
/// source as its own and so skips it; TLS errors arrive in exactly that way.
fn source_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

/// The `Date` header.
pub(crate) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    Some(date.with_timezone(&Utc))
}

/// The `Retry-After` header, in either of its two forms.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    // A date is on the server's clock, as its `Date` header is.
    let until = DateTime::parse_from_rfc2822(text).ok()?.with_timezone(&Utc);
    let now = date(headers).unwrap_or_else(Utc::now);
    Some((until - now).to_std().unwrap_or_default())
}
