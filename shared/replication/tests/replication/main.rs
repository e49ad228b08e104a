//! The client against real servers.

mod admission;
mod asking;
mod backup;
mod interrupted;
mod server;
mod taken;
mod tls;

/// All of an error's words, the causes' included.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
