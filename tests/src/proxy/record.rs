//! What passed through a proxy.

use std::collections::BTreeMap;
use std::time::Instant;

use http::Method;

/// One request.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its method.
    pub method: Method,
    /// Key of the object, without the bucket.
    pub key: String,
    /// The query, as it was sent.
    pub query: String,
    /// Status of the cloud's own answer; nothing while there is none, or when
    /// the request never reached the cloud.
    pub status: Option<u16>,
    /// When it arrived.
    pub started: Instant,
    /// When the cloud's answer was there.
    pub answered: Option<Instant>,
}

impl Record {
    /// An object was written whole: a PUT of it, or the end of its parts.
    pub fn wrote_object(&self) -> bool {
        let whole = match self.method {
            Method::PUT => !self.query.contains("uploadId="),
            Method::POST => self.query.contains("uploadId="),
            _ => false,
        };
        whole
            && !self.key.is_empty()
            && self
                .status
                .is_some_and(|status| (200..300).contains(&status))
    }
}

/// How often each object was written.
pub(super) fn writes(records: &[Record]) -> BTreeMap<String, usize> {
    let mut writes = BTreeMap::new();
    for record in records.iter().filter(|record| record.wrote_object()) {
        *writes.entry(record.key.clone()).or_insert(0) += 1;
    }
    writes
}
