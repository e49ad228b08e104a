//! What can go wrong between us and a cloud, in the operator's terms.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use walferry_proof::{ObjectKey, RepositoryName};

/// A request that did not do what it was asked to.
///
/// `Display` names the repository, the key and the cloud's own words; it never holds a
/// secret. The cause is in `source()`, what to do about it in `hint()`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nobody answers there: connection refused, no route, unknown host name.
    #[error("{at}: cannot connect")]
    Refused { at: At, source: BoxError },
    /// The connection broke before the answer was complete.
    #[error("{at}: the connection broke")]
    Interrupted { at: At, source: BoxError },
    /// Not a single byte moved for this long.
    #[error("{at}: no progress for {}", seconds(*idle))]
    Timeout { at: At, idle: Duration },
    #[error("{at}: the TLS connection failed")]
    Tls { at: At, source: BoxError },
    #[error("{at}: access denied, {said}")]
    Denied { at: At, said: Said },
    #[error("{at}: the bucket does not exist, {said}")]
    NoBucket { at: At, said: Said },
    #[error("{at}: the bucket is in another region, {said}")]
    WrongRegion { at: At, said: Said },
    #[error("{at}: asked to slow down, {said}")]
    Throttled {
        at: At,
        said: Said,
        retry_after: Option<Duration>,
    },
    #[error("{at}: the server failed, {said}")]
    Server { at: At, said: Said },
    /// What arrived there is not what was sent.
    #[error("{at}: damaged on the way, {said}")]
    Damaged { at: At, said: Said },
    /// Somebody else writes the same key at this moment.
    #[error("{at}: in conflict with another request, {said}")]
    Conflict { at: At, said: Said },
    #[error("{at}: the request was rejected, {said}")]
    Rejected { at: At, said: Said },
    #[error("{at}: the server does not support this request, {said}")]
    Unsupported { at: At, said: Said },
    #[error("{at}: our clock and the server's differ too much, {said}")]
    Clock {
        at: At,
        said: Said,
        server: Option<DateTime<Utc>>,
    },
    /// An answer that is none of S3.
    #[error("{at}: unexpected answer: {problem}")]
    Protocol {
        at: At,
        problem: String,
        source: Option<BoxError>,
    },
    /// Not asked: the last answers were failures, and it is not yet time to try again.
    #[error("{at}: not tried until {}, last failure: {cause}", until.format("%H:%M:%S UTC"))]
    BreakerOpen {
        at: At,
        until: DateTime<Utc>,
        /// Time until then.
        wait: Duration,
        /// `cause()` of the failure that keeps it open.
        cause: &'static str,
    },
    #[error("{at}: {problem}")]
    Configuration {
        at: At,
        problem: String,
        source: Option<BoxError>,
    },
    /// What was to be uploaded could not be read; no fault of the cloud.
    #[error("{at}: the source of the upload failed")]
    Upload { at: At, source: BoxError },
}

/// Cause of an error, kept to be shown.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Which request it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At(Box<(RepositoryName, &'static str, Option<ObjectKey>)>);

/// The cloud's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said(Box<Words>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Words {
    status: u16,
    code: String,
    message: String,
}

/// Who can make it work, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Now or in a moment: it concerned this request.
    Soon,
    /// With a growing delay: it concerns the repository.
    Later,
    /// Not before a person changed something; keep trying rarely, they may have.
    Operator,
}

