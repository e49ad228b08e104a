//! `global/pg_control`: which cluster a data directory is.

use crate::SystemId;

/// What stays at one place in every version's `ControlFileData`, little-endian.
///
/// The rest moves between versions and is not read, nor is the checksum at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlFile {
    pub system_id: SystemId,
    /// `pg_control_version`: 1300 for PostgreSQL 13 to 16, 1700 for 17, 1800 for 18.
    pub version: u32,
}

/// The file is no `global/pg_control`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error("`pg_control` has {0} bytes, too few. HINT: is this a data directory?")]
    Short(usize),
    #[error("`pg_control` names system 0: it was never written, or is damaged")]
    NoSystem,
    #[error("`pg_control` names version 0: it is damaged")]
    NoVersion,
    /// PostgreSQL tells it by the same sign.
    #[error("`pg_control` was written by a machine of another byte order")]
    ByteOrder,
}

impl ControlFile {
    /// Bytes from the file's beginning that are read.
    pub const SIZE: usize = 12;

    /// Reads the content of `global/pg_control`, or at least its first
    /// [`ControlFile::SIZE`] bytes.
    ///
    /// # Errors
    /// [`ControlError`]. An unknown version is none: these fields never move.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlError> {
        let (system, rest) = bytes
            .split_first_chunk()
            .ok_or(ControlError::Short(bytes.len()))?;
        let version = rest.first_chunk().ok_or(ControlError::Short(bytes.len()))?;
        let system = u64::from_le_bytes(*system);
        let version = u32::from_le_bytes(*version);
        match (system, version) {
            (0, _) => Err(ControlError::NoSystem),
            (_, 0) => Err(ControlError::NoVersion),
            (_, version) if version % 0x1_0000 == 0 => Err(ControlError::ByteOrder),
            _ => Ok(Self {
                system_id: SystemId::new(system),
                version,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(system: u64, version: u32) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        bytes[..8].copy_from_slice(&system.to_le_bytes());
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes
    }

    #[test]
    fn a_control_file_that_cannot_be_is_refused_and_says_why() {
        let cases = [
            (file(7, 1300)[..11].to_vec(), ControlError::Short(11)),
            (Vec::new(), ControlError::Short(0)),
            (file(0, 1300), ControlError::NoSystem),
            (file(7, 0), ControlError::NoVersion),
            (file(7, 1300_u32.swap_bytes()), ControlError::ByteOrder),
        ];
        for (bytes, error) in cases {
            assert_eq!(ControlFile::parse(&bytes), Err(error));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = ControlFile::parse(&bytes);
        }

        #[test]
        fn what_a_control_file_says_is_read(system in 1_u64.., version in 1_u32..0x1_0000) {
            let found = ControlFile::parse(&file(system, version)).unwrap();
            prop_assert_eq!((found.system_id.get(), found.version), (system, version));
        }
    }
}
