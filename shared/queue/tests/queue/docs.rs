//! `docs/queue.md` against a live Redis: every key, its type, every field, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use walferry_queue::{IfRunning, JobState, NewJob, Outcome};

use crate::world::{Diary, World, job};

const DOC: &str = include_str!("../../../../docs/queue.md");

/// A kind of key: `task:` for `{q}:task:<id>`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Kind {
    of: String,
    fields: BTreeSet<String>,
}

type Kinds = BTreeMap<String, Kind>;

/// Rows of the table that follows `heading`.
fn table<'a>(heading: &str) -> impl Iterator<Item = Vec<&'a str>> {
    let (_, after) = DOC.split_once(heading).expect(heading);
    after
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
}

fn in_backticks(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn documented() -> Kinds {
    let mut kinds = Kinds::new();
    for row in table("## Keys") {
        let name = row[0].trim_matches('`').strip_prefix("{q}:").expect(row[0]);
        let name = name.split('<').next().expect("a name");
        let of = match row[1].split(',').next() {
            Some("sorted set") => "zset",
            Some("channel") => continue,
            Some(other) => other,
            None => panic!("{row:?}"),
        };
        let fields = match (of, name) {
            ("hash", "task:") => table("Fields of `{q}:task:<id>`")
                .flat_map(|row| in_backticks(row[0]))
                .collect(),
            ("hash", _) => in_backticks(row[2]),
            _ => BTreeSet::new(),
        };
        let of = of.to_owned();
        kinds.insert(name.to_owned(), Kind { of, fields });
    }
    kinds
}

/// Adds what lies in Redis now.
fn look(world: &World, seen: &mut Kinds) {
    let mut redis = world.redis.raw();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
    for key in keys {
        let name = key.strip_prefix("{test-queue}:").expect("one hash tag");
        let name = match name.split_once(':') {
            Some((kind, _)) => format!("{kind}:"),
            None => name.to_owned(),
        };
        let of: String = redis::cmd("TYPE").arg(&key).query(&mut redis).unwrap();
        if of == "none" {
            continue; // It ran out in between.
        }
        let kind = seen.entry(name).or_default();
        if of == "hash" {
            let fields: Vec<String> = redis::cmd("HKEYS").arg(&key).query(&mut redis).unwrap();
            kind.fields.extend(fields);
        }
        kind.of = of;
    }
}

fn keyed(key: &str) -> NewJob {
    NewJob {
        unique_key: Some(key.to_owned()),
        if_running: IfRunning::Again,
        ..job(key)
    }
}

/// Every way that a job can go, seen at its turns.
#[tokio::test(flavor = "multi_thread")]
async fn every_key_its_type_and_every_field_is_documented_and_none_is_made_up() {
    let world = World::new();
    let mut seen = Kinds::new();
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let (notes, door) = (diary.clone(), Arc::clone(&gate));
    let work = move |job: walferry_queue::Job, _| {
        notes.write(job.name.as_str());
        let door = Arc::clone(&door);
        async move {
            match job.name.as_str() {
                "fails" => Outcome::Retry {
                    error: "no".into(),
                    after: None,
                },
                "runs" => {
                    door.acquire().await.unwrap().forget();
                    Outcome::Done
                }
                "crashes" if job.attempt == 1 => std::future::pending().await,
                _ => Outcome::Done,
            }
        }
    };
    // A worker that crashes: its lease runs out and another one finds the job.
    let crashed = world.add("crashes").await;
    let worker = world.worker(work.clone());
    diary.until(1).await;
    worker.task.abort();
    let worker = world.worker_with_slots(2, work);
    world.until_state(&crashed, JobState::Done).await;

    let mut failing = job("fails");
    failing.max_attempts = Some(2);
    let failing = world.add_job(failing).await;
    world.until_state(&failing, JobState::Dead).await;
    let unknown = world.add("from-the-future").await;
    world.until_state(&unknown, JobState::Dead).await;
    let mut later = job("later");
    later.delay = Duration::from_secs(600);
    let later = world.add_job(later).await;

    let running = world.add_job(keyed("runs")).await;
    world.until_state(&running, JobState::Leased).await;
    world.queue.enqueue(keyed("runs")).await.unwrap();
    world.queue.pause().await.unwrap();
    world.add("waits").await;
    look(&world, &mut seen);
    let channels: Vec<String> = redis::cmd("PUBSUB")
        .arg("CHANNELS")
        .query(&mut world.redis.raw())
        .unwrap();

    // It does not listen, and is dropped when its grace is over.
    world.queue.cancel(&running).await.unwrap();
    world.until_state(&running, JobState::Cancelled).await;
    world.queue.cancel(&later).await.unwrap();
    look(&world, &mut seen);
    worker.stop().await;

    assert_eq!(seen, documented());
    let listed: Vec<String> = table("## Keys")
        .filter(|row| row[1] == "channel")
        .map(|row| row[0].trim_matches('`').replace("{q}", "{test-queue}"))
        .collect();
    assert_eq!(channels, listed);
}

#[test]
fn people_who_come_from_celery_find_its_terms() {
    let terms: String = table("## For people who come from Celery")
        .map(|row| format!("{}\n", row[0]))
        .collect();
    for term in [
        "@app.task",
        "-Q",
        "worker_prefetch_multiplier",
        "priority",
        "countdown",
        "max_retries",
        "acks_late",
        "visibility_timeout",
        "task_time_limit",
        "revoke",
        "beat",
        "Flower",
        "purge",
        "warm shutdown",
    ] {
        assert!(terms.contains(term), "{term} in\n{terms}");
    }
}
