//! What a run leaves behind, collected from outside.

use std::path::Path;

use walferry_tests::world::Program;
use walferry_tests::{World, process};

/// Name and content of each thing.
#[derive(Default)]
pub(super) struct Left(Vec<(String, Vec<u8>)>);

impl Left {
    pub(super) fn add(&mut self, what: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.push((what.into(), content.into()));
    }

    pub(super) fn all(&self) -> &[(String, Vec<u8>)] {
        &self.0
    }

    /// Each kind of thing was there to be searched, and held something.
    pub(super) fn check_complete(&self) {
        for kind in [
            "status when",
            "check with",
            "config check",
            "a panic",
            "page /metrics",
            "page /readyz",
            "page /healthz",
            "arguments of worker",
            "arguments of scheduler",
            "log worker-",
            "log scheduler-",
            "Redis",
            "catalog",
            "archive directory",
            "object of r2",
            "object of b2",
        ] {
            let mut these = self.0.iter().filter(|(what, _)| what.starts_with(kind));
            assert!(these.any(|(_, content)| content.len() > 8), "no {kind}");
        }
    }

    pub(super) fn pages(&mut self, programs: &[Program]) {
        for program in programs {
            for page in ["/metrics", "/readyz", "/healthz"] {
                let (_, body) = program.http(page).expect("an answer");
                self.add(format!("page {page} of {}", program.name()), body);
            }
        }
    }

    pub(super) fn arguments(&mut self, programs: &[Program]) {
        for program in programs {
            let path = format!("/proc/{}/cmdline", program.process().id());
            let arguments = std::fs::read(&path).expect("the arguments of a program");
            self.add(format!("arguments of {}", program.name()), arguments);
        }
    }

    /// Redis, catalog, buckets and the archive directory, all of it.
    pub(super) fn servers(&mut self, world: &World) {
        let redis = world.redis();
        // A dump as it is, not packed.
        redis.command(&["CONFIG", "SET", "rdbcompression", "no"]);
        for key in redis.strings(&["KEYS", "*"]) {
            let dump = redis.command(&["DUMP", &key]);
            // Ended in the meantime, or bytes.
            if let redis::Value::BulkString(bytes) = dump {
                self.add(format!("Redis {key}"), [key.as_bytes(), &bytes].concat());
            }
        }
        let mut dump = world.catalog().client("pg_dump");
        let dump = process::run(dump.args(["--inserts", "walferry"])).ok();
        assert!(dump.contains("INSERT INTO public.wal_files"), "{dump}");
        self.add("catalog", dump);
        for cloud in world.clouds() {
            for key in cloud.bucket().keys("") {
                let answer = cloud.bucket().get(&key).expect("listed");
                let head = format!("{key} {:?} ", answer.headers);
                let all = [head.as_bytes(), &answer.body[..]].concat();
                self.add(format!("object of {}: {key}", cloud.name()), all);
            }
        }
        self.folder("archive directory", &world.archive());
    }

    /// What our programs wrote; a server's own log is its own.
    pub(super) fn logs(&mut self, world: &World) {
        let folder = world.folder().join("logs");
        for name in world.files_in(&folder) {
            if name.starts_with("worker") || name.starts_with("scheduler") {
                let content = std::fs::read(folder.join(&name)).expect("a log");
                self.add(format!("log {name}"), content);
            }
        }
    }

    fn folder(&mut self, what: &str, folder: &Path) {
        for entry in std::fs::read_dir(folder).expect("list a folder").flatten() {
            let path = entry.path();
            let name = format!("{what}: {}", path.display());
            if path.is_dir() {
                self.folder(what, &path);
            } else if let Ok(content) = std::fs::read(&path) {
                self.add(&name, [name.as_bytes(), &content[..]].concat());
            }
        }
    }
}
