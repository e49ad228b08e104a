//! libpq's password file: `host:port:database:user:password` lines.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The lines of a password file that may be used, and why it may not.
#[derive(Default)]
pub(super) struct PassFile {
    content: Vec<u8>,
    /// Why the file was not used: for the error when the password turns out to be missing.
    pub(super) note: Option<String>,
}

/// Whose password is looked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    /// Any of them fits: `replication`, and the database of the settings.
    pub(super) databases: &'a [&'a str],
    pub(super) user: &'a str,
}

impl PassFile {
    /// As libpq: no file is no password, and one that others can read is not used.
    pub(super) fn read(path: &Path) -> Self {
        let refused = |why: String| {
            tracing::warn!(path = %path.display(), "the password file is not used: {why}");
            Self {
                content: Vec::new(),
                note: Some(format!("`{}` is not used: {why}", path.display())),
            }
        };
        let facts = match std::fs::metadata(path) {
            Ok(facts) => facts,
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::default(),
            Err(error) => return refused(error.to_string()),
        };
        if !facts.is_file() {
            return refused("it is not a plain file".to_owned());
        }
        let mode = facts.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return refused(format!(
                "others may read it (mode {mode:04o}); run chmod 0600"
            ));
        }
        match std::fs::read(path) {
            Ok(content) => Self {
                content,
                note: None,
            },
            Err(error) => refused(error.to_string()),
        }
    }

    /// The password of the first line that fits.
    pub(super) fn find(&self, wanted: Wanted<'_>) -> Option<Vec<u8>> {
        let port = wanted.port.to_string();
        self.content.split(|byte| *byte == b'\n').find_map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.starts_with(b"#") {
                return None;
            }
            let mut fields = fields(line);
            let mut fits = |accepted: &[&str]| {
                let field = fields.next()?;
                let fits = accepted.iter().any(|text| field.fits(text.as_bytes()));
                fits.then_some(())
            };
            fits(&[wanted.host])?;
            fits(&[&port])?;
            fits(wanted.databases)?;
            fits(&[wanted.user])?;
            fields.next().map(|field| field.text)
        })
    }
}

struct Field {
    /// Without backslashes.
    text: Vec<u8>,
    /// Written as `*`, not as `\*`.
    any: bool,
}

impl Field {
    fn fits(&self, text: &[u8]) -> bool {
        self.any || self.text == text
    }
}

/// Fields end at a `:` that no backslash precedes.
fn fields(line: &[u8]) -> impl Iterator<Item = Field> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut text = Vec::new();
        let mut at = 0;
        rest = None;
        while let Some(&byte) = line.get(at) {
            match (byte, line.get(at + 1)) {
                (b':', _) => {
                    rest = Some(&line[at + 1..]);
                    break;
                }
                (b'\\', Some(&next)) => {
                    text.push(next);
                    at += 1;
                }
                _ => text.push(byte),
            }
            at += 1;
        }
        let any = &line[..at.min(line.len())] == b"*";
        Some(Field { text, any })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content: &str, host: &str, port: u16, user: &str, expected: Option<&str>) {
        let file = PassFile {
            content: content.into(),
            note: None,
        };
        let found = file.find(Wanted {
            host,
            port,
            databases: &["replication", "postgres"],
            user,
        });
        let found = found.map(|password| String::from_utf8(password).unwrap());
        assert_eq!(found.as_deref(), expected, "{content}");
    }

    #[test]
    fn the_first_line_that_fits_has_the_password() {
        let content = "# db:5432:*:u:comment\n\
            db:5432:app:u:another database\n\
            db:5433:*:u:another port\n\
            db:5432:replication:u:first\r\n\
            *:*:*:*:last\n";
        check(content, "db", 5432, "u", Some("first"));
        check(content, "db", 5433, "u", Some("another port"));
        check(content, "other", 1, "v", Some("last"));
        check("db:5432:postgres:u:p", "db", 5432, "u", Some("p"));
        check("db:5432:postgres:u", "db", 5432, "u", None);
        check("", "db", 5432, "u", None);
    }

    #[test]
    fn a_backslash_takes_colons_backslashes_and_stars_as_they_are() {
        check(r"a\:b:1:*:u\\v:p\:q\\r", "a:b", 1, r"u\v", Some(r"p:q\r"));
        check(r"\*:1:*:u:p", "db", 1, "u", None);
        check(r"\*:1:*:u:p", "*", 1, "u", Some("p"));
        // As libpq: the password ends at a bare colon, and a backslash at the end is one.
        check(r"db:1:*:u:p:rest", "db", 1, "u", Some("p"));
        check(r"db:1:*:u:p\", "db", 1, "u", Some(r"p\"));
        check("db:1:*:u:", "db", 1, "u", Some(""));
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used_and_the_reason_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:p").unwrap();
        for (mode, used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let file = PassFile::read(&path);
            assert_eq!(!file.content.is_empty(), used, "{mode:o}");
            assert_eq!(file.note.is_none(), used, "{mode:o}");
        }
        assert!(
            PassFile::read(folder.path())
                .note
                .unwrap()
                .contains("plain file")
        );
        let absent = PassFile::read(&folder.path().join("absent"));
        assert!(absent.note.is_none() && absent.content.is_empty());
    }
}
