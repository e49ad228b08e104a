use std::{fmt, str::FromStr};

use crate::{NameError, serde_as_text};

/// A position in WAL, in bytes. Written as PostgreSQL does: `16/B374D848`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let half = |half: &str| {
            let digit = |byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
            let good = (1..=8).contains(&half.len()) && half.bytes().all(digit);
            good.then(|| u64::from_str_radix(half, 16).ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(high, low)| Some(Self(half(high)? << 32 | half(low)?)))
            .ok_or_else(|| NameError::of(text))
    }
}

serde_as_text!(Lsn);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_two_upper_case_halves_are_a_position() {
        for bad in [
            "",
            "/",
            "0/",
            "/0",
            "0/g",
            "0/b374d848",
            "0/1/2",
            "+0/1",
            "0/100000000",
            "0 /1",
        ] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad:?}");
        }
        // Version 19 pads the second half.
        assert_eq!(
            "0/0A000028".parse::<Lsn>().unwrap().to_string(),
            "0/A000028"
        );
    }

    proptest! {
        #[test]
        fn a_position_is_read_as_it_is_written(position: u64) {
            let lsn = Lsn::new(position);
            prop_assert_eq!(lsn.to_string().parse::<Lsn>().unwrap(), lsn);
        }
    }
}
