//! What lies in Redis.

use std::fmt::Debug;

use serde_json::Value;
use walferry_jobs::{Backfill, ContinuousWalArchiving, JobKind, Retention};
use walferry_queue::{Envelope, QueueName};

pub(crate) fn job(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(name) = text.parse::<QueueName>()
    {
        assert_eq!(name.as_str(), text, "one spelling");
        assert!(!text.contains(['{', '}', ':', '/', '.']));
    }
    let Ok(envelope) = Envelope::parse(bytes) else {
        return;
    };
    let again = Envelope::parse(envelope.to_json().as_bytes()).expect("as it was written");
    assert_eq!(
        (&again.name, again.version),
        (&envelope.name, envelope.version)
    );
    // A fraction may change its last digit on the way; no payload of ours has one.
    if !fraction(&envelope.args) {
        assert_eq!(again, envelope);
    }
    if let Ok(backfill) = Backfill::from_args(envelope.version, envelope.args.clone())
        && let Some(path) = backfill.whole_path()
    {
        assert!(path.is_absolute() && path.iter().all(|part| part != ".."));
    }
    payload::<ContinuousWalArchiving>(&envelope);
    payload::<Backfill>(&envelope);
    payload::<Retention>(&envelope);
}

fn payload<J: JobKind + PartialEq + Debug>(envelope: &Envelope) {
    let Ok(job) = J::from_args(envelope.version, envelope.args.clone()) else {
        return;
    };
    assert_eq!(envelope.version, J::VERSION, "no other version is guessed");
    let again = J::from_args(J::VERSION, job.to_args()).expect("as it was written");
    assert_eq!(again, job);
    // Nothing that is not of the payload's shape came through: it would be lost on the way.
    if let (Value::Object(given), Value::Object(kept)) = (&envelope.args, job.to_args()) {
        let lost = given
            .iter()
            .find(|(name, value)| !value.is_null() && kept.get(*name) != Some(*value));
        assert_eq!(lost, None, "{kept:?}");
    }
}

fn fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(fraction),
        Value::Object(values) => values.values().any(fraction),
        _ => false,
    }
}
