//! What is logged, and in which form.
//!
//! Reads: `WALFERRY_LOG_FORMAT`, `WALFERRY_LOG_LEVEL`.

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static FORMAT: Setting =
    Setting::new("log.format", "`text` for people, `json` for collectors").default("text");
static LEVEL: Setting = Setting::new(
    "log.level",
    "error, warn, info, debug or trace; also per module, as `info,walferry_queue=debug`",
)
.default("info");

pub(crate) const SETTINGS: &[&Setting] = &[&FORMAT, &LEVEL];

#[derive(Clone, Debug)]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Section for Log {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let format = reader.value(&FORMAT, format);
        let level = reader.value(&LEVEL, level);
        Some(Self {
            format: format?,
            level: level?,
        })
    }
}

fn format(text: &str) -> Result<LogFormat, Refusal> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(Refusal::new(
            format!("`{text}` is not a format"),
            "write text or json",
        )),
    }
}

/// A filter that misspells its level would log nothing at all.
fn level(text: &str) -> Result<String, Refusal> {
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let level = directive
            .rsplit_once('=')
            .map_or(directive, |(_, level)| level);
        if !levels.contains(&level.trim().to_ascii_lowercase().as_str()) {
            return Err(Refusal::new(
                format!("`{directive}` is not a log level"),
                "write error, warn, info, debug or trace, for a module MODULE=LEVEL",
            ));
        }
    }
    value::text(text)
}
