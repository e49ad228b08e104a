//! The mark in each bucket that says which catalog acted there last, and how far it was.
//!
//! Retention raises the catalog's epoch, writes it here, and only then deletes. A catalog
//! whose epoch is behind the mark was restored from the past: its rows speak of objects
//! that may be gone. A mark of another id belongs to another catalog.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use walferry_catalog::identity::Identity;
use walferry_layout::catalog_key;
use walferry_proof::{KeyPrefix, ObjectKey, md5};
use walferry_store::{Metadata, ReadRepository, Repository, StoreError};

/// A mark is some hundred bytes; what is larger is none.
const LARGEST: usize = 64 << 10;

const FORMAT: u32 = 1;

/// Content of `<prefix>walferry-catalog.json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogMark {
    pub identity: Identity,
    pub written_at: DateTime<Utc>,
}

#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("`{key}` is no mark of a catalog: {problem}")]
    Unreadable { key: ObjectKey, problem: String },
}

#[derive(Serialize, Deserialize)]
struct Json {
    format: u32,
    catalog: String,
    epoch: u64,
    written_at: DateTime<Utc>,
}

impl CatalogMark {
    /// The mark of a prefix; `None` if nobody ever wrote one.
    ///
    /// # Errors
    /// The repository's, and `Unreadable` for an object that is none of ours or of a newer
    /// program.
    pub async fn read(
        repository: &dyn ReadRepository,
        prefix: &KeyPrefix,
    ) -> Result<Option<Self>, MarkError> {
        let key = catalog_key(prefix);
        let Some(mut object) = repository.get(&key).await? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        while let Some(piece) = object.body.try_next().await? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > LARGEST {
                let problem = format!("it is larger than {LARGEST} bytes");
                return Err(MarkError::Unreadable { key, problem });
            }
        }
        Self::parse(&bytes)
            .map(Some)
            .map_err(|problem| MarkError::Unreadable { key, problem })
    }

    /// Writes the mark over the one that is there.
    ///
    /// After an error it is unknown which of the two is there. Both are fine: this one's
    /// epoch is committed in the catalog already, the older one's is behind it.
    ///
    /// # Errors
    /// The repository's.
    pub async fn write(
        &self,
        repository: &dyn Repository,
        prefix: &KeyPrefix,
    ) -> Result<(), StoreError> {
        let body = Bytes::from(self.to_json());
        let sum = md5(&body);
        repository
            .put(&catalog_key(prefix), body, &Metadata::new(), &sum)
            .await
    }

    fn to_json(&self) -> String {
        let json = Json {
            format: FORMAT,
            catalog: self.identity.id.to_string(),
            epoch: self.identity.epoch,
            written_at: self.written_at,
        };
        serde_json::to_string_pretty(&json).expect("text and numbers are JSON")
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let json: Json = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if json.format != FORMAT {
            return Err(format!("format {} is not {FORMAT}", json.format));
        }
        let id = Uuid::parse_str(&json.catalog).map_err(|error| error.to_string())?;
        Ok(Self {
            identity: Identity {
                id,
                epoch: json.epoch,
            },
            written_at: json.written_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written_and_nothing_else_is_a_mark() {
        let mark = CatalogMark {
            identity: Identity {
                id: Uuid::from_u128(7),
                epoch: 3,
            },
            written_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        };
        let json = mark.to_json();
        assert_eq!(CatalogMark::parse(json.as_bytes()), Ok(mark));
        for bad in [
            json.replace("\"format\": 1", "\"format\": 2"),
            json.replace("\"epoch\": 3", "\"epoch\": -3"),
            json.replace("0007", "000x"),
            json[1..].to_owned(),
        ] {
            assert_ne!(bad, json);
            assert!(CatalogMark::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
