//! Objects in clouds: keys and bytes, not WAL.
//!
//! `s3` makes a repository from settings; `Breaker` and `Metered` are decorators that
//! implement the same traits. Put `Metered` inside `Breaker`, so that a request that was
//! not made is not measured. Nothing here retries beyond a connection that was found
//! closed: when to try again is decided where leases and the other cloud are known.
//!
//! Without the feature `client` there are the settings and [`answers`] only.

pub mod answers;
#[cfg(feature = "client")]
mod breaker;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "client")]
mod metered;
#[cfg(feature = "client")]
mod repository;
#[cfg(feature = "client")]
mod s3;
mod settings;

#[cfg(feature = "client")]
pub use breaker::{Breaker, BreakerSettings, BreakerState};
#[cfg(feature = "client")]
pub use error::{At, BoxError, Retry, Said, StoreError};
#[cfg(feature = "client")]
pub use metered::{Metered, Observer};
#[cfg(feature = "client")]
pub use repository::{
    Deleted, Listed, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
};
#[cfg(feature = "client")]
pub use s3::s3;
pub use settings::S3Settings;
