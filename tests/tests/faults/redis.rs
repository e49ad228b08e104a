//! What Redis can do: losing it loses time, never a segment.

use walferry_tests::{Cut, Wire, eventually, wait};

use crate::fault::Fault;
use crate::stage::Stage;

const DOWN: &str = r#"walferry_check_failing{check="redis:backups"}"#;
const CONSUMER: &str = r#"walferry_check_failing{check="consumer:backups"}"#;
const UNKNOWN: &str = r#"walferry_queue_jobs{queue="backups",state="unknown"}"#;

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        away(
            Fault::new(
                "redis.down_at_start",
                "programs start, say so and wait; archived once it is there",
            )
            .before(|stage| stage.world.redis_mut().kill()),
            "cannot be reached",
        )
        .end(|stage| stage.world.redis_mut().start_again()),
        away(
            Fault::new(
                "redis.restarted",
                "the upload under way ends; the rest waits for Redis",
            )
            .begin(|stage| while_uploading(stage, |stage| stage.world.redis_mut().kill())),
            "cannot be reached",
        )
        .end(|stage| stage.world.redis_mut().start_again()),
        stalled(),
        wiped(),
        memory_full(),
        garbage(),
        newer_job(),
        clock("redis.clock_an_hour_ahead", 3600, "ahead"),
        clock("redis.clock_an_hour_back", -3600, "back"),
        failover(),
        reply_lost(),
    ]
}

