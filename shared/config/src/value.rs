//! Parsers for single values: text in, a valid value or a refusal out.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

use crate::problem::Refusal;

type Parsed<T> = Result<T, Refusal>;

/// A part of a whole, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    pub fn get(self) -> f64 {
        self.0
    }
}

/// `80%` or `0.8`; not 0, which would switch off by accident.
pub(crate) fn share(text: &str) -> Parsed<Share> {
    let share = match text.strip_suffix('%') {
        Some(percent) => f64::from_str(percent.trim()).map(|percent| percent / 100.0),
        None => f64::from_str(text),
    };
    match share {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(Share(share)),
        _ => Err(Refusal::new(
            format!("`{text}` is not a share"),
            "write 80% or 0.8: more than 0, at most 100%",
        )),
    }
}

/// A number within bounds.
pub(crate) fn between<T>(least: T, most: T) -> impl Fn(&str) -> Parsed<T>
where
    T: FromStr + PartialOrd + Display + Copy,
{
    move |text| match text.parse() {
        Ok(number) if number >= least && number <= most => Ok(number),
        _ => Err(Refusal::new(
            format!("`{text}` is not a number from {least} to {most}"),
            format!("write a whole number from {least} to {most}"),
        )),
    }
}

/// A span of time within bounds. A bare number is refused: the next reader
/// could not tell seconds from minutes.
pub(crate) fn duration(least: Duration, most: Duration) -> impl Fn(&str) -> Parsed<Duration> {
    move |text| {
        let value = span(text).ok_or_else(|| {
            Refusal::new(
                format!("`{text}` is not a duration"),
                "write a number and a unit: 500ms, 300s, 5m, 1h or 30d",
            )
        })?;
        if value < least || value > most {
            let (least, most) = (span_text(least), span_text(most));
            return Err(Refusal::new(
                format!("`{text}` is not between {least} and {most}"),
                format!("write a duration from {least} to {most}"),
            ));
        }
        Ok(value)
    }
}

/// A span of time as every setting writes it: `500ms`, `300s`, `5m`, `1h`, `30d`.
///
/// # Errors
/// What is wrong with the text, for a flag's usage error.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    span(text).ok_or_else(|| "write a number and a unit: 500ms, 300s, 5m, 1h or 30d".to_owned())
}

fn span(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

/// As [`span`] reads it, in the largest unit that fits.
pub(crate) fn span_text(span: Duration) -> String {
    let milliseconds = span.as_millis();
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ];
    units
        .iter()
        .find(|(_, unit)| milliseconds > 0 && milliseconds.is_multiple_of(*unit))
        .map_or(format!("{milliseconds}ms"), |(name, unit)| {
            format!("{}{name}", milliseconds / unit)
        })
}

/// A number of bytes: `64MiB` (of 1024) or `50GB` (of 1000).
pub(crate) fn bytes(least: u64) -> impl Fn(&str) -> Parsed<u64> {
    move |text| {
        let value = number_and_unit(text).and_then(|(number, unit)| {
            let factor: u64 = match unit {
                "B" => 1,
                "kB" | "KB" => 1_000,
                "MB" => 1_000_000,
                "GB" => 1_000_000_000,
                "TB" => 1_000_000_000_000,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                "TiB" => 1 << 40,
                _ => return None,
            };
            number.checked_mul(factor)
        });
        match value {
            Some(value) if value >= least => Ok(value),
            Some(_) => Err(Refusal::new(
                format!("`{text}` is too small"),
                format!("write at least {least}B"),
            )),
            None => Err(Refusal::new(
                format!("`{text}` is not a size"),
                "write a number and a unit: 64MiB, 50GB",
            )),
        }
    }
}

/// As [`bytes`], with an upper bound.
pub(crate) fn bytes_between(least: u64, most: u64) -> impl Fn(&str) -> Parsed<u64> {
    move |text| match bytes(least)(text)? {
        value if value <= most => Ok(value),
        _ => Err(Refusal::new(
            format!("`{text}` is too large"),
            format!("write at most {most}B"),
        )),
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, text[end..].trim_start()))
}

pub(crate) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Refusal::new(
            format!("`{text}` is neither true nor false"),
            "write true or false",
        )),
    }
}

