//! Getting in: socket, TLS, authentication.

mod login;
mod open;
mod tls;

pub(crate) use open::open;
