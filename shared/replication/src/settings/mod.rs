//! Which server, as libpq's URLs, `keyword=value` strings and variables name it.

mod account;
mod address;
mod error;
mod parameters;
mod passfile;
mod server;

pub(crate) use address::{Address, Host};
pub use error::SettingsError;
pub use server::ServerSettings;
