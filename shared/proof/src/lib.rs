//! Facts that travel: digests, names of places, and the proof that a repository holds
//! what was sent to it.
//!
//! This crate knows neither WAL nor clouds. It is the vocabulary in which a repository's
//! answer is compared with what was uploaded, and `Verified` is the only result of that
//! comparison that anybody may act on.

mod digest;
mod place;
mod verified;

pub use digest::{DigestError, Hasher, Md5, Md5Hasher, Sha256, md5, sha256};
pub use place::{KeyPrefix, ObjectKey, PlaceError, RepositoryName};
pub use verified::{
    Evidence, Expected, ExpectedEtag, Mismatch, Reported, UnknownVerifyMode, Verified, VerifyMode,
};
