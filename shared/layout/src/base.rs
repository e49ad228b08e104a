//! Where a base backup lies, and the object that makes it complete.
//!
//! ```text
//! base/20261103T193000Z/begun.json                who takes it; written first
//! base/20261103T193000Z/base.tar/00000.gz         slices of the tar archive, each a gzip file
//! base/20261103T193000Z/16400.tar/00000.gz        the same for each tablespace, by its OID
//! base/20261103T193000Z/backup_manifest.gz        PostgreSQL's own manifest
//! base/20261103T193000Z/backup.json               written last: it is complete
//! base/20261103T193000Z/keep.json                 `walferry backups keep`
//! ```
//!
//! Slices are cut anywhere, so `cat base.tar/*.gz | gunzip | tar x` restores without walferry.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use walferry_proof::{KeyPrefix, Md5, ObjectKey, Sha256};
use walferry_wal::{Lsn, SegmentName, SegmentSize, SystemId, TimelineId};

const FORMAT: u32 = 1;
const LABEL: &str = "%Y%m%dT%H%M%SZ";

/// Name of a base backup: when it began, `20261103T193000Z`, to the second and in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BaseLabel(DateTime<Utc>);

/// Text that names no base backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the label of a base backup, which reads like 20261103T193000Z")]
pub struct BaseLabelError(String);

/// One tar archive of a base: the data directory or a tablespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TarArchive {
    /// The data directory: `base.tar`.
    Base,
    /// A tablespace by its OID: `16400.tar`.
    Tablespace(u32),
}

/// One slice of an archive, in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    pub archive: TarArchive,
    /// Counts from 0 in each archive.
    pub number: u32,
    /// Of the gzip file, in bytes.
    pub stored_size: u64,
    /// Of the gzip file.
    pub stored_md5: Md5,
    /// Of the piece of the tar archive, in bytes.
    pub size: u64,
    /// Of the piece of the tar archive.
    pub sha256: Sha256,
}

/// A tablespace that is not the data directory's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    pub oid: u32,
    /// Where it lay on the server.
    pub path: String,
}

/// `backup.json`: a base that is complete where this lies. The same in every repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompleteBase {
    /// Version of this format: 1.
    pub format: u32,
    pub label: BaseLabel,
    /// The cluster's name; for people.
    pub cluster: String,
    pub system_id: SystemId,
    pub segment_size: SegmentSize,
    /// As `server_version_num` has it: 150018.
    pub server_version: u32,
    /// A standby's base has to be treated differently when it is restored.
    pub from_standby: bool,
    pub start_lsn: Lsn,
    pub start_timeline: TimelineId,
    /// The end of the WAL without which the base is not consistent.
    pub stop_lsn: Lsn,
    pub stop_timeline: TimelineId,
    /// The server's clock when the base began.
    pub started_at: DateTime<Utc>,
    /// The server's clock when the base ended: any later moment can be recovered to.
    pub stopped_at: DateTime<Utc>,
    pub tablespaces: Vec<Tablespace>,
    /// In the order of their archives and numbers.
    pub slices: Vec<Slice>,
    /// Of `backup_manifest`, unpacked.
    pub manifest_sha256: Sha256,
}

/// `begun.json`: a base that is being taken, or was interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunBase {
    /// Version of this format: 1.
    pub format: u32,
    pub label: BaseLabel,
    pub cluster: String,
    pub system_id: SystemId,
    pub started_at: DateTime<Utc>,
}

/// `keep.json`: retention leaves the base and its WAL alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepMark {
    /// `None`: for ever.
    pub until: Option<DateTime<Utc>>,
}

/// What lies under the prefix of base backups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BaseObject {
    Begun,
    Slice(TarArchive, u32),
    Manifest,
    Complete,
    Keep,
}

