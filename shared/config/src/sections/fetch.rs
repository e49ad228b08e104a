//! How WAL comes back: `walferry fetch`, PostgreSQL's `restore_command`.
//!
//! Reads: `WALFERRY_FETCH_REPOSITORIES`, `…_RETRY_FOR`, `…_PREFETCH`,
//! `…_DIRECTORY`, `…_PARALLEL`.

use std::path::PathBuf;
use std::time::Duration;

use walferry_proof::RepositoryName;

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static REPOSITORIES: Setting = Setting::new(
    "fetch.repositories",
    "the repositories in the order in which they are asked for WAL; those it does not name follow, all of them in the order of `repositories` without it",
);
static RETRY_FOR: Setting = Setting::new(
    "fetch.retry_for",
    "how long `fetch` goes on asking in recovery before it gives up with exit code 200; `0s` to ask once. A standby asks again by itself",
)
.default("60s");
static PREFETCH: Setting = Setting::new(
    "fetch.prefetch",
    "space for the segments that are fetched ahead, as a size; `off` for none. Less than one segment is none",
)
.default("256MiB");
static DIRECTORY: Setting = Setting::new(
    "fetch.directory",
    "where segments fetched ahead lie; fastest on the file system of the data directory; without it `/var/tmp/walferry-fetch-UID`",
);
static PARALLEL: Setting = Setting::new(
    "fetch.parallel",
    "segments that are fetched ahead at the same time",
)
.default("4");

pub(crate) const SETTINGS: &[&Setting] =
    &[&REPOSITORIES, &RETRY_FOR, &PREFETCH, &DIRECTORY, &PARALLEL];

#[derive(Clone, Debug)]
pub struct Fetch {
    /// Those that are asked first, each once; may name some only, or one that is not configured.
    pub repositories: Vec<RepositoryName>,
    pub retry_for: Duration,
    /// Bytes; 0 for none.
    pub prefetch: u64,
    /// `None` for the default, which depends on the user.
    pub directory: Option<PathBuf>,
    /// 1 to 64.
    pub parallel: usize,
}

impl Section for Fetch {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let repositories = reader.list(&REPOSITORIES, name);
        let (none, day) = (Duration::ZERO, Duration::from_secs(86_400));
        let retry_for = reader.value(&RETRY_FOR, value::duration(none, day));
        let prefetch = reader.value(&PREFETCH, prefetch);
        let directory = reader.optional(&DIRECTORY, value::absolute_path);
        let parallel = reader.value(&PARALLEL, value::between(1, 64));
        let mut unique = Vec::new();
        for name in repositories?.unwrap_or_default() {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        Some(Self {
            repositories: unique,
            retry_for: retry_for?,
            prefetch: prefetch?,
            directory: directory?,
            parallel: parallel?,
        })
    }
}

fn name(text: &str) -> Result<RepositoryName, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(format!("{error}"), "write names between commas: b2,r2"))
}

fn prefetch(text: &str) -> Result<u64, Refusal> {
    if matches!(text, "off" | "none" | "0") {
        return Ok(0);
    }
    value::bytes(1 << 20)(text)
}
