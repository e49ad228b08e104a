//! Making WAL: valid-looking segments in any number, without a server.

mod synthetic;

pub use synthetic::{Fill, Maker};
