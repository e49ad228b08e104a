//! How a segment is packed, sent, verified and let go.
//!
//! Reads: `WALFERRY_ARCHIVE_LEVEL`, `…_VERIFY`, `…_CLAIM_LEASE`,
//! `…_CLAIM_RENEW`, `…_CLAIM_BATCH`, `…_MEMORY_LIMIT`,
//! `…_STREAMING_THRESHOLD`, `…_NOT_YET`, `…_DELETE_AFTER_ONE_COPY_ABOVE`,
//! `…_RETRY_BASE`, `…_RETRY_MAX`.

use std::time::Duration;

use walferry_proof::VerifyMode;

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value::{self, Share};

static LEVEL: Setting = Setting::new(
    "archive.level",
    "gzip level; a faster encoder may be used as long as its output is no larger than zlib's at this level",
)
.default("9");
static VERIFY: Setting = Setting::new(
    "archive.verify",
    "`head` compares what the cloud reports, `read-back` what it returns",
)
.default("head");
static CLAIM_LEASE: Setting = Setting::new(
    "archive.claim_lease",
    "how long a claimed segment stays a worker's without a sign of life",
)
.default("8s");
static CLAIM_RENEW: Setting = Setting::new(
    "archive.claim_renew",
    "how often claims are renewed; at most a third of the lease",
)
.default("2s");
static CLAIM_BATCH: Setting =
    Setting::new("archive.claim_batch", "segments claimed by one statement").default("16");
static MEMORY_LIMIT: Setting = Setting::new(
    "archive.memory_limit",
    "memory for packed segments in flight, per worker; `auto` is 16 MiB for each of `worker.pack_threads` and 16 more",
)
.default("auto");
static STREAMING_THRESHOLD: Setting = Setting::new(
    "archive.streaming_threshold",
    "segments above it are streamed and sent in parts; at most 64MiB",
)
.default("64MiB");
static NOT_YET: Setting = Setting::new(
    "archive.not_yet",
    "how long a file that is short or unreadable may be somebody's copy at work",
)
.default("60s");
static DELETE_AFTER_ONE_COPY_ABOVE: Setting = Setting::new(
    "archive.delete_after_one_copy_above",
    "use of the file system above which one verified copy is enough to delete the local file; `none` waits for all",
)
.default("none");
static RETRY_BASE: Setting = Setting::new(
    "archive.retry_base",
    "delay before a failed copy is tried again; doubles with each failure",
)
.default("2s");
static RETRY_MAX: Setting =
    Setting::new("archive.retry_max", "the longest of these delays").default("30s");

pub(crate) const SETTINGS: &[&Setting] = &[
    &LEVEL,
    &VERIFY,
    &CLAIM_LEASE,
    &CLAIM_RENEW,
    &CLAIM_BATCH,
    &MEMORY_LIMIT,
    &STREAMING_THRESHOLD,
    &NOT_YET,
    &DELETE_AFTER_ONE_COPY_ABOVE,
    &RETRY_BASE,
    &RETRY_MAX,
];

/// The largest file that is packed in one buffer.
const LARGEST_WHOLE: u64 = 64 << 20;

#[derive(Clone, Debug)]
pub struct Archive {
    /// 1 to 9.
    pub level: u8,
    pub verify: VerifyMode,
    pub claim_lease: Duration,
    /// At most a third of the lease.
    pub claim_renew: Duration,
    pub claim_batch: usize,
    /// Bytes, at least the streaming threshold; `None` leaves it to the number of threads.
    pub memory_limit: Option<u64>,
    pub streaming_threshold: u64,
    pub not_yet: Duration,
    pub delete_after_one_copy_above: Option<Share>,
    pub retry_base: Duration,
    pub retry_max: Duration,
}

impl Section for Archive {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let level = reader.value(&LEVEL, value::between(1, 9));
        let verify = reader.value(&VERIFY, verify_mode);
        let (tick, hour) = (Duration::from_millis(100), Duration::from_secs(3600));
        let span = || value::duration(tick, hour);
        let claim_lease = reader.value(&CLAIM_LEASE, span());
        let claim_renew = reader.value(&CLAIM_RENEW, span());
        let claim_batch = reader.value(&CLAIM_BATCH, value::between(1, 1_000));
        let memory_limit = reader.value(&MEMORY_LIMIT, memory);
        let streaming_threshold = reader.value(
            &STREAMING_THRESHOLD,
            value::bytes_between(1 << 20, LARGEST_WHOLE),
        );
        let not_yet = reader.value(&NOT_YET, span());
        let one_copy = reader.value(&DELETE_AFTER_ONE_COPY_ABOVE, high_water);
        let retry_base = reader.value(&RETRY_BASE, span());
        let retry_max = reader.value(&RETRY_MAX, span());
        // Pairs are compared before anything is missed, so that an operator
        // hears of them in the same breath.
        let renewed = in_order(
            reader,
            claim_renew.map(|renew| renew * 3),
            claim_lease,
            Wrong {
                setting: &CLAIM_RENEW,
                message: "more than a third of `archive.claim_lease`: one slow answer would lose a claim",
                hint: "raise the lease or renew more often",
            },
        );
        // A segment below the threshold is in memory as a whole once it is packed.
        let fits = in_order(
            reader,
            streaming_threshold,
            memory_limit.flatten(),
            Wrong {
                setting: &MEMORY_LIMIT,
                message: "less than `archive.streaming_threshold`: one segment would not fit",
                hint: "raise the limit or stream smaller segments",
            },
        );
        let ordered = in_order(
            reader,
            retry_base,
            retry_max,
            Wrong {
                setting: &RETRY_BASE,
                message: "longer than `archive.retry_max`",
                hint: "lower it, or raise retry_max",
            },
        );
        let archive = Self {
            level: level?,
            verify: verify?,
            claim_lease: claim_lease?,
            claim_renew: claim_renew?,
            claim_batch: claim_batch?,
            memory_limit: memory_limit?,
            streaming_threshold: streaming_threshold?,
            not_yet: not_yet?,
            delete_after_one_copy_above: one_copy?,
            retry_base: retry_base?,
            retry_max: retry_max?,
        };
        (renewed && fits && ordered).then_some(archive)
    }
}

struct Wrong {
    setting: &'static Setting,
    message: &'static str,
    hint: &'static str,
}

/// Whether the first is at most the second; one that is missing was told.
fn in_order<T: PartialOrd>(
    reader: &mut Reader<'_>,
    least: Option<T>,
    most: Option<T>,
    wrong: Wrong,
) -> bool {
    if !matches!((least, most), (Some(least), Some(most)) if least > most) {
        return true;
    }
    let subject = reader.subject(wrong.setting);
    reader.problem(&subject, wrong.message, wrong.hint);
    false
}

fn verify_mode(text: &str) -> Result<VerifyMode, Refusal> {
    text.parse().map_err(|_| {
        let message = format!("`{text}` is not a way to verify");
        Refusal::new(message, "write head or read-back")
    })
}

fn memory(text: &str) -> Result<Option<u64>, Refusal> {
    if text == "auto" {
        return Ok(None);
    }
    value::bytes(16 << 20)(text).map(Some)
}

fn high_water(text: &str) -> Result<Option<Share>, Refusal> {
    if matches!(text, "none" | "off") {
        return Ok(None);
    }
    value::share(text).map(Some)
}
