//! `Verified`: the fact that a repository holds what was sent to it.

use std::fmt;
use std::str::FromStr;

use crate::{Md5, ObjectKey, RepositoryName, Sha256};

/// How much a repository has to show before it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerifyMode {
    /// The size, ETag and metadata that the cloud reports. It does not see a byte that
    /// flipped in the cloud after the ETag was computed.
    Head,
    /// The object is downloaded and unpacked again.
    ReadBack,
}

/// What we sent: the only thing an object may be compared against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Of the uncompressed file.
    pub sha256: Sha256,
    pub plain_size: u64,
    pub stored_size: u64,
    /// Of the bytes sent.
    pub stored_md5: Md5,
    pub etag: ExpectedEtag,
}

/// The ETag that an S3 server computes for the bytes sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectedEtag {
    /// One PUT: the MD5 of the body.
    Single(Md5),
    /// A multipart upload: MD5 of the parts' MD5s, `-`, number of parts; without quotes.
    Multipart { etag: String },
}

/// What a repository itself reports about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    pub repository: RepositoryName,
    pub key: ObjectKey,
    pub evidence: Evidence,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    Head {
        size: u64,
        etag: Option<String>,
        sha256_metadata: Option<Sha256>,
    },
    ReadBack {
        stored_size: u64,
        stored_md5: Md5,
        plain_sha256: Sha256,
        plain_size: u64,
    },
}

/// Proof that a repository holds a file. Made only by comparing.
///
/// The fields are private: a value exists only if `compare` or `adopt` found the content
/// to be the expected one, so a function that takes a `Verified` need not look again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Verified {
    repository: RepositoryName,
    key: ObjectKey,
    sha256: Sha256,
    stored_size: u64,
    mode: VerifyMode,
}

/// Why an object is not what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error("`{key}` in `{repository}` has {reported} bytes, {expected} were sent")]
    Size {
        repository: RepositoryName,
        key: ObjectKey,
        expected: u64,
        reported: u64,
    },
    #[error("`{key}` in `{repository}` has etag `{reported}`, `{expected}` was sent")]
    Etag {
        repository: RepositoryName,
        key: ObjectKey,
        expected: String,
        reported: String,
    },
    /// The repository's ETags say nothing about content: read the object back instead.
    #[error("`{repository}` reports etag `{etag}` for `{key}`, which is no MD5")]
    EtagNotMd5 {
        repository: RepositoryName,
        key: ObjectKey,
        /// Empty when none was reported.
        etag: String,
    },
    #[error("`{key}` in `{repository}` holds content {reported}, {expected} was sent")]
    Sha256 {
        repository: RepositoryName,
        key: ObjectKey,
        expected: Sha256,
        reported: Sha256,
    },
    /// Somebody else wrote it, or metadata was lost: read the object back instead.
    #[error("`{key}` in `{repository}` carries no SHA-256 in its metadata")]
    NoSha256 {
        repository: RepositoryName,
        key: ObjectKey,
    },
    #[error("`{key}` in `{repository}` has stored bytes of MD5 {reported}, {expected} was sent")]
    StoredMd5 {
        repository: RepositoryName,
        key: ObjectKey,
        expected: Md5,
        reported: Md5,
    },
    #[error("`{key}` in `{repository}` unpacks to {reported} bytes, {expected} were packed")]
    PlainSize {
        repository: RepositoryName,
        key: ObjectKey,
        expected: u64,
        reported: u64,
    },
    /// A HEAD was offered where the object has to be read back.
    #[error("`{key}` in `{repository}` was not read back")]
    NotReadBack {
        repository: RepositoryName,
        key: ObjectKey,
    },
}

/// Text that names no verify mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a verify mode: `head` or `read-back`")]
pub struct UnknownVerifyMode {
    text: String,
}

impl Verified {
    /// Compares what was sent with what the repository reports about it.
    ///
    /// Evidence may be stronger than `mode` asks for, never weaker.
    ///
    /// # Errors
    /// The first difference. `Mismatch::needs_read_back` tells whether reading the object
    /// could still prove it.
    pub fn compare(
        expected: &Expected,
        reported: Reported,
        mode: VerifyMode,
    ) -> Result<Self, Mismatch> {
        let stored_size = match &reported.evidence {
            Evidence::Head { .. } if mode == VerifyMode::ReadBack => {
                return Err(Mismatch::NotReadBack {
                    repository: reported.repository,
                    key: reported.key,
                });
            }
            Evidence::Head {
                size,
                etag,
                sha256_metadata,
            } => {
                reported.check_size(expected.stored_size, *size)?;
                reported.check_sha256(expected.sha256, *sha256_metadata)?;
                reported.check_etag(&expected.etag, etag.as_deref())?;
                *size
            }
            Evidence::ReadBack {
                stored_size,
                stored_md5,
                plain_sha256,
                plain_size,
            } => {
                reported.check_sha256(expected.sha256, Some(*plain_sha256))?;
                reported.check_plain_size(expected.plain_size, *plain_size)?;
                reported.check_size(expected.stored_size, *stored_size)?;
                if *stored_md5 != expected.stored_md5 {
                    return Err(Mismatch::StoredMd5 {
                        repository: reported.repository.clone(),
                        key: reported.key.clone(),
                        expected: expected.stored_md5,
                        reported: *stored_md5,
                    });
                }
                *stored_size
            }
        };
        Ok(reported.into_verified(expected.sha256, stored_size))
    }

