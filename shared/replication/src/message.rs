//! What a server says in words.

use std::io;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;

/// An error or a notice of the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{message} (SQLSTATE {code}){}{}",
    part("DETAIL", detail),
    part("HINT", hint)
)]
pub struct ServerMessage {
    /// `ERROR`, `FATAL`, `WARNING` and so on, never translated.
    pub severity: String,
    /// Five characters: `28P01`.
    pub code: String,
    /// In the language of the server's `lc_messages`.
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl ServerMessage {
    pub(crate) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut found = Self {
            severity: String::new(),
            code: String::new(),
            message: String::new(),
            detail: None,
            hint: None,
        };
        let mut local = String::new();
        while let Some(field) = fields.next()? {
            // Before authentication a server may write in any encoding.
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => found.severity = value,
                b'S' => local = value,
                b'C' => found.code = value,
                b'M' => found.message = value,
                b'D' => found.detail = Some(value),
                b'H' => found.hint = Some(value),
                _ => {}
            }
        }
        if found.severity.is_empty() {
            found.severity = local;
        }
        Ok(found)
    }
}

fn part(name: &str, text: &Option<String>) -> String {
    text.as_ref()
        .map(|text| format!("; {name}: {text}"))
        .unwrap_or_default()
}
