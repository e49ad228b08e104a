//! What the proxy can do to a request, and to which ones.

use std::time::Duration;

use http::Method;

/// One way for a cloud to misbehave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nobody listens: connections are refused, open ones are cut.
    Refuse,
    /// Bytes are taken and nothing ever comes back.
    Blackhole,
    /// This HTTP status with an S3 error body; the request does not reach the cloud.
    Status(u16),
    /// The same with another S3 error code, and with `Retry-After` in seconds.
    Says {
        /// The HTTP status.
        status: u16,
        /// The code in the S3 error body.
        code: &'static str,
        /// When to ask again.
        retry_after: Option<u32>,
    },
    /// The cloud is asked for a bucket that it does not have, and says so itself.
    BucketGone,
    /// The cloud is asked with a key that it does not know, and says so itself.
    KeyRevoked,
    /// The request reaches the cloud so much later, or when this fault ends.
    Latency(Duration),
    /// So many bytes a second, each way, for each connection.
    Bandwidth(u64),
    /// The connection is cut in the middle of the request's body.
    ResetMidBody,
    /// The cloud does what was asked, and the answer is lost.
    DropResponse,
    /// A PUT stores one flipped byte; every answer carries the right ETag.
    FlipStored,
    /// Every answer about an object carries the ETag of another one.
    WrongEtag,
    /// The connection ends in the middle of the answer's headers.
    TruncatedAnswer,
    /// Well for `up`, then cut off for `down`, again and again.
    Flapping {
        /// How long it works.
        up: Duration,
        /// How long it does not.
        down: Duration,
    },
}

/// A fault and the requests it strikes: all, unless narrowed.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) fault: Fault,
    method: Option<Method>,
    key_contains: Option<String>,
    times: Option<usize>,
}

impl Rule {
    /// Strikes every request.
    pub fn new(fault: Fault) -> Rule {
        Rule {
            fault,
            method: None,
            key_contains: None,
            times: None,
        }
    }

    /// Only requests of this method.
    pub fn on(mut self, method: &str) -> Rule {
        self.method = Some(method.parse().expect("an HTTP method"));
        self
    }

    /// Only requests whose key contains this text.
    pub fn for_keys_with(mut self, text: &str) -> Rule {
        self.key_contains = Some(text.into());
        self
    }

    /// Only the first so many of the requests that match.
    pub fn times(mut self, times: usize) -> Rule {
        self.times = Some(times);
        self
    }

    /// Whether this request is struck; counts it if the rule counts.
    pub(super) fn strikes(&mut self, method: &Method, key: &str) -> bool {
        let fits = self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self
                .key_contains
                .as_ref()
                .is_none_or(|text| key.contains(text.as_str()));
        if !fits || self.times == Some(0) {
            return false;
        }
        if let Some(times) = &mut self.times {
            *times -= 1;
        }
        true
    }
}

impl From<Fault> for Rule {
    fn from(fault: Fault) -> Rule {
        Rule::new(fault)
    }
}