impl StoreError {
    /// Whether, and how urgently, to try again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Interrupted { .. } | Self::Damaged { .. } | Self::Conflict { .. } => Retry::Soon,
            Self::Refused { .. }
            | Self::Timeout { .. }
            | Self::Throttled { .. }
            | Self::Server { .. }
            | Self::Protocol { .. }
            | Self::BreakerOpen { .. }
            | Self::Upload { .. } => Retry::Later,
            Self::Tls { .. }
            | Self::Denied { .. }
            | Self::NoBucket { .. }
            | Self::WrongRegion { .. }
            | Self::Rejected { .. }
            | Self::Unsupported { .. }
            | Self::Clock { .. }
            | Self::Configuration { .. } => Retry::Operator,
        }
    }

    /// A label of a bounded set, for metrics and the catalog.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Interrupted { .. } => "interrupted",
            Self::Timeout { .. } => "timeout",
            Self::Tls { .. } => "tls",
            Self::Denied { .. } => "denied",
            Self::NoBucket { .. } => "no-bucket",
            Self::WrongRegion { .. } => "wrong-region",
            Self::Throttled { .. } => "throttled",
            Self::Server { .. } => "server-error",
            Self::Damaged { .. } => "damaged",
            Self::Conflict { .. } => "conflict",
            Self::Rejected { .. } => "rejected",
            Self::Unsupported { .. } => "unsupported",
            Self::Clock { .. } => "clock",
            Self::Protocol { .. } => "protocol",
            Self::BreakerOpen { .. } => "breaker-open",
            Self::Configuration { .. } => "configuration",
            Self::Upload { .. } => "upload",
        }
    }

    /// Whether the repository as a whole is to blame, so that the next request will most
    /// likely fail too.
    pub fn blames_repository(&self) -> bool {
        match self {
            Self::Refused { .. }
            | Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::Tls { .. }
            | Self::Denied { .. }
            | Self::NoBucket { .. }
            | Self::WrongRegion { .. }
            | Self::Server { .. }
            | Self::Clock { .. }
            | Self::Protocol { .. } => true,
            // 503 is a service that is down, 429 may be about this one key (R2 takes one
            // write per second and key).
            Self::Throttled { said, .. } => said.status() != 429,
            Self::Damaged { .. }
            | Self::Conflict { .. }
            | Self::Rejected { .. }
            | Self::Unsupported { .. }
            | Self::BreakerOpen { .. }
            | Self::Configuration { .. }
            | Self::Upload { .. } => false,
        }
    }

    /// What an operator can do about it, as one sentence.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused { .. } => {
                Some("check the endpoint's host name and port, and the way there")
            }
            Self::Tls { .. } => Some(
                "name the file with your CA in the repository's settings or in SSL_CERT_FILE, and check the endpoint's host name",
            ),
            Self::Denied { .. } => Some(
                "check the key id, the secret and the key's permissions (list, read, write, delete); B2 also answers this when a storage or daily cap is reached",
            ),
            Self::NoBucket { .. } => Some("check the bucket's name, or create it"),
            Self::WrongRegion { .. } => Some("set the region that the bucket is in"),
            Self::Clock { .. } => Some("set this machine's clock, for example with NTP"),
            Self::Rejected { .. } => {
                Some("check the credentials' form, the bucket's name and the region")
            }
            Self::Protocol { .. } => {
                Some("check that the endpoint is an S3 server and not a web page or a proxy")
            }
            Self::Interrupted { .. }
            | Self::Timeout { .. }
            | Self::Throttled { .. }
            | Self::Server { .. }
            | Self::Damaged { .. }
            | Self::Conflict { .. }
            | Self::Unsupported { .. }
            | Self::BreakerOpen { .. }
            | Self::Configuration { .. }
            | Self::Upload { .. } => None,
        }
    }

    /// When the cloud wants to be asked again, or the breaker allows it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after, .. } => *retry_after,
            Self::BreakerOpen { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    /// The request that failed.
    pub fn at(&self) -> &At {
        match self {
            Self::Refused { at, .. }
            | Self::Interrupted { at, .. }
            | Self::Timeout { at, .. }
            | Self::Tls { at, .. }
            | Self::Denied { at, .. }
            | Self::NoBucket { at, .. }
            | Self::WrongRegion { at, .. }
            | Self::Throttled { at, .. }
            | Self::Server { at, .. }
            | Self::Damaged { at, .. }
            | Self::Conflict { at, .. }
            | Self::Rejected { at, .. }
            | Self::Unsupported { at, .. }
            | Self::Clock { at, .. }
            | Self::Protocol { at, .. }
            | Self::BreakerOpen { at, .. }
            | Self::Configuration { at, .. }
            | Self::Upload { at, .. } => at,
        }
    }

    /// The whole chain and the hint in one line: `message: cause. HINT: what to do`.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            let said = error.to_string();
            // Transport libraries repeat their cause in their own message.
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            source = error.source();
        }
        if let Some(hint) = self.hint() {
            text.push_str(". HINT: ");
            text.push_str(hint);
        }
        text
    }
}

impl At {
    pub fn new(
        repository: &RepositoryName,
        operation: &'static str,
        key: Option<&ObjectKey>,
    ) -> Self {
        Self(Box::new((repository.clone(), operation, key.cloned())))
    }

    pub fn repository(&self) -> &RepositoryName {
        &self.0.0
    }

    /// Of a bounded set: `put`, `head`, `get`, `list`, …
    pub fn operation(&self) -> &'static str {
        self.0.1
    }

    pub fn key(&self) -> Option<&ObjectKey> {
        self.0.2.as_ref()
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (repository, operation, key) = &*self.0;
        match key {
            Some(key) => write!(f, "{operation} `{key}` in `{repository}`"),
            None => write!(f, "{operation} in `{repository}`"),
        }
    }
}

/// Longest text of a cloud that is shown.
const SHOWN: usize = 300;

impl Said {
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        // An error page can be of any length and hold anything.
        let clean = |text: &str| -> String {
            text.chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(SHOWN)
                .collect()
        };
        Self(Box::new(Words {
            status,
            code: clean(code),
            message: clean(message.trim()),
        }))
    }

    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// S3's error code, `NoSuchBucket`; empty if there was none.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP {}", self.0.status)?;
        if !self.0.code.is_empty() {
            write!(f, " {}", self.0.code)?;
        }
        if !self.0.message.is_empty() {
            write!(f, ": `{}`", self.0.message)?;
        }
        Ok(())
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
