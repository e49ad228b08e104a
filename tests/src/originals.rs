//! What PostgreSQL handed over, remembered by the test, and the comparison of
//! what a cloud holds with it, byte for byte.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::clouds::Bucket;
use crate::postgres::Postgres;

/// Names and hashes of the files that were handed over.
#[derive(Debug, Default, Clone)]
pub struct Originals {
    files: BTreeMap<String, Original>,
}

/// One file as it was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// SHA-256, 64 hex digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
}

impl Original {
    fn of(bytes: &[u8]) -> Original {
        Original {
            sha256: hex::encode(Sha256::digest(bytes)),
            size: bytes.len() as u64,
        }
    }
}

impl Originals {
    /// Remembers a file.
    pub fn remember(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.into(), Original::of(bytes));
    }

    /// Expects a file no more: it may go, or was lost to a test's own hand.
    pub fn forget(&mut self, name: &str) {
        self.files.remove(name);
    }

    /// Remembers what a server handed over successfully, read from its `pg_wal`
    /// (the servers of a world keep it all there).
    #[track_caller]
    pub fn remember_archived_by(&mut self, server: &Postgres) {
        let pg_wal = server.pg_wal();
        let mut found = 0;
        for entry in list(&pg_wal.join("archive_status")) {
            let Some(name) = entry.strip_suffix(".done") else {
                continue;
            };
            if let Ok(bytes) = std::fs::read(pg_wal.join(name)) {
                self.remember(name, &bytes);
                found += 1;
            }
        }
        assert!(found > 0, "the server has handed over nothing");
    }

    /// Names, in order.
    pub fn names(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<&Original> {
        self.files.get(name)
    }

    /// Compares every object under `prefix` with what was handed over: each
    /// file is there once, unpacks to the same bytes, is an ordinary gzip file
    /// without name or time, and nothing else is there but walferry's own marks.
    pub fn compare(&self, bucket: &Bucket, prefix: &str) -> Result<(), String> {
        if self.files.is_empty() {
            return Err("nothing was handed over: nothing would be compared".into());
        }
        let mut wrong = Vec::new();
        let mut missing = self.files.clone();
        for key in bucket.keys(prefix) {
            let name = key
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(".gz"));
            let Some(original) = name.and_then(|name| missing.remove(name)) else {
                if !key.starts_with(&format!("{prefix}walferry-")) {
                    wrong.push(format!("{key}: nobody handed that over"));
                }
                continue;
            };
            let Some(answer) = bucket.get(&key) else {
                wrong.push(format!("{key}: listed and not there"));
                continue;
            };
            if let Err(error) = same(&original, &answer.body) {
                wrong.push(format!("{key}: {error}"));
            }
        }
        wrong.extend(missing.keys().map(|name| format!("{name}: missing")));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("bucket {}: {}", bucket.name(), wrong.join("; ")))
        }
    }
}

/// Unpacks one gzip file completely.
pub fn gunzip(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    // Several members are one file (RFC 1952, 2.2); anything else behind them is an error.
    MultiGzDecoder::new(packed)
        .read_to_end(&mut plain)
        .map_err(|error| format!("does not unpack: {error}"))?;
    Ok(plain)
}

fn same(original: &Original, packed: &[u8]) -> Result<(), String> {
    // RFC 1952: magic, method 8, flags, four bytes of time.
    let [0x1f, 0x8b, 8, flags, time @ ..] = packed else {
        return Err("not a gzip file".into());
    };
    if *flags != 0 || !time.starts_with(&[0; 4]) {
        return Err(format!(
            "gzip flags {flags:#x} and time {:?}: a name or a time is in it",
            &time[..4]
        ));
    }
    let found = Original::of(&gunzip(packed)?);
    if found == *original {
        Ok(())
    } else {
        Err(format!("holds {found:?}, handed over was {original:?}"))
    }
}

fn list(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("list {}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
