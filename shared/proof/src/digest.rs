//! SHA-256 and MD5 as types, and the one-pass hasher.
//!
//! SHA-256 of the *uncompressed* file is a segment's identity. MD5 is no security here:
//! it is what S3 reports as an object's ETag, so it is what an answer is compared with.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// SHA-256 digest; written as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// MD5 digest; written as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Md5([u8; 16]);

/// Hashes a file while it is read, once: SHA-256 and the number of bytes.
#[derive(Clone, Default)]
pub struct Hasher {
    sha256: sha2::Sha256,
    size: u64,
}

/// MD5 over a stream, for objects that never lie in memory whole.
#[derive(Clone, Default)]
pub struct Md5Hasher(md5::Md5);

/// Text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest of {digits} lower-case hex digits")]
pub struct DigestError {
    text: String,
    digits: usize,
}

/// SHA-256 of a whole buffer.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// MD5 of a whole buffer.
pub fn md5(bytes: &[u8]) -> Md5 {
    Md5(md5::Md5::digest(bytes).into())
}

impl Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    /// The digest of everything given so far, and how many bytes that was.
    pub fn finish(self) -> (Sha256, u64) {
        (Sha256(self.sha256.finalize().into()), self.size)
    }
}

impl Md5Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything given so far.
    pub fn finish(self) -> Md5 {
        Md5(self.0.finalize().into())
    }
}

impl Md5 {
    /// The form that the `Content-MD5` header takes.
    pub fn base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

macro_rules! digest_text {
    ($name:ident, $bytes:literal) => {
        impl $name {
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            pub const fn to_bytes(self) -> [u8; $bytes] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<Self, DigestError> {
                let error = || DigestError {
                    text: text.to_owned(),
                    digits: 2 * $bytes,
                };
                // `hex` also takes upper case; one digest must have one spelling.
                if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    return Err(error());
                }
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| error())?;
                Ok(Self(bytes))
            }
        }

        impl TryFrom<String> for $name {
            type Error = DigestError;

            fn try_from(text: String) -> Result<Self, DigestError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(digest: $name) -> String {
                digest.to_string()
            }
        }
    };
}

digest_text!(Sha256, 32);
digest_text!(Md5, 16);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digests_are_those_everybody_else_computes() {
        assert_eq!(
            sha256(b"abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(md5(b"abc").to_string(), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(md5(b"abc").base64(), "kAFQmDzST7DWlj99KOF/cg==");
    }

    #[test]
    fn upper_case_and_wrong_lengths_are_no_digests() {
        let good = sha256(b"x").to_string();
        assert!(good.parse::<Sha256>().is_ok());
        for bad in [
            good.to_uppercase(),
            good[1..].to_owned(),
            format!("{good}0"),
            good.replace(&good[..1], "g"),
            String::new(),
        ] {
            assert!(bad.parse::<Sha256>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_bytes_are_the_same_digest(bytes: [u8; 32], short: [u8; 16]) {
            let long = Sha256::from_bytes(bytes);
            prop_assert_eq!(long.to_string().parse::<Sha256>(), Ok(long));
            prop_assert_eq!(long.to_bytes(), bytes);
            let short = Md5::from_bytes(short);
            prop_assert_eq!(short.to_string().parse::<Md5>(), Ok(short));
        }

        #[test]
        fn pieces_hash_like_the_whole(
            data in proptest::collection::vec(any::<u8>(), 0..2000),
            piece in 1_usize..300,
        ) {
            let mut hasher = Hasher::new();
            for chunk in data.chunks(piece) {
                hasher.update(chunk);
            }
            prop_assert_eq!(hasher.finish(), (sha256(&data), data.len() as u64));
        }
    }
}
