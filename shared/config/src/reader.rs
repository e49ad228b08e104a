use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::config::{Config, Found};
use crate::file::Raw;
use crate::problem::{Problem, Refusal};
use crate::setting::Key;

/// A part of the configuration that holds valid values only.
pub trait Section: Sized {
    /// `None` only after the reader was told why.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;
}

/// Reads values for a section and gathers what is wrong with them.
pub struct Reader<'a> {
    config: &'a Config,
    problems: Vec<Problem>,
    #[cfg(test)]
    pub(crate) asked: std::collections::BTreeSet<&'static str>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(config: &'a Config) -> Self {
        Self {
            config,
            problems: Vec::new(),
            #[cfg(test)]
            asked: std::collections::BTreeSet::new(),
        }
    }

    pub(crate) fn config(&self) -> &'a Config {
        self.config
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// A value that must be there.
    pub(crate) fn value<T>(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<T> {
        let key = key.into();
        let value = self.optional(key.clone(), parse)?;
        self.needed(&key, value)
    }

    /// The outer `None` is a problem, the inner one a value that nobody gave.
    #[expect(
        clippy::option_option,
        reason = "as `Section::read`: None is a problem told"
    )]
    pub(crate) fn optional<T>(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<Option<T>> {
        let key = key.into();
        let Some(found) = self.find(&key)? else {
            return Some(None);
        };
        let text = match &found.raw {
            Raw::Text(text) => text.trim(),
            Raw::List(_) => {
                self.refuse(
                    &key,
                    &found,
                    Refusal::new("a list where one value belongs", "write one value"),
                );
                return None;
            }
        };
        match parse(text) {
            Ok(value) => Some(Some(value)),
            Err(refusal) => {
                self.refuse(&key, &found, refusal);
                None
            }
        }
    }

    /// A TOML array, or texts between commas. Each wrong item is a problem.
    #[expect(
        clippy::option_option,
        reason = "as `Section::read`: None is a problem told"
    )]
    pub(crate) fn list<T>(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Option<Option<Vec<T>>> {
        let key = key.into();
        let Some(found) = self.find(&key)? else {
            return Some(None);
        };
        let texts: Vec<&str> = match &found.raw {
            Raw::List(texts) => texts.iter().map(String::as_str).collect(),
            Raw::Text(text) => text.split(',').collect(),
        };
        let count = texts.len();
        let mut values = Vec::with_capacity(count);
        for text in texts {
            match parse(text.trim()) {
                Ok(value) => values.push(value),
                Err(refusal) => self.refuse(&key, &found, refusal),
            }
        }
        (values.len() == count).then_some(Some(values))
    }

    /// A secret, from its value or from the file that holds it. `parse` sees
    /// the text and must not repeat it in its refusal.
    #[expect(
        clippy::option_option,
        reason = "as `Section::read`: None is a problem told"
    )]
    pub(crate) fn secret(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&str) -> Result<(), Refusal>,
    ) -> Option<Option<SecretString>> {
        let key = key.into();
        let Some(found) = self.find(&key)? else {
            return Some(None);
        };
        let Raw::Text(raw) = &found.raw else {
            self.refuse(
                &key,
                &found,
                Refusal::new("a list where one value belongs", "write one value"),
            );
            return None;
        };
        let text = if found.is_path {
            match read_secret(Path::new(raw)) {
                Ok(text) => text,
                Err(refusal) => {
                    self.refuse(&key, &found, refusal);
                    return None;
                }
            }
        } else {
            raw.trim().to_owned()
        };
        match parse(&text) {
            Ok(()) => Some(Some(SecretString::from(text))),
            Err(refusal) => {
                self.refuse(&key, &found, refusal);
                None
            }
        }
    }

    /// A secret that must be there.
    pub(crate) fn needed_secret(
        &mut self,
        key: impl Into<Key>,
        parse: impl Fn(&str) -> Result<(), Refusal>,
    ) -> Option<SecretString> {
        let key = key.into();
        let secret = self.secret(key.clone(), parse)?;
        self.needed(&key, secret)
    }

    /// Something that no single value is guilty of.
    pub(crate) fn problem(
        &mut self,
        subject: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.problems.push(Problem {
            subject: subject.to_owned(),
            message: message.into(),
            hint: hint.into(),
        });
    }

    /// Names the value and who gave it, for a problem found after parsing.
    pub(crate) fn subject(&self, key: impl Into<Key>) -> String {
        let key = key.into();
        match self.config.lookup(&key) {
            Ok(Some(found)) => format!("`{}` ({})", key.name, found.origin),
            _ => format!("`{}`", key.name),
        }
    }

    fn needed<T>(&mut self, key: &Key, value: Option<T>) -> Option<T> {
        if value.is_none() {
            let variable = key.best_known_variable();
            let or_file = if key.setting.is_secret() {
                format!(" or {variable}_FILE")
            } else {
                String::new()
            };
            self.problem(
                &format!("`{}`", key.name),
                "not set",
                format!("set {variable}{or_file}, or `{}` in the file", key.name),
            );
        }
        value
    }

    #[expect(
        clippy::option_option,
        reason = "as `Section::read`: None is a problem told"
    )]
    fn find(&mut self, key: &Key) -> Option<Option<Found>> {
        #[cfg(test)]
        self.asked.insert(key.setting.name);
        match self.config.lookup(key) {
            Ok(found) => Some(found),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn refuse(&mut self, key: &Key, found: &Found, refusal: Refusal) {
        self.problem(
            &format!("`{}` ({})", key.name, found.origin),
            refusal.message,
            refusal.hint,
        );
    }
}

fn read_secret(path: &Path) -> Result<String, Refusal> {
    if !path.is_absolute() {
        return Err(Refusal::new(
            "not a path from the root, and not shown because it may be the secret itself",
            "write the path of the file as /run/secrets/…; a secret itself belongs into the \
             setting without `_FILE` or `_file`",
        ));
    }
    let path: PathBuf = path.to_owned();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Refusal::new(
            format!("`{}` cannot be read: {error}", path.display()),
            "let the user that this program runs as read the file",
        )
    })?;
    let text = text.trim();
    if text.is_empty() {
        return Err(Refusal::new(
            format!("`{}` is empty", path.display()),
            "write the secret into the file, or remove the setting",
        ));
    }
    Ok(text.to_owned())
}

macro_rules! tuples {
    ($(($($name:ident),+)),+) => {$(
        impl<$($name: Section),+> Section for ($($name,)+) {
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                // All of them are read before any is missed.
                let sections = ($($name::read(reader),)+);
                #[expect(non_snake_case, reason = "one name for the type and its value")]
                let ($($name,)+) = sections;
                Some(($($name?,)+))
            }
        }
    )+};
}

tuples!(
    (A),
    (A, B),
    (A, B, C),
    (A, B, C, D),
    (A, B, C, D, E),
    (A, B, C, D, E, F),
    (A, B, C, D, E, F, G),
    (A, B, C, D, E, F, G, H),
    (A, B, C, D, E, F, G, H, I),
    (A, B, C, D, E, F, G, H, I, J),
    (A, B, C, D, E, F, G, H, I, J, K),
    (A, B, C, D, E, F, G, H, I, J, K, L)
);
