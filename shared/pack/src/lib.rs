//! gzip both ways, on a fixed number of threads of its own: what archiving, base backups and
//! restoring share.

pub mod pack;
pub mod pool;
pub mod unpack;
