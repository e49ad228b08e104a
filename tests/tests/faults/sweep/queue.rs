//! Points of the queue backend: enqueueing, claiming, handing out, renewing, acknowledging.

use super::{Scenario, WORKER, await_death, start_victim};
use crate::stage::Stage;

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    part: "queue",
    die: |stage, point| match point {
        // The scheduler enqueues its slot.
        "queue.enqueue.before" | "queue.enqueue.after" => {
            stage.hand_over(1);
            let victim = start_victim(stage, "scheduler", point);
            await_death(&victim, point);
        }
        // A job that lasts long enough for its lease to be renewed.
        "queue.renew.after" => {
            let gate = stage.world.cloud("r2").proxy().hold("PUT", ".gz");
            stage.hand_over(1);
            let victim = start_victim(stage, "worker", point);
            await_death(&victim, point);
            gate.open();
        }
        _ => (WORKER.die)(stage, point),
    },
    restart: |stage| stage.start(1),
    after: |stage| {
        let dead = stage
            .world
            .cli(&["--json", "queue", "ls", "--state", "dead"])
            .json();
        assert_eq!(dead, serde_json::json!([]), "no job became a dead letter");
    },
    build: Stage::builder,
    ..WORKER
}];
