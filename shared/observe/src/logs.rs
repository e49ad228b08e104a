use std::io;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{filter}` is not a log filter")]
    Filter {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("logs were started twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts logging to standard error, once per process.
///
/// `filter` is a level, or levels by module: `info,walferry_queue=debug`.
///
/// # Errors
/// A filter that cannot be read, and a second call.
pub fn init_logs(format: Format, filter: &str) -> Result<(), LogError> {
    // Standard error and not output: the latter belongs to a command's answer.
    subscriber(format, filter, io::stderr)?
        .try_init()
        .map_err(LogError::Twice)
}

fn subscriber<W>(
    format: Format,
    filter: &str,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| LogError::Filter {
            filter: filter.to_owned(),
            source,
        })?;
    let layer = fmt::layer().with_writer(writer);
    let layer = match format {
        Format::Text => layer.with_ansi(false).boxed(),
        Format::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .boxed(),
    };
    let quiet = filter_fn(|metadata| !may_hold_secrets(metadata));
    Ok(tracing_subscriber::registry()
        .with(filter)
        .with(layer.with_filter(quiet)))
}

/// Crates that put requests, headers or statements into their debug logs. No
/// filter that an operator writes may turn those into a place where a key lies.
const TRANSPORTS: [&str; 11] = [
    "h2",
    "hyper",
    "hyper_util",
    "object_store",
    "postgres",
    "redis",
    "reqwest",
    "rustls",
    "tokio_postgres",
    "tower_http",
    "diesel",
];

fn may_hold_secrets(metadata: &Metadata<'_>) -> bool {
    let origin = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() > Level::INFO && TRANSPORTS.contains(&origin)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str, act: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn transports_stay_silent_about_requests_whatever_the_filter_says() {
        let text = logged(Format::Text, "trace,hyper::proto=trace", || {
            tracing::debug!(target: "hyper::proto::h1", "authorization: planted-secret");
            tracing::trace!(target: "object_store::aws", "planted-secret");
            tracing::warn!(target: "hyper::proto::h1", "connection lost");
            tracing::debug!(target: "walferry_queue", "claimed");
        });
        assert!(!text.contains("planted-secret"), "{text}");
        assert!(
            text.contains("connection lost") && text.contains("claimed"),
            "{text}"
        );
    }

    #[test]
    fn json_puts_one_object_with_dotted_fields_and_its_span_on_a_line() {
        let text = logged(Format::Json, "info", || {
            let _span = tracing::info_span!("job", job.name = "retention").entered();
            tracing::info!(
                segment.name = "00000001",
                size_bytes = 7,
                "segment archived"
            );
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["message"], "segment archived");
        assert_eq!(line["segment.name"], "00000001");
        assert_eq!(line["size_bytes"], 7);
        assert_eq!(line["span"]["job.name"], "retention");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let Err(error) = subscriber(Format::Text, "info,[", io::stderr) else {
            panic!("accepted");
        };
        assert_eq!(error.to_string(), "`info,[` is not a log filter");
    }
}
