//! What each object says about itself: all that a rebuild of the catalog needs.

use std::{collections::BTreeMap, str::FromStr};

use chrono::{DateTime, Utc};
use walferry_proof::Sha256;
use walferry_wal::SystemId;

pub const SHA256: &str = "wf-sha256";
pub const SIZE: &str = "wf-size";
pub const CLUSTER: &str = "wf-cluster";
pub const SYSTEM_ID: &str = "wf-system-id";
pub const ENCODER: &str = "wf-encoder";
pub const LEVEL: &str = "wf-level";
pub const MTIME: &str = "wf-mtime";

/// The metadata of an archived file, S3's `x-amz-meta-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// Of the uncompressed file.
    pub sha256: Sha256,
    /// Of the uncompressed file, in bytes.
    pub size: u64,
    pub cluster: String,
    pub system_id: SystemId,
    pub encoder: String,
    pub level: u8,
    /// The file's mtime at intake, about the time the segment was closed; milliseconds are kept.
    pub mtime: DateTime<Utc>,
}

/// The object does not say what it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    #[error("the object has no `{0}` in its metadata")]
    Missing(&'static str),
    #[error("the object's `{key}` is `{value}`, which cannot be read")]
    Invalid { key: &'static str, value: String },
}

impl ObjectMetadata {
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        [
            (SHA256, self.sha256.to_string()),
            (SIZE, self.size.to_string()),
            (CLUSTER, self.cluster.clone()),
            (SYSTEM_ID, self.system_id.to_string()),
            (ENCODER, self.encoder.clone()),
            (LEVEL, self.level.to_string()),
            (MTIME, self.mtime.timestamp_millis().to_string()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }

    /// Reads what a repository reports.
    ///
    /// # Errors
    /// When a key is missing or unreadable: somebody else wrote the object.
    pub fn from_map(map: &BTreeMap<String, String>) -> Result<Self, MetadataError> {
        Ok(Self {
            sha256: read(map, SHA256)?,
            size: read(map, SIZE)?,
            cluster: read(map, CLUSTER)?,
            system_id: read(map, SYSTEM_ID)?,
            encoder: read(map, ENCODER)?,
            level: read(map, LEVEL)?,
            mtime: DateTime::from_timestamp_millis(read(map, MTIME)?).ok_or_else(|| {
                MetadataError::Invalid {
                    key: MTIME,
                    value: map.get(MTIME).cloned().unwrap_or_default(),
                }
            })?,
        })
    }
}

fn read<T: FromStr>(map: &BTreeMap<String, String>, key: &'static str) -> Result<T, MetadataError> {
    let value = map.get(key).ok_or(MetadataError::Missing(key))?;
    value.parse().map_err(|_| MetadataError::Invalid {
        key,
        value: value.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_survives_the_cloud_and_missing_keys_are_named() {
        let metadata = ObjectMetadata {
            sha256: walferry_proof::sha256(b"x"),
            size: 1,
            cluster: "main".into(),
            system_id: SystemId::new(u64::MAX),
            encoder: "libdeflate".into(),
            level: 9,
            mtime: DateTime::from_timestamp_millis(1_762_198_200_123).unwrap(),
        };
        let map = metadata.to_map();
        assert_eq!(ObjectMetadata::from_map(&map).unwrap(), metadata);
        for key in map.keys() {
            let mut less = map.clone();
            less.remove(key);
            let error = ObjectMetadata::from_map(&less).unwrap_err();
            assert!(error.to_string().contains(key.as_str()), "{error}");
        }
    }
}