/// Who tells of a Redis that does not answer.
fn away(fault: Fault, cause: &'static str) -> Fault {
    fault
        .told("/readyz names redis:backups", |stage| {
            let (status, body) = stage.running_worker().http("/readyz")?;
            wait::is(status == 503 && body.contains(r#""redis:backups":"#), body)
        })
        .told_by_readyz(cause)
        .told_by_metric(DOWN)
        .told_by_check("redis-down", "critical", cause)
        .told_by_status("UNKNOWN redis: ")
}

/// Does something while an upload is under way, and lets it go on.
pub(crate) fn while_uploading(stage: &mut Stage, strike: impl FnOnce(&mut Stage)) {
    let gate = stage.world.cloud("r2").proxy().hold("PUT", ".gz");
    stage.hand_over(2);
    gate.await_waiting(1);
    strike(stage);
    gate.open();
}

/// The log of some worker has a line with this.
fn told_by_log(fault: Fault, text: &'static str) -> Fault {
    fault.told(format!("the log says: {text}"), move |stage| {
        let logs = stage.logs();
        wait::is(
            logs.iter().any(|log| log.contains(text)),
            "no such line".to_owned(),
        )
    })
}

/// Everything handed over so far is archived, though the fault lasts.
pub(crate) fn goes_on(stage: &mut Stage) {
    let names = stage.world.originals().names();
    eventually("all of it is archived meanwhile", || {
        let backups = stage.world.backups();
        let missing = names.iter().filter(|name| {
            backups
                .get(*name)
                .is_none_or(|backup| backup.status != "VERIFIED")
        });
        let missing: Vec<_> = missing.collect();
        wait::is(missing.is_empty(), format!("{missing:?}"))
    });
}

fn stalled() -> Fault {
    let fault = Fault::new(
        "redis.stalled",
        "no answer for 10 s and more: told, and worked on without a restart",
    )
    .begin(|stage| stage.world.redis_mut().process().freeze());
    away(fault, "")
        .meanwhile(|stage| {
            let worker = stage.running_worker();
            wait::throughout(std::time::Duration::from_secs(5), "alive", || {
                let alive = worker.http("/healthz")?;
                wait::is(alive.0 == 200, format!("{alive:?}"))
            });
        })
        .end(|stage| stage.world.redis_mut().process().thaw())
}

fn wiped() -> Fault {
    let fault = Fault::new(
        "redis.wiped",
        "jobs under way are begun anew; the log says that their leases are gone",
    )
    .begin(|stage| {
        while_uploading(stage, |stage| {
            stage.world.redis_mut().lose_everything();
            stage.running_worker().await_log("lease lost");
        })
    });
    told_by_log(fault, "lease lost").meanwhile(goes_on)
}

fn memory_full() -> Fault {
    Fault::new(
        "redis.memory_full",
        "takes no job, says OOM; nothing is dropped",
    )
    .begin(|stage| {
        stage
            .world
            .redis()
            .command(&["CONFIG", "SET", "maxmemory", "1"]);
    })
    .told_by_check("redis-refuses-writes", "critical", "OOM")
    .told_by_status("OOM")
    .told_by_readyz("OOM")
    .told_by_metric(CONSUMER)
    .end(|stage| {
        stage
            .world
            .redis()
            .command(&["CONFIG", "SET", "maxmemory", "0"]);
    })
}

/// Each key that a queue has, of another kind than it is, or with words for numbers.
fn garbage() -> Fault {
    Fault::new(
        "redis.garbage_in_each_key",
        "each is put aside and told; the queue goes on",
    )
    .begin(|stage| {
        while_uploading(stage, |stage| {
            let redis = stage.world.redis();
            for key in redis.strings(&["KEYS", "{backups}:*"]) {
                let kind: String =
                    redis::from_redis_value(redis.command(&["TYPE", &key])).expect("a kind");
                redis.command(&["DEL", &key]);
                if kind == "string" {
                    redis.command(&["RPUSH", &key, "garbage"]);
                } else {
                    redis.command(&["SET", &key, "garbage"]);
                }
            }
            for key in [
                "ready", "delayed", "leased", "dead", "done", "counts", "workers",
            ] {
                let key = format!("{{backups}}:{key}");
                redis.command(&["SET", &key, "garbage"]);
            }
            for key in ["seq", "clock"] {
                redis.command(&["SET", &format!("{{backups}}:{key}"), "garbage"]);
            }
        });
    })
    .told_by_check("queue-aside", "warning", "{backups}:aside:ready")
    .told_by_status("{backups}:aside:ready")
    .meanwhile(goes_on)
    .end(|stage| {
        let redis = stage.world.redis();
        for key in redis.strings(&["KEYS", "{backups}:aside:*"]) {
            redis.command(&["DEL", &key]);
        }
    })
    .after(|stage| {
        eventually("nobody speaks of it any more", || {
            let findings = stage.findings();
            let told = findings.iter().any(|one| one["code"] == "queue-aside");
            wait::is(!told, findings.clone())
        });
    })
}

const ENQUEUE: &str = concat!(
    include_str!("../../../shared/queue/src/scripts/common.lua"),
    include_str!("../../../shared/queue/src/scripts/enqueue.lua")
);

fn newer_job() -> Fault {
    Fault::new(
        "redis.job_of_a_newer_version",
        "given back unharmed until a newer worker comes; others go on",
    )
    .begin(|stage| {
        let payload = r#"{"name":"continuous-wal-archiving","version":99,"args":{}}"#;
        let arguments = ["newer", payload, "10", "5", "0", "", "0", "skip"];
        let words = [&["EVAL", ENQUEUE, "1", "{backups}"][..], &arguments].concat();
        stage.world.redis().command(&words);
    })
    .told_by_check("unknown-jobs", "warning", "newer version")
    .told_by_metric(UNKNOWN)
    .meanwhile(|stage| {
        goes_on(stage);
        let attempts = stage
            .world
            .redis()
            .integer(&["HGET", "{backups}:task:newer", "attempts"]);
        assert!(attempts <= 1, "no attempt is counted: {attempts}");
    })
    .end(|stage| {
        let cancelled = stage.world.cli(&["queue", "cancel", "newer"]);
        cancelled.ok();
    })
}

/// A worker dies with a lease, and Redis's clock jumps.
fn clock(name: &'static str, seconds: i64, way: &'static str) -> Fault {
    let outcome = match way {
        "ahead" => "leases and delays end early; told, and all goes on",
        _ => "leases and delays are cut to their length; told, and all goes on",
    };
    Fault::new(name, outcome)
        .before(|stage| stage.world.redis_mut().with_own_clock())
        .begin(move |stage| {
            while_uploading(stage, |stage| {
                stage.running_worker().kill();
                stage.world.redis().step_clock(seconds);
            });
            stage.worker(&[]);
        })
        .told_by_check("redis-clock", "warning", "s apart")
        .meanwhile(|stage| {
            goes_on(stage);
            stage.await_nothing_claimed();
        })
        .end(|stage| stage.world.redis().step_clock(0))
}

fn failover() -> Fault {
    let fault = Fault::new(
        "redis.failover_that_lost_the_last_second",
        "what it forgot is asked for again; nothing is archived twice",
    )
    .begin(|stage| {
        stage.world.redis().copy();
        stage.hand_over(2);
        goes_on(stage);
        while_uploading(stage, |stage| stage.world.redis_mut().fail_over());
    });
    told_by_log(fault, "cannot be reached").meanwhile(goes_on)
}

fn reply_lost() -> Fault {
    Fault::new(
        "redis.reply_lost_after_the_claim",
        "the claim is asked for again and yields the same job",
    )
    .workers(0)
    .begin(|stage| {
        let upstream = ([127, 0, 0, 1], stage.world.redis().port()).into();
        let wire = Wire::start(upstream, stage.world.runtime().handle());
        let url = format!("redis://127.0.0.1:{}/0", wire.port());
        let straight = stage.world.environment()["REDIS_URL"].clone();
        stage.world.set_variable("REDIS_URL", &url);
        stage.worker(&[]);
        stage.world.set_variable("REDIS_URL", &straight);
        wire.cut(Cut::Answer, "job", 3);
        stage.hand_over(1);
        stage.wire = Some(wire);
    })
    .told("three claims were lost", |stage| {
        let left = stage.wire.as_ref().map(Wire::left);
        wait::is(left == Some(0), format!("{left:?}"))
    })
    .meanwhile(|stage| {
        goes_on(stage);
        let log = stage.running_worker().log();
        assert!(log.contains("the queue does not answer"), "{log}");
    })
}
