//! WAL name ↔ object key. The only crate that spells keys.

pub mod base;
pub mod metadata;
mod owner;

use walferry_proof::{KeyPrefix, ObjectKey};
use walferry_wal::WalFile;

pub use owner::{OwnerMark, OwnerMarkError};

/// What every archived file's key ends in.
const SUFFIX: &str = ".gz";

/// `<prefix><name>.gz`: follows from the name alone, so a restore needs no catalog.
#[must_use]
pub fn object_key(prefix: &KeyPrefix, file: &WalFile) -> ObjectKey {
    key(prefix, &format!("{file}{SUFFIX}"))
}

/// The WAL file under `key`; `None` for everything else that may lie in the prefix.
#[must_use]
pub fn parse_key(prefix: &KeyPrefix, key: &ObjectKey) -> Option<WalFile> {
    key.as_str()
        .strip_prefix(prefix.as_str())?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

/// The owner mark of a prefix. Sorts after every WAL file, which begins with a digit or A to F.
#[must_use]
pub fn owner_key(prefix: &KeyPrefix) -> ObjectKey {
    key(prefix, "walferry-owner.json")
}

/// The mark that tells which catalog has seen this prefix last.
#[must_use]
pub fn catalog_key(prefix: &KeyPrefix) -> ObjectKey {
    key(prefix, "walferry-catalog.json")
}

fn key(prefix: &KeyPrefix, name: &str) -> ObjectKey {
    format!("{prefix}{name}")
        .parse()
        .expect("a prefix of 512 bytes and a WAL name are a key: both are plain ASCII")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walferry_wal::{Lsn, SegmentName, SegmentSize, TimelineId};

    use super::*;

    proptest! {
        #[test]
        fn no_two_files_share_a_key_and_each_key_names_its_file(
            timeline in 1_u32..,
            lsn: u64,
            offset: u32,
            folder in "[A-Za-z0-9_-]{1,20}",
        ) {
            let prefix: KeyPrefix = format!("{folder}/wal/").parse().unwrap();
            let other: KeyPrefix = format!("{folder}/wal/x/").parse().unwrap();
            let timeline = TimelineId::new(timeline).unwrap();
            let segment = SegmentName::from_lsn(timeline, Lsn::new(lsn), SegmentSize::DEFAULT);
            let files = [
                WalFile::History(timeline),
                WalFile::Segment(segment),
                WalFile::Partial(segment),
                WalFile::Label { segment, offset },
            ];
            for file in files {
                let key = object_key(&prefix, &file);
                prop_assert_eq!(parse_key(&prefix, &key), Some(file));
                prop_assert_eq!(parse_key(&other, &key), None);
                prop_assert_eq!(parse_key(&prefix, &object_key(&other, &file)), None);
            }
        }
    }

    #[test]
    fn keys_follow_from_names_and_back() {
        let prefix: KeyPrefix = "wal/".parse().unwrap();
        for name in [
            "0000000100000000000000A1",
            "0000000100000000000000A1.partial",
            "0000000100000000000000A1.00000028.backup",
            "00000002.history",
        ] {
            let file: WalFile = name.parse().unwrap();
            let key = object_key(&prefix, &file);
            assert_eq!(key.as_str(), format!("wal/{name}.gz"));
            assert_eq!(parse_key(&prefix, &key), Some(file));
        }
        for other in [
            "wal/x.gz",
            "wal/0000000100000000000000A1",
            "base/0000000100000000000000A1.gz",
        ] {
            assert_eq!(parse_key(&prefix, &other.parse().unwrap()), None, "{other}");
        }
        assert_eq!(parse_key(&prefix, &owner_key(&prefix)), None);
    }
}
