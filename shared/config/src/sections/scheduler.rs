//! When the scheduler enqueues what.
//!
//! Reads: `WALFERRY_SCHEDULER_ARCHIVE_INTERVAL`, `…_CRON_<JOB>`,
//! `…_HEALTH_ADDRESS`, `…_HEALTH_ADDRESS_FILE`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cron::Schedule;

use crate::config::Config;
use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::{Preset, Setting};
use crate::value;

/// The group of the periodic jobs' expressions.
pub(super) const CRON: &str = "scheduler.cron";

static ARCHIVE_INTERVAL: Setting = Setting::new(
    "scheduler.archive_interval",
    "how often archiving is enqueued, as the net below the directory watch",
)
.default("300s");
static CRON_OF_JOB: Setting = Setting::new(
    "scheduler.cron.*",
    "when the periodic job of that name is enqueued: a cron expression in UTC, week days by name, `off` for never",
)
.default_by_name(&[("base-backup", "30 2 * * *"), ("retention", "17 * * * *")]);
static HEALTH_ADDRESS: Setting = Setting::new(
    "scheduler.health_address",
    "where /healthz, /readyz and /metrics listen",
)
.default("127.0.0.1:9848");
static HEALTH_ADDRESS_FILE: Setting = Setting::new(
    "scheduler.health_address_file",
    "file to write the bound address to, for port 0",
);

pub(crate) const SETTINGS: &[&Setting] = &[
    &ARCHIVE_INTERVAL,
    &CRON_OF_JOB,
    &HEALTH_ADDRESS,
    &HEALTH_ADDRESS_FILE,
];

#[derive(Clone, Debug)]
pub struct Scheduler {
    pub archive_interval: Duration,
    /// A job that is off is not in it.
    pub cron: BTreeMap<PeriodicJob, Schedule>,
    pub health_address: SocketAddr,
    pub health_address_file: Option<PathBuf>,
}

/// A job that comes on a cron expression. All of them are here and nowhere else,
/// so that `config check` and the scheduler cannot disagree about a name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PeriodicJob {
    BaseBackup,
    Retention,
}

impl PeriodicJob {
    const ALL: [Self; 2] = [Self::BaseBackup, Self::Retention];

    const fn name(self) -> &'static str {
        match self {
            Self::BaseBackup => "base-backup",
            Self::Retention => "retention",
        }
    }
}

impl Section for Scheduler {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
        let archive_interval = reader.value(&ARCHIVE_INTERVAL, value::duration(second, day));
        let cron = expressions(reader);
        let health_address = reader.value(&HEALTH_ADDRESS, value::address);
        let health_address_file = reader.optional(&HEALTH_ADDRESS_FILE, value::absolute_path);
        Some(Self {
            archive_interval: archive_interval?,
            cron: cron?,
            health_address: health_address?,
            health_address_file: health_address_file?,
        })
    }
}

/// Jobs with a default expression, and those that the configuration names.
pub(super) fn job_names(config: &Config) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = config
        .mentioned(CRON)
        .into_iter()
        .map(str::to_owned)
        .collect();
    if let Preset::ByName(presets) = &CRON_OF_JOB.default {
        names.extend(presets.iter().map(|(name, _)| (*name).to_owned()));
    }
    names
}

fn expressions(reader: &mut Reader<'_>) -> Option<BTreeMap<PeriodicJob, Schedule>> {
    let mut good = true;
    let mut schedules = BTreeMap::new();
    for name in job_names(reader.config()) {
        let schedule = reader.value(CRON_OF_JOB.of(&name), expression);
        match (periodic_job(reader, &name), schedule) {
            (Some(job), Some(Some(schedule))) => drop(schedules.insert(job, schedule)),
            (Some(_), Some(None)) => {}
            (None, _) | (_, None) => good = false,
        }
    }
    good.then_some(schedules)
}

fn periodic_job(reader: &mut Reader<'_>, name: &str) -> Option<PeriodicJob> {
    let job = PeriodicJob::ALL.into_iter().find(|job| job.name() == name);
    if job.is_none() {
        let known = PeriodicJob::ALL.map(PeriodicJob::name);
        reader.problem(
            &reader.subject(CRON_OF_JOB.of(name)),
            "no periodic job has this name",
            format!("the periodic jobs are: {}", known.join(", ")),
        );
    }
    job
}

/// Five fields as in a crontab, or six with seconds in front.
fn expression(text: &str) -> Result<Option<Schedule>, Refusal> {
    if matches!(text, "off" | "none") {
        return Ok(None);
    }
    let example = "write MINUTE HOUR DAY MONTH WEEKDAY, as 30 3 * * * for 03:30 UTC, or `off`";
    let fields: Vec<&str> = text.split_whitespace().collect();
    let (seconds, fields) = match fields.as_slice() {
        [_, _, _, _, _] => ("0", fields.as_slice()),
        [seconds, rest @ ..] if rest.len() == 5 => (*seconds, rest),
        _ => {
            return Err(Refusal::new(
                format!("`{text}` has not five or six fields"),
                example,
            ));
        }
    };
    // The `cron` crate counts week days from Sunday = 1, a crontab from
    // Sunday = 0: a number would mean another day than its author thinks.
    if fields[4].contains(|c: char| c.is_ascii_digit()) {
        return Err(Refusal::new(
            format!("`{text}` names a week day by number"),
            "write SUN, MON, TUE, WED, THU, FRI or SAT",
        ));
    }
    match Schedule::from_str(&format!("{seconds} {}", fields.join(" "))) {
        Ok(schedule) if schedule.upcoming(chrono::Utc).next().is_some() => Ok(Some(schedule)),
        Ok(_) => Err(Refusal::new(format!("`{text}` never comes"), example)),
        Err(_) => Err(Refusal::new(
            format!("`{text}` is not a cron expression"),
            example,
        )),
    }
}
