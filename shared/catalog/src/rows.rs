//! From columns to types: text of a row is parsed here, once.

use std::str::FromStr;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text};
use walferry_proof::{Md5, Sha256};

use crate::error::CatalogError;

/// One column of text.
#[derive(QueryableByName)]
pub(crate) struct Value {
    #[diesel(sql_type = Text)]
    pub(crate) value: String,
}

/// One id.
#[derive(QueryableByName)]
pub(crate) struct Id {
    #[diesel(sql_type = BigInt)]
    pub(crate) id: i64,
}

pub(crate) fn parse<T: FromStr>(what: &'static str, text: &str) -> Result<T, CatalogError> {
    text.parse().map_err(|_| CatalogError::Malformed {
        what,
        value: text.to_owned(),
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> Result<Sha256, CatalogError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(Sha256::from_bytes(bytes)),
        Err(_) => Err(malformed("SHA-256", bytes.len())),
    }
}

pub(crate) fn md5(bytes: &[u8]) -> Result<Md5, CatalogError> {
    match bytes.try_into() {
        Ok(bytes) => Ok(Md5::from_bytes(bytes)),
        Err(_) => Err(malformed("MD5", bytes.len())),
    }
}

pub(crate) fn count(what: &'static str, number: i64) -> Result<u64, CatalogError> {
    u64::try_from(number).map_err(|_| malformed(what, number))
}

pub(crate) fn small(what: &'static str, number: i32) -> Result<u32, CatalogError> {
    u32::try_from(number).map_err(|_| malformed(what, number))
}

/// Sizes and inode numbers travel as `bigint`, bit by bit: an inode above 2^63 comes back as
/// it was.
pub(crate) const fn bits(number: u64) -> i64 {
    number.cast_signed()
}

/// For `make_interval(secs => $n)`.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

pub(crate) fn malformed(what: &'static str, value: impl ToString) -> CatalogError {
    CatalogError::Malformed {
        what,
        value: value.to_string(),
    }
}