    /// Accepts an object that somebody else packed: other bytes, same content.
    ///
    /// "Same content" is the SHA-256 of the uncompressed file, so only an object that was
    /// read back can be adopted.
    ///
    /// # Errors
    /// When it does not unpack to that content, or was not read back.
    pub fn adopt(sha256: Sha256, plain_size: u64, reported: Reported) -> Result<Self, Mismatch> {
        let Evidence::ReadBack {
            stored_size,
            plain_sha256,
            plain_size: unpacked,
            ..
        } = reported.evidence
        else {
            return Err(Mismatch::NotReadBack {
                repository: reported.repository,
                key: reported.key,
            });
        };
        reported.check_sha256(sha256, Some(plain_sha256))?;
        reported.check_plain_size(plain_size, unpacked)?;
        Ok(reported.into_verified(sha256, stored_size))
    }

    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }

    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// Of the uncompressed file.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// Bytes that the repository reports to hold.
    pub fn stored_size(&self) -> u64 {
        self.stored_size
    }

    /// How it was proven, which may be more than was asked for.
    pub fn mode(&self) -> VerifyMode {
        self.mode
    }
}

impl Mismatch {
    /// Whether the object may be right and only reading it back can tell.
    pub fn needs_read_back(&self) -> bool {
        match self {
            Self::EtagNotMd5 { .. } | Self::NoSha256 { .. } | Self::NotReadBack { .. } => true,
            Self::Size { .. }
            | Self::Etag { .. }
            | Self::Sha256 { .. }
            | Self::StoredMd5 { .. }
            | Self::PlainSize { .. } => false,
        }
    }
}

impl Reported {
    fn check_size(&self, expected: u64, size: u64) -> Result<(), Mismatch> {
        if size == expected {
            return Ok(());
        }
        Err(Mismatch::Size {
            repository: self.repository.clone(),
            key: self.key.clone(),
            expected,
            reported: size,
        })
    }

    fn check_plain_size(&self, expected: u64, size: u64) -> Result<(), Mismatch> {
        if size == expected {
            return Ok(());
        }
        Err(Mismatch::PlainSize {
            repository: self.repository.clone(),
            key: self.key.clone(),
            expected,
            reported: size,
        })
    }

    fn check_sha256(&self, expected: Sha256, sha256: Option<Sha256>) -> Result<(), Mismatch> {
        match sha256 {
            Some(sha256) if sha256 == expected => Ok(()),
            Some(sha256) => Err(Mismatch::Sha256 {
                repository: self.repository.clone(),
                key: self.key.clone(),
                expected,
                reported: sha256,
            }),
            None => Err(Mismatch::NoSha256 {
                repository: self.repository.clone(),
                key: self.key.clone(),
            }),
        }
    }

    fn check_etag(&self, expected: &ExpectedEtag, etag: Option<&str>) -> Result<(), Mismatch> {
        let etag = etag.unwrap_or_default().trim_matches('"');
        let (expected, says_content) = match expected {
            ExpectedEtag::Single(md5) => (md5.to_string(), etag.parse::<Md5>().is_ok()),
            ExpectedEtag::Multipart { etag: expected } => {
                let says_content = etag.split_once('-').is_some_and(|(md5, parts)| {
                    md5.parse::<Md5>().is_ok() && parts.parse::<u32>().is_ok()
                });
                (expected.trim_matches('"').to_owned(), says_content)
            }
        };
        if !says_content {
            return Err(Mismatch::EtagNotMd5 {
                repository: self.repository.clone(),
                key: self.key.clone(),
                etag: etag.to_owned(),
            });
        }
        if etag != expected {
            return Err(Mismatch::Etag {
                repository: self.repository.clone(),
                key: self.key.clone(),
                expected,
                reported: etag.to_owned(),
            });
        }
        Ok(())
    }

    fn into_verified(self, sha256: Sha256, stored_size: u64) -> Verified {
        Verified {
            repository: self.repository,
            key: self.key,
            sha256,
            stored_size,
            mode: match self.evidence {
                Evidence::Head { .. } => VerifyMode::Head,
                Evidence::ReadBack { .. } => VerifyMode::ReadBack,
            },
        }
    }
}

impl VerifyMode {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Head => "head",
            Self::ReadBack => "read-back",
        }
    }
}

impl fmt::Display for VerifyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for VerifyMode {
    type Err = UnknownVerifyMode;

    fn from_str(text: &str) -> Result<Self, UnknownVerifyMode> {
        match text {
            "head" => Ok(Self::Head),
            "read-back" => Ok(Self::ReadBack),
            _ => Err(UnknownVerifyMode {
                text: text.to_owned(),
            }),
        }
    }
}
