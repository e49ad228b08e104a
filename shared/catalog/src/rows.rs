//! From columns to types: text of a row is parsed here, once.

use std::str::FromStr;
use std::time::Duration;

use diesel::QueryableByName;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
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

/// A query whose statement the connection keeps, so that it is parsed once and not by each call.
///
/// Only for SQL of which there are a few: what differs from call to call is bound.
pub(crate) trait Keep: Sized {
    fn kept(self) -> Kept<Self> {
        Kept(self)
    }
}

impl<Q> Keep for Q where Q: Query + QueryFragment<Pg> {}

pub(crate) struct Kept<Q>(Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Kept<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    // `sql_query` says no, since it cannot know how many different texts there will be.
    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

/// Told apart by their text.
impl<Q> QueryId for Kept<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Kept<Q> {
    type SqlType = Q::SqlType;
}
