//! Objects in clouds: keys and bytes, not WAL.
//!
//! `s3` makes a repository from settings; `Breaker` and `Metered` are decorators that
//! implement the same traits. Put `Metered` inside `Breaker`, so that a request that was
//! not made is not measured. Nothing here retries beyond a connection that was found
//! closed: when to try again is decided where leases and the other cloud are known.

mod breaker;
mod error;
mod metered;
mod repository;
mod s3;
mod settings;

pub use breaker::{Breaker, BreakerSettings, BreakerState};
pub use error::{At, BoxError, Retry, Said, StoreError};
pub use metered::{Metered, Observer};
pub use repository::{
    Deleted, Listed, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
};
pub use s3::s3;
pub use settings::S3Settings;
