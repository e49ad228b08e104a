//! How the catalog is reached: its URL, TLS, the session's settings, and a lazy pool.

mod pool;
mod session;
mod settings;
mod tls;

pub use pool::{Catalog, Connection};
pub use settings::{CatalogSettings, SettingsError};
