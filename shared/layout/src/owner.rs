use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use walferry_wal::{SegmentSize, SystemId};

/// The content of the owner mark: whose WAL lies in this prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerMark {
    /// Version of this format: 1.
    pub format: u32,
    /// The cluster's name when the mark was set; for people.
    pub cluster: String,
    /// The database system: this decides.
    pub system_id: SystemId,
    /// Segment size in bytes.
    pub segment_size: SegmentSize,
    /// When the mark was set.
    pub created_at: DateTime<Utc>,
}

/// The object is no owner mark that this version understands.
#[derive(Debug, thiserror::Error)]
pub enum OwnerMarkError {
    #[error("it is not the JSON of an owner mark")]
    Json(#[source] serde_json::Error),
    #[error("it has format {0}, this version understands 1")]
    Format(u32),
}

const FORMAT: u32 = 1;

impl OwnerMark {
    #[must_use]
    pub fn new(
        cluster: String,
        system_id: SystemId,
        segment_size: SegmentSize,
        created_at: DateTime<Utc>,
    ) -> Self {
        Self {
            format: FORMAT,
            cluster,
            system_id,
            segment_size,
            created_at,
        }
    }

    /// The object's bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("numbers and strings are JSON")
    }

    /// Reads the object's bytes.
    ///
    /// # Errors
    /// [`OwnerMarkError`]: then the prefix must not be written to.
    pub fn parse(bytes: &[u8]) -> Result<Self, OwnerMarkError> {
        let mark: Self = serde_json::from_slice(bytes).map_err(OwnerMarkError::Json)?;
        if mark.format == FORMAT {
            Ok(mark)
        } else {
            Err(OwnerMarkError::Format(mark.format))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_survives_and_a_newer_one_is_refused() {
        let mark = OwnerMark::new(
            "main".into(),
            SystemId::new(7),
            SegmentSize::DEFAULT,
            Utc::now(),
        );
        assert_eq!(OwnerMark::parse(&mark.to_json()).unwrap(), mark);
        let newer = OwnerMark { format: 2, ..mark };
        assert!(matches!(
            OwnerMark::parse(&newer.to_json()),
            Err(OwnerMarkError::Format(2))
        ));
        assert!(OwnerMark::parse(b"{}").is_err());
    }
}