/// An object that this version does not understand.
#[derive(Debug, thiserror::Error)]
pub enum BaseJsonError {
    #[error("it is not the JSON of a base backup")]
    Json(#[source] serde_json::Error),
    #[error("it has format {0}, this version understands 1")]
    Format(u32),
}

/// The folder of a cluster's base backups: `base/` beside `wal/`, otherwise `base/` in the
/// prefix (`sales/` has `sales/base/`).
#[must_use]
pub fn base_prefix(prefix: &KeyPrefix) -> KeyPrefix {
    let text = prefix.as_str();
    let parent = match text.strip_suffix("wal/") {
        Some(parent) if parent.is_empty() || parent.ends_with('/') => parent,
        _ => text,
    };
    format!("{parent}base/")
        .parse()
        .expect("a prefix without its last folder, and one more, is one")
}

/// The folder of one base.
#[must_use]
pub fn base_folder(prefix: &KeyPrefix, label: BaseLabel) -> KeyPrefix {
    format!("{}{label}/", base_prefix(prefix))
        .parse()
        .expect("a prefix and a label are one")
}

/// The key of one of a base's objects; `prefix` is the cluster's, `wal/`.
#[must_use]
pub fn base_key(prefix: &KeyPrefix, label: BaseLabel, object: &BaseObject) -> ObjectKey {
    let folder = base_folder(prefix, label);
    let name = match object {
        BaseObject::Begun => "begun.json".to_owned(),
        BaseObject::Slice(archive, number) => format!("{archive}/{number:05}.gz"),
        BaseObject::Manifest => "backup_manifest.gz".to_owned(),
        BaseObject::Complete => "backup.json".to_owned(),
        BaseObject::Keep => "keep.json".to_owned(),
    };
    crate::key(&folder, &name)
}

/// Whose object lies under `key`; `None` for everything else.
#[must_use]
pub fn parse_base_key(prefix: &KeyPrefix, key: &ObjectKey) -> Option<(BaseLabel, BaseObject)> {
    let rest = key.as_str().strip_prefix(base_prefix(prefix).as_str())?;
    let (label, name) = rest.split_once('/')?;
    let object = match name {
        "begun.json" => BaseObject::Begun,
        "backup_manifest.gz" => BaseObject::Manifest,
        "backup.json" => BaseObject::Complete,
        "keep.json" => BaseObject::Keep,
        _ => {
            let (archive, number) = name.strip_suffix(".gz")?.split_once('/')?;
            BaseObject::Slice(archive.parse().ok()?, number.parse().ok()?)
        }
    };
    let label = label.parse().ok()?;
    // One spelling: `1.gz` is not `00001.gz`.
    (base_key(prefix, label, &object) == *key).then_some((label, object))
}

impl BaseLabel {
    /// Of a base that began at `time`; fractions of a second are cut off.
    #[must_use]
    pub fn at(time: DateTime<Utc>) -> Self {
        Self(DateTime::from_timestamp(time.timestamp(), 0).unwrap_or(time))
    }

    /// When it began, to the second.
    #[must_use]
    pub fn time(self) -> DateTime<Utc> {
        self.0
    }
}

impl CompleteBase {
    /// The version that this build writes.
    pub const FORMAT: u32 = FORMAT;

    /// The segment in which recovery from it begins.
    #[must_use]
    pub fn start_segment(&self) -> SegmentName {
        SegmentName::from_lsn(self.start_timeline, self.start_lsn, self.segment_size)
    }

    /// The last segment without which it is not consistent: that of the byte before its stop.
    #[must_use]
    pub fn stop_segment(&self) -> SegmentName {
        let last = Lsn::new(self.stop_lsn.get().saturating_sub(1));
        SegmentName::from_lsn(self.stop_timeline, last, self.segment_size)
    }

    /// Bytes of its tar archives.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.slices.iter().map(|slice| slice.size).sum()
    }

    /// Bytes in each repository, without the manifest.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.slices.iter().map(|slice| slice.stored_size).sum()
    }
}

macro_rules! json {
    ($name:ty) => {
        impl $name {
            /// The object's bytes.
            #[must_use]
            pub fn to_json(&self) -> Vec<u8> {
                serde_json::to_vec_pretty(self).expect("numbers and strings are JSON")
            }
        }
    };
}

