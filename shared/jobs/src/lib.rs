//! What our jobs carry: one file per job, no queue in sight.
//!
//! A payload is a hint that carries an identity, not an instruction: the
//! handler of the same name (in the worker) reads the catalog and decides.
//! A field more or less is a new [`JobKind::VERSION`]: a worker that does not
//! know it gives the job back, so that a newer worker can take it.

mod backfill;
mod base_backup;
mod continuous_wal_archiving;
mod retention;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use backfill::Backfill;
pub use base_backup::BaseBackup;
pub use continuous_wal_archiving::ContinuousWalArchiving;
pub use retention::Retention;

/// A job's name, version, priority and payload, as they travel.
pub trait JobKind: Serialize + DeserializeOwned {
    /// The name written into the queue; never reused for another meaning.
    const NAME: &'static str;
    /// Raised with every change of the payload's shape.
    const VERSION: u32;
    /// 0 to 10; 10 is taken first.
    const PRIORITY: u8;

    /// The payload as JSON, to be enqueued under [`Self::NAME`].
    fn to_args(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("payloads are plain structs of strings and numbers")
    }

    /// Reads a payload back.
    ///
    /// # Errors
    /// When `version` is not one that this build reads, or when `args` has
    /// another shape: such a job belongs to the dead letters, not to a loop.
    fn from_args(version: u32, args: serde_json::Value) -> Result<Self, PayloadError> {
        if !Self::reads(version) {
            return Err(PayloadError::Version {
                name: Self::NAME,
                version,
                known: Self::VERSION,
            });
        }
        serde_json::from_value(args).map_err(|source| PayloadError::Shape {
            name: Self::NAME,
            version,
            source,
        })
    }

    /// Whether this build reads payloads of `version`.
    fn reads(version: u32) -> bool {
        version == Self::VERSION
    }
}

/// Whether any job of this build has that name and reads that version.
pub fn knows(name: &str, version: u32) -> bool {
    fn is<J: JobKind>(name: &str, version: u32) -> bool {
        name == J::NAME && J::reads(version)
    }
    is::<ContinuousWalArchiving>(name, version)
        || is::<Retention>(name, version)
        || is::<Backfill>(name, version)
        || is::<BaseBackup>(name, version)
}

/// A payload that this build cannot read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Another build wrote it.
    #[error("job `{name}` has payload version {version}, this build reads version {known}")]
    Version {
        name: &'static str,
        version: u32,
        known: u32,
    },
    /// The JSON has another shape.
    #[error("payload of job `{name}` version {version} has another shape")]
    Shape {
        name: &'static str,
        version: u32,
        #[source]
        source: serde_json::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survives_the_journey<J: JobKind + PartialEq + std::fmt::Debug>(job: &J) {
        let text = serde_json::to_string(&job.to_args()).unwrap();
        let read = J::from_args(J::VERSION, serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(&read, job);
        assert!(knows(J::NAME, J::VERSION));
        assert!(J::PRIORITY <= 10);
    }

    #[test]
    fn every_payload_survives_the_journey() {
        survives_the_journey(&ContinuousWalArchiving::everything());
        survives_the_journey(&ContinuousWalArchiving::follow_up("main", 3));
        survives_the_journey(&Retention {});
        survives_the_journey(&BaseBackup {
            cluster: "main".into(),
        });
        survives_the_journey(&Backfill {
            cluster: "main".into(),
            directory: "/var/lib/postgresql/old".into(),
            from: Some("000000010000000000000001".into()),
            to: None,
        });
    }

    #[test]
    fn a_missing_optional_field_is_none() {
        let read = ContinuousWalArchiving::from_args(1, serde_json::json!({})).unwrap();
        assert_eq!(read, ContinuousWalArchiving::everything());
    }

    #[test]
    fn a_newer_version_is_not_guessed_at() {
        let error = Retention::from_args(2, serde_json::json!({})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "job `retention` has payload version 2, this build reads version 1"
        );
        assert!(!knows("retention", 2));
        assert!(!knows("vacuum", 1));
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let args = serde_json::json!({ "clutser": "main" });
        assert!(ContinuousWalArchiving::from_args(1, args).is_err());
    }
}
