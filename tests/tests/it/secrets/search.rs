//! Looking for a secret in whatever form it may have been written down.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use walferry_tests::World;

use super::Left;

/// What to look for.
#[derive(Default)]
pub(super) struct Search {
    /// Whose secret, in which form, and the bytes.
    planted: Vec<(String, &'static str, Vec<u8>)>,
}

impl Search {
    pub(super) fn plant(&mut self, name: &str, secret: &str) {
        for (form, bytes) in forms(secret) {
            self.planted.push((name.to_owned(), form, bytes));
        }
    }

    /// That it finds each secret in each form, in a log line written on purpose where the
    /// programs write theirs: without this, finding nothing later would say nothing.
    pub(super) fn prove(&self, world: &World) {
        let path = world.folder().join("logs").join("worker-on-purpose.err");
        for (name, form, bytes) in &self.planted {
            let line = [b"INFO connected with pw=", &bytes[..], b" on purpose\n"].concat();
            std::fs::write(&path, line).expect("write a log");
            let mut left = Left::default();
            left.logs(world);
            let found = self.find(&left);
            assert!(
                found.iter().any(|found| found.contains(name.as_str())),
                "{name} is not found as {form}: {found:?}"
            );
        }
        std::fs::write(&path, "").expect("empty the log");
    }

    pub(super) fn finds_nothing_in(&self, left: &Left) {
        left.check_complete();
        let found = self.find(left);
        assert!(found.is_empty(), "{found:#?}");
    }

    fn find(&self, left: &Left) -> Vec<String> {
        let mut found = Vec::new();
        for (what, content) in left.all() {
            for (name, form, bytes) in &self.planted {
                let at = content
                    .windows(bytes.len())
                    .position(|window| window == &bytes[..]);
                if let Some(at) = at {
                    let around = &content[at.saturating_sub(80)..(at + 120).min(content.len())];
                    let around = String::from_utf8_lossy(around);
                    found.push(format!("{name} as {form} in `{what}`: …{around}…"));
                }
            }
        }
        found
    }
}

/// As it is, as in a URL, as in an Authorization header or a JSON of bytes, as in a dump.
fn forms(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("plain text", secret.as_bytes().to_vec()),
        ("percent-encoded", percent(secret).into_bytes()),
        (
            "percent-encoded in lower case",
            percent(secret).to_lowercase().into_bytes(),
        ),
        ("hex", hex::encode(secret).into_bytes()),
    ];
    // What stands before it decides which of three texts base64 makes of it; first and last
    // characters may belong to its neighbours, too.
    for before in 0..3 {
        let text = BASE64_STANDARD_NO_PAD.encode([&vec![0; before], secret.as_bytes()].concat());
        let ends = (before + secret.len()) * 8 / 6;
        let begins = (before * 8).div_ceil(6);
        forms.push(("base64", text.as_bytes()[begins..ends].to_vec()));
    }
    forms
}

/// Everything but letters and digits escaped.
pub(super) fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