json!(CompleteBase);
json!(BegunBase);
json!(KeepMark);

impl CompleteBase {
    /// Reads the object's bytes.
    ///
    /// # Errors
    /// [`BaseJsonError`]: the base must not be used by this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, BaseJsonError> {
        let base: Self = serde_json::from_slice(bytes).map_err(BaseJsonError::Json)?;
        match base.format {
            FORMAT => Ok(base),
            other => Err(BaseJsonError::Format(other)),
        }
    }
}

impl BegunBase {
    /// As [`CompleteBase::parse`].
    ///
    /// # Errors
    /// [`BaseJsonError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BaseJsonError> {
        let base: Self = serde_json::from_slice(bytes).map_err(BaseJsonError::Json)?;
        match base.format {
            FORMAT => Ok(base),
            other => Err(BaseJsonError::Format(other)),
        }
    }
}

impl KeepMark {
    /// Reads the object's bytes.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BaseJsonError> {
        serde_json::from_slice(bytes).map_err(BaseJsonError::Json)
    }
}

impl fmt::Display for BaseLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.format(LABEL).to_string())
    }
}

impl FromStr for BaseLabel {
    type Err = BaseLabelError;

    fn from_str(text: &str) -> Result<Self, BaseLabelError> {
        let time = NaiveDateTime::parse_from_str(text, LABEL).ok();
        time.map(|time| Self(time.and_utc()))
            .filter(|label| label.to_string() == text)
            .ok_or_else(|| BaseLabelError(text.escape_debug().to_string()))
    }
}

impl TryFrom<String> for BaseLabel {
    type Error = BaseLabelError;

    fn try_from(text: String) -> Result<Self, BaseLabelError> {
        text.parse()
    }
}

impl From<BaseLabel> for String {
    fn from(label: BaseLabel) -> String {
        label.to_string()
    }
}

impl fmt::Display for TarArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base => f.write_str("base.tar"),
            Self::Tablespace(oid) => write!(f, "{oid}.tar"),
        }
    }
}

impl FromStr for TarArchive {
    type Err = BaseLabelError;

    fn from_str(text: &str) -> Result<Self, BaseLabelError> {
        let archive = match text.strip_suffix(".tar") {
            Some("base") => Some(Self::Base),
            Some(oid) => oid.parse().ok().map(Self::Tablespace),
            None => None,
        };
        archive
            .filter(|archive| archive.to_string() == text)
            .ok_or_else(|| BaseLabelError(text.escape_debug().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn base_lies_beside_wal() {
        for (prefix, base) in [
            ("wal/", "base/"),
            ("sales/wal/", "sales/base/"),
            ("sales/", "sales/base/"),
            ("xwal/", "xwal/base/"),
        ] {
            assert_eq!(base_prefix(&prefix.parse().unwrap()).as_str(), base);
        }
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for bad in [
            "",
            "20261103T193000",
            "2026113T193000Z",
            "20261303T193000Z",
            "../x",
        ] {
            assert!(bad.parse::<BaseLabel>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn each_key_names_its_object(seconds in 0_i64..4_000_000_000, oid: u32, number: u32) {
            let prefix: KeyPrefix = "wal/".parse().unwrap();
            let label = BaseLabel::at(DateTime::from_timestamp(seconds, 5).unwrap());
            prop_assert_eq!(label.to_string().parse::<BaseLabel>().unwrap(), label);
            for object in [
                BaseObject::Begun,
                BaseObject::Slice(TarArchive::Base, number),
                BaseObject::Slice(TarArchive::Tablespace(oid), number),
                BaseObject::Manifest,
                BaseObject::Complete,
                BaseObject::Keep,
            ] {
                let key = base_key(&prefix, label, &object);
                prop_assert_eq!(parse_base_key(&prefix, &key), Some((label, object)));
            }
        }
    }
}
