//! What S3 servers answer in XML. A server may be anybody, so this is fuzzed, and builds
//! without anything that speaks HTTP.

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// The answer to `ListObjectsV2`.
#[derive(Debug, Deserialize)]
#[serde(rename = "ListBucketResult")]
pub struct Listing {
    #[serde(rename = "Contents", default)]
    pub contents: Vec<Contents>,
    // Required, so that a web page is not taken for an empty bucket.
    #[serde(rename = "IsTruncated")]
    pub is_truncated: bool,
    #[serde(rename = "NextContinuationToken")]
    pub next_token: Option<String>,
}

/// One object of a [`Listing`]. Its key may be anything.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Contents {
    pub key: String,
    pub size: u64,
    pub last_modified: DateTime<Utc>,
    #[serde(rename = "ETag")]
    pub etag: Option<String>,
}

/// The answer to `ListObjectVersions`.
#[derive(Debug, Deserialize)]
#[serde(rename = "ListVersionsResult")]
pub struct Versions {
    #[serde(rename = "Version", default)]
    pub versions: Vec<Version>,
    #[serde(rename = "DeleteMarker", default)]
    pub markers: Vec<Version>,
    // Required, so that a web page is not taken for a list without entries.
    #[serde(rename = "IsTruncated")]
    pub is_truncated: bool,
    #[serde(rename = "NextKeyMarker")]
    pub next_key: Option<String>,
    #[serde(rename = "NextVersionIdMarker")]
    pub next_version: Option<String>,
}

/// One version, or delete marker, of [`Versions`].
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Version {
    pub key: String,
    pub version_id: String,
    #[serde(default)]
    pub is_latest: bool,
}

/// Why a server refuses, in its own words.
#[derive(Debug, Default, Deserialize)]
pub struct Words {
    #[serde(rename = "Code", default)]
    pub code: String,
    #[serde(rename = "Message", default)]
    pub message: String,
}

impl Listing {
    /// # Errors
    /// When `body` is no listing.
    pub fn parse(body: &[u8]) -> Result<Self, quick_xml::DeError> {
        quick_xml::de::from_reader(body)
    }
}

impl Versions {
    /// # Errors
    /// When `body` is no list of versions.
    pub fn parse(body: &[u8]) -> Result<Self, quick_xml::DeError> {
        quick_xml::de::from_reader(body)
    }

    fn all(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().chain(&self.markers)
    }

    /// Those of exactly this key: a prefix is not a key, and `…01.gz` also lists `…01.gz.bak`.
    pub fn exactly(&self, key: &str) -> Vec<Version> {
        self.all()
            .filter(|entry| entry.key == key)
            .cloned()
            .collect()
    }

    /// Whether there are other keys. They are sorted and the exact one comes first, so
    /// others mean that it is done.
    pub fn others(&self, key: &str) -> bool {
        self.all().any(|entry| entry.key != key)
    }
}

impl Words {
    /// Of anything: an error page of a proxy is its own message.
    pub fn parse(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let words = is_error_body(body)
            .then(|| quick_xml::de::from_str::<Self>(&text).ok())
            .flatten();
        words.unwrap_or_else(|| Self {
            code: String::new(),
            // Better its first words than nothing.
            message: text.into_owned(),
        })
    }
}

/// Whether a successful status carries an error all the same.
pub fn is_error_body(body: &[u8]) -> bool {
    let head = &body[..body.len().min(512)];
    head.windows(7)
        .any(|window| window == b"<Error>" || window == b"<Error ")
}
