//! S3 servers for the demo and the tests. No shipped binary contains any of this.
//!
//! `Server` is s3s-fs, embedded; `Seaweed` is SeaweedFS as a process, the second opinion:
//! both check signatures, and they differ in much else.

mod bucket;
mod seaweed;
mod server;

pub use seaweed::{Seaweed, SeaweedOptions};
pub use server::{Options, Server};
