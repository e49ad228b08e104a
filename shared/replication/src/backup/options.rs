use crate::error::ReplicationError;

/// What PostgreSQL takes for MAX_RATE.
const RATES: std::ops::RangeInclusive<u64> = 32..=1_048_576;
/// MAXPGPATH, with its NUL.
const LONGEST_LABEL: usize = 1023;

/// How a base backup is to be taken. WAL is never included, a manifest always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseBackupOptions {
    /// Stands in the `backup_label` file and, of a primary's backup, in the archive. At most
    /// 1,023 bytes, no control characters.
    pub label: String,
    /// The checkpoint at once, with the load that it makes, instead of spread over most of
    /// `checkpoint_timeout`.
    pub fast_checkpoint: bool,
    /// The server sends no more than this many KiB per second: 32 to 1,048,576.
    pub max_rate: Option<u64>,
}

impl Default for BaseBackupOptions {
    fn default() -> Self {
        Self {
            label: "walferry".to_owned(),
            fast_checkpoint: true,
            max_rate: None,
        }
    }
}

impl BaseBackupOptions {
    pub(crate) fn command(&self, version: u32) -> Result<String, ReplicationError> {
        if self.label.len() > LONGEST_LABEL || self.label.chars().any(char::is_control) {
            return Err(ReplicationError::Argument {
                what: format!(
                    "a label has at most {LONGEST_LABEL} bytes and no control characters"
                ),
            });
        }
        if let Some(rate) = self.max_rate.filter(|rate| !RATES.contains(rate)) {
            return Err(ReplicationError::Argument {
                what: format!(
                    "a rate of {rate} KiB per second: PostgreSQL takes {} to {}",
                    RATES.start(),
                    RATES.end()
                ),
            });
        }
        let label = self.label.replace('\'', "''");
        Ok(if version >= 150_000 {
            self.current(&label)
        } else {
            self.of_14(&label)
        })
    }

    fn current(&self, label: &str) -> String {
        let checkpoint = if self.fast_checkpoint {
            "fast"
        } else {
            "spread"
        };
        let rate = self.max_rate;
        let rate = rate.map_or_else(String::new, |rate| format!(", MAX_RATE {rate}"));
        // With WAIT the server would not end the backup before its own archiver has handed
        // over the last segment of it: for ever, if archiving hangs, and on a standby with
        // archive_mode=on not at all. What counts is that the WAL is verified in a
        // repository, which we see there ourselves.
        format!(
            "BASE_BACKUP (LABEL '{label}', PROGRESS, CHECKPOINT '{checkpoint}', WAIT 'false', \
             MANIFEST 'yes', TABLESPACE_MAP{rate})"
        )
    }

    /// In the order of its grammar's rules; NOWAIT is WAIT 'false'.
    fn of_14(&self, label: &str) -> String {
        let fast = if self.fast_checkpoint { " FAST" } else { "" };
        let rate = self.max_rate;
        let rate = rate.map_or_else(String::new, |rate| format!(" MAX_RATE {rate}"));
        format!(
            "BASE_BACKUP LABEL '{label}' PROGRESS{fast} NOWAIT{rate} TABLESPACE_MAP MANIFEST 'yes'"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fast_checkpoint: bool, max_rate: Option<u64>, version: u32, expected: &str) {
        let options = BaseBackupOptions {
            label: "it's".to_owned(),
            fast_checkpoint,
            max_rate,
        };
        assert_eq!(options.command(version).unwrap(), expected);
    }

    #[test]
    fn each_version_gets_its_own_syntax() {
        check(
            true,
            None,
            180_006,
            "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'fast', WAIT 'false', MANIFEST 'yes', TABLESPACE_MAP)",
        );
        check(
            false,
            Some(1024),
            150_000,
            "BASE_BACKUP (LABEL 'it''s', PROGRESS, CHECKPOINT 'spread', WAIT 'false', MANIFEST 'yes', TABLESPACE_MAP, MAX_RATE 1024)",
        );
        check(
            true,
            Some(32),
            140_023,
            "BASE_BACKUP LABEL 'it''s' PROGRESS FAST NOWAIT MAX_RATE 32 TABLESPACE_MAP MANIFEST 'yes'",
        );
        check(
            false,
            None,
            140_023,
            "BASE_BACKUP LABEL 'it''s' PROGRESS NOWAIT TABLESPACE_MAP MANIFEST 'yes'",
        );
    }

    #[test]
    fn what_postgresql_would_refuse_is_refused_before() {
        let long = "x".repeat(1024);
        for (label, max_rate) in [
            ("line\nbreak", None),
            ("nul\0", None),
            (long.as_str(), None),
            ("good", Some(31)),
            ("good", Some(0)),
            ("good", Some(1_048_577)),
        ] {
            let options = BaseBackupOptions {
                label: label.to_owned(),
                max_rate,
                ..BaseBackupOptions::default()
            };
            let error = options.command(150_000).expect_err(label);
            assert!(
                matches!(error, ReplicationError::Argument { .. }),
                "{error}"
            );
        }
    }
}
