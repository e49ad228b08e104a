//! How the job queue behaves; the defaults are those of `walferry-queue`.
//!
//! Reads: `WALFERRY_QUEUE_NAME`, `WALFERRY_QUEUE_LEASE`, `…_RENEW`, `…_POLL`,
//! `…_RETRY_BASE`, `…_RETRY_MAX`, `…_MAX_ATTEMPTS`, `…_HANDLER_TIMEOUT`,
//! `…_UNKNOWN_JOB_DELAY`, `…_UNKNOWN_JOB_LIMIT`, `…_DONE_CAP`, `…_DEAD_CAP`.

use std::time::Duration;

use walferry_queue::{QueueName, QueueSettings};

use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value::{self, span_text};

pub(super) static NAME: Setting = Setting::new(
    "queue.name",
    "the queue of periodic jobs, and of every cluster that names none",
)
.default("backups");

macro_rules! of_queue {
    ($id:ident, $field:ident, $text:expr, $about:literal) => {
        static $id: Setting = Setting::new(concat!("queue.", stringify!($field)), $about)
            .default_of(|| $text(QueueSettings::default().$field));
    };
}

of_queue!(
    LEASE,
    lease,
    span_text,
    "how long a job stays a worker's without a sign of life; a crashed worker's job runs elsewhere after it"
);
of_queue!(
    RENEW,
    renew,
    span_text,
    "how often leases are renewed; at most a third of the lease"
);
of_queue!(
    POLL,
    poll,
    span_text,
    "the longest that an idle worker goes without asking for a job"
);
of_queue!(
    RETRY_BASE,
    retry_base,
    span_text,
    "delay before the second attempt; doubles with each further one"
);
of_queue!(
    RETRY_MAX,
    retry_max,
    span_text,
    "the longest delay between two attempts"
);
of_queue!(
    MAX_ATTEMPTS,
    max_attempts,
    |n: u32| n.to_string(),
    "attempts before a job goes to the dead letters"
);
of_queue!(
    HANDLER_TIMEOUT,
    handler_timeout,
    span_text,
    "a job that takes longer is cancelled, as a failed attempt"
);
of_queue!(
    UNKNOWN_JOB_DELAY,
    unknown_job_delay,
    span_text,
    "for how long a job that this build does not know is given back"
);
of_queue!(
    UNKNOWN_JOB_LIMIT,
    unknown_job_limit,
    span_text,
    "a job that nobody knew for so long goes to the dead letters"
);
of_queue!(
    DONE_CAP,
    done_cap,
    |n: u32| n.to_string(),
    "finished jobs kept for inspection"
);
of_queue!(
    DEAD_CAP,
    dead_cap,
    |n: u32| n.to_string(),
    "dead letters kept"
);

pub(crate) const SETTINGS: &[&Setting] = &[
    &NAME,
    &LEASE,
    &RENEW,
    &POLL,
    &RETRY_BASE,
    &RETRY_MAX,
    &MAX_ATTEMPTS,
    &HANDLER_TIMEOUT,
    &UNKNOWN_JOB_DELAY,
    &UNKNOWN_JOB_LIMIT,
    &DONE_CAP,
    &DEAD_CAP,
];

#[derive(Clone, Debug)]
pub struct QueueTuning {
    /// Of periodic jobs, and of clusters that name none.
    pub name: QueueName,
    pub settings: QueueSettings,
}

impl Section for QueueTuning {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let any = || value::duration(Duration::from_millis(10), Duration::from_secs(7 * 86_400));
        let name = reader.value(&NAME, name);
        let lease = reader.value(&LEASE, any());
        let renew = reader.value(&RENEW, any());
        let poll = reader.value(&POLL, any());
        let retry_base = reader.value(&RETRY_BASE, any());
        let retry_max = reader.value(&RETRY_MAX, any());
        let max_attempts = reader.value(&MAX_ATTEMPTS, value::between(1, 1_000));
        let handler_timeout = reader.value(&HANDLER_TIMEOUT, any());
        let unknown_job_delay = reader.value(&UNKNOWN_JOB_DELAY, any());
        let unknown_job_limit = reader.value(&UNKNOWN_JOB_LIMIT, any());
        let done_cap = reader.value(&DONE_CAP, value::between(0, 1_000_000));
        let dead_cap = reader.value(&DEAD_CAP, value::between(1, 1_000_000));
        let defaults = QueueSettings::default();
        let settings = QueueSettings {
            worker_stale: defaults.worker_stale.max(renew? * 3),
            lease: lease?,
            renew: renew?,
            poll: poll?,
            retry_base: retry_base?,
            retry_max: retry_max?,
            max_attempts: max_attempts?,
            handler_timeout: handler_timeout?,
            unknown_job_delay: unknown_job_delay?,
            unknown_job_limit: unknown_job_limit?,
            done_cap: done_cap?,
            dead_cap: dead_cap?,
            ..defaults
        };
        if let Err(error) = settings.validate() {
            reader.problem(
                "[queue]",
                error.to_string(),
                "change one of the two, or leave both at their defaults",
            );
            return None;
        }
        Some(Self {
            name: name?,
            settings,
        })
    }
}

pub(super) fn name(text: &str) -> Result<QueueName, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(
            format!("`{text}` is not a queue name"),
            "write it as backups",
        )
    })
}
