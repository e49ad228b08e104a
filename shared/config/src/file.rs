//! The TOML file, flattened: dotted name to value and line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{Problem, Problems};

/// A value as it was written, before anybody asked what it means.
#[derive(Clone)]
pub(crate) enum Raw {
    Text(String),
    List(Vec<String>),
}

#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) values: BTreeMap<String, (Raw, usize)>,
    /// Sections without a line in them: `[clusters.main]` alone names a cluster.
    pub(crate) empty: BTreeMap<String, usize>,
    /// What no setting could be; refused with the unknown names.
    pub(crate) odd: Vec<Problem>,
}

/// Reads and flattens `path`.
///
/// # Errors
/// All syntax errors of the file at once. A message gives the line's number
/// and never its text: it may hold half a secret.
pub(crate) fn read(path: &Path) -> Result<File, Problems> {
    let text = std::fs::read_to_string(path).map_err(|error| Problem {
        subject: format!("`{}`", path.display()),
        message: format!("cannot be read: {error}"),
        hint: "create the file, let this user read it, or name another one with --config or \
               WALFERRY_CONFIG"
            .to_owned(),
    })?;
    parse(path, &text)
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<File, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let syntax = errors.iter().map(|error| Problem {
        subject: match error.span() {
            Some(span) => format!("`{}:{}`", path.display(), line(text, span.start)),
            None => format!("`{}`", path.display()),
        },
        message: format!("not TOML: {}", error.message()),
        hint: "write text in double quotes, and each setting on a line of its own".to_owned(),
    });
    if let Some(problems) = Problems::collect(syntax) {
        return Err(problems);
    }
    let mut file = File {
        path: path.to_owned(),
        ..File::default()
    };
    flatten(&mut file, text, "", table.get_ref());
    Ok(file)
}

fn flatten(file: &mut File, text: &str, prefix: &str, table: &DeTable<'_>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        let line = line(text, key.span().start);
        if key.get_ref().contains('.') {
            file.refuse(
                &name,
                line,
                "a name in quotes with a dot in it names no setting",
            );
            continue;
        }
        match value.get_ref() {
            DeValue::Table(table) if table.is_empty() => drop(file.empty.insert(name, line)),
            DeValue::Table(table) => flatten(file, text, &format!("{name}."), table),
            DeValue::Array(items) => {
                let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
                match texts {
                    Some(texts) => drop(file.values.insert(name, (Raw::List(texts), line))),
                    None => file.refuse(&name, line, "a list of tables names no setting"),
                }
            }
            _ => match scalar(value) {
                Some(text) => drop(file.values.insert(name, (Raw::Text(text), line))),
                None => file.refuse(&name, line, "a date names no setting"),
            },
        }
    }
}

impl File {
    fn refuse(&mut self, name: &str, line: usize, message: &str) {
        self.odd.push(Problem {
            subject: format!("`{name}` ({}:{line})", self.path.display()),
            message: message.to_owned(),
            hint: "docs/configuration.md lists every setting with an example".to_owned(),
        });
    }
}

fn scalar(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn line(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}