/// Access bits as `chmod` writes them.
pub(crate) fn mode(text: &str) -> Parsed<u32> {
    let octal = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(octal, 8) {
        // Without the owner's two bits PostgreSQL could not replace or we not
        // read what was handed over; others get no write access, ever.
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 && mode & 0o113 == 0 => Ok(mode),
        _ => Err(Refusal::new(
            format!("`{text}` is not a file mode"),
            "write 0640, 0660, 0644 or 0600",
        )),
    }
}

pub(crate) fn address(text: &str) -> Parsed<SocketAddr> {
    let text_of_host = text.replacen("localhost:", "127.0.0.1:", 1);
    text_of_host.parse().map_err(|_| {
        Refusal::new(
            format!("`{text}` is not an address"),
            "write HOST:PORT with a numeric host, as 127.0.0.1:9847 or [::]:9847; port 0 takes any free one",
        )
    })
}

/// An absolute path: a relative one would depend on who starts the program.
pub(crate) fn absolute_path(text: &str) -> Parsed<PathBuf> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(Refusal::new(
            format!("`{text}` is not an absolute path"),
            "write the path from the root, as /var/lib/…",
        ))
    }
}

/// The name of a cluster, a directory or a job.
pub(crate) fn name(text: &str) -> Parsed<String> {
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if (1..=32).contains(&text.len()) && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(
            format!("`{text}` is not a name"),
            "write 1 to 32 of a-z, 0-9 and -",
        ))
    }
}

/// Text as it stands, but not empty.
pub(crate) fn text(text: &str) -> Parsed<String> {
    if text.is_empty() {
        Err(Refusal::new(
            "empty",
            "write a value, or remove the setting",
        ))
    } else {
        Ok(text.to_owned())
    }
}

/// A key or password: its text is never repeated.
pub(crate) fn opaque(text: &str) -> Parsed<()> {
    if text.is_empty() || text.contains(char::is_whitespace) {
        Err(Refusal::new(
            "empty, or with a space or line break inside",
            "copy the secret again, without quotes",
        ))
    } else {
        Ok(())
    }
}

/// A URL that may hold a password: its text is never repeated.
pub(crate) fn secret_url(
    schemes: &'static [&'static str],
    example: &'static str,
) -> impl Fn(&str) -> Parsed<()> {
    move |text| match Url::parse(text) {
        Ok(_) if in_front_of_at(text).is_some_and(|cut| !cut.contains('=')) => Err(Refusal::new(
            "a `/`, `?` or `#` stands in front of the `@`",
            "%-encode special characters of user and password: %2F, %3F, %23",
        )),
        Ok(url) if schemes.contains(&url.scheme()) => Ok(()),
        Ok(_) => Err(Refusal::new(
            format!("the URL begins with none of {}", schemes.join(", ")),
            format!("write it as {example}"),
        )),
        Err(error) => Err(Refusal::new(
            format!("not a URL: {error}"),
            format!("write it as {example}; %-encode special characters of the password"),
        )),
    }
}

/// What stands between the end of a URL's host and its last `@`, if that comes later. In
/// `postgres://user:12/secret@host` the host is `user`, by the rules, and the rest a path.
fn in_front_of_at(text: &str) -> Option<&str> {
    let (before, _) = text.rsplit_once('@')?;
    let (_, rest) = before.split_once("://")?;
    rest.find(['/', '?', '#', '\\']).map(|end| &rest[end..])
}

/// Scheme, host, port and path of a URL: its user, password and query go.
pub(crate) fn redacted_url(text: &str) -> String {
    let parsed = Url::parse(text).ok().filter(Url::has_host);
    // Without a host (`key:secret@host`) nothing tells what is what, nor with one in front of
    // an `@` that belongs to a password.
    let Some(url) = parsed.filter(|_| in_front_of_at(text).is_none()) else {
        return "***".to_owned();
    };
    let user = if url.username().is_empty() && url.password().is_none() {
        ""
    } else {
        "***@"
    };
    let host = url.host_str().unwrap_or_default();
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let query = if url.query().is_some() { "?***" } else { "" };
    format!("{}://{user}{host}{port}{}{query}", url.scheme(), url.path())
}

/// A plain value as it stands, unless something in front of an `@` may be a
/// key that somebody put where none belongs.
pub(crate) fn without_user(text: &str) -> String {
    if text.contains('@') && text.contains(':') {
        redacted_url(text)
    } else {
        text.to_owned()
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
