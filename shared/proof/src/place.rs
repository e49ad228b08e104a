//! Where objects are: repositories, key prefixes, keys. Parsed once, at the edge.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest key that S3 accepts, in bytes.
const MAX_KEY: usize = 1024;

/// Longest prefix: leaves room for any file name below it.
const MAX_PREFIX: usize = 512;

/// Name of a repository as the operator wrote it, `r2` or `b2`: 1 to 32 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

/// Folder of a cluster inside a bucket, `wal/`: ends in `/`, has no leading one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPrefix(String);

/// Full key of an object: printable ASCII, at most 1024 bytes, no `..`, no leading `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectKey(String);

/// Text that names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    #[error("`{text}` is not a repository name: 1 to 32 of a-z, 0-9 and `-`")]
    RepositoryName { text: String },
    #[error("`{text}` is not a key prefix: folders of A-Z a-z 0-9 . _ -, each followed by `/`")]
    KeyPrefix { text: String },
    #[error(
        "`{text}` is not an object key: printable ASCII, at most 1024 bytes, no `..`, no leading `/`"
    )]
    ObjectKey { text: String },
}

impl FromStr for RepositoryName {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if (1..=32).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PlaceError::RepositoryName {
                text: text.to_owned(),
            })
        }
    }
}

impl FromStr for KeyPrefix {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let plain =
            |byte: u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let folder = |name: &str| {
            !name.is_empty() && name != "." && !name.contains("..") && name.bytes().all(plain)
        };
        match text.strip_suffix('/') {
            Some(folders) if text.len() <= MAX_PREFIX && folders.split('/').all(folder) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(PlaceError::KeyPrefix {
                text: text.to_owned(),
            }),
        }
    }
}

impl FromStr for ObjectKey {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let good = (1..=MAX_KEY).contains(&text.len())
            && !text.starts_with('/')
            && !text.contains("..")
            && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if good {
            Ok(Self(text.to_owned()))
        } else {
            Err(PlaceError::ObjectKey {
                text: text.to_owned(),
            })
        }
    }
}

macro_rules! text {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = PlaceError;

            fn try_from(text: String) -> Result<Self, PlaceError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

text!(RepositoryName);
text!(KeyPrefix);
text!(ObjectKey);

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr + fmt::Display>(good: &[&str], bad: &[&str])
    where
        T::Err: fmt::Debug,
    {
        for text in good {
            let name: T = text.parse().expect(text);
            assert_eq!(name.to_string(), *text);
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "`{text}` was accepted");
        }
    }

    #[test]
    fn repository_names_are_short_and_lower_case() {
        let long = "a".repeat(33);
        check::<RepositoryName>(
            &["r2", "b2", "on-site-1", &long[1..]],
            &["", "R2", "b_2", "b2/", " b2", "ü", &long],
        );
    }

    #[test]
    fn prefixes_are_folders_that_end_in_a_slash() {
        check::<KeyPrefix>(
            &["wal/", "prod/main.1/wal_2/"],
            &[
                "", "/", "wal", "/wal/", "wal//", "../", "wal/../", "a..b/", "./", "w l/", "wäl/",
            ],
        );
    }

    #[test]
    fn keys_are_printable_and_never_climb() {
        let long = "k".repeat(1025);
        check::<ObjectKey>(
            &["wal/000000010000000000000001.gz", "a b", &long[1..]],
            &[
                "", "/wal/x", "wal/../x", "a..b", "x\n", "ä", "\u{7f}", &long,
            ],
        );
    }
}
