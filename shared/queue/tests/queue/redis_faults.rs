use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use walferry_queue::{ConsumerHealth, Enqueued, JobState, Outcome, QueueError, QueueSettings};

use crate::proxy::Proxy;
use crate::world::{Diary, Worker, World, eventually, job, queue_on, quick};

fn gated(queue: &walferry_queue::Queue, diary: &Diary, gate: &Arc<Semaphore>) -> Worker {
    let (notes, door) = (diary.clone(), Arc::clone(gate));
    Worker::start(queue, 1, Duration::from_secs(5), move |job, _| {
        notes.write(format!("{} {}", job.name, job.attempt));
        let door = Arc::clone(&door);
        async move {
            door.acquire().await.unwrap().forget();
            Outcome::Done
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_restart_in_the_middle_of_a_job_is_survived() {
    let mut world = World::with(QueueSettings::default());
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let worker = gated(&world.queue, &diary, &gate);
    let id = world.add("through-the-restart").await;
    diary.until(1).await;
    world.redis.kill();
    eventually("the worker notices", async || worker.health.redis_is_down()).await;
    assert_eq!(worker.health.alive(), Ok(()));
    gate.add_permits(1);
    world.redis.revive();
    let done = world.until_state(&id, JobState::Done).await;
    assert_eq!(done.attempts, 1, "{done:?}");
    world.add("after").await;
    gate.add_permits(1);
    assert_eq!(diary.until(2).await, ["through-the-restart 1", "after 1"]);
    eventually("the worker is content", async || worker.health.ready().ok()).await;
    worker.stop().await;
}

trait RedisDown {
    fn redis_is_down(&self) -> Option<()>;
}

impl RedisDown for ConsumerHealth {
    fn redis_is_down(&self) -> Option<()> {
        self.ready()
            .err()
            .filter(|e| e.contains("no queue for"))
            .map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_of_two_seconds_costs_two_seconds_and_nothing_else() {
    let world = World::with(QueueSettings::default());
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let worker = gated(&world.queue, &diary, &gate);
    let id = world.add("through-the-stall").await;
    diary.until(1).await;
    let mut redis = world.redis.raw();
    let stall = std::thread::spawn(move || {
        redis::cmd("DEBUG")
            .arg("SLEEP")
            .arg(2)
            .exec(&mut redis)
            .unwrap();
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.add_permits(2);
    let next = world.add("during").await;
    for id in [&id, &next] {
        assert_eq!(world.until_state(id, JobState::Done).await.attempts, 1);
    }
    stall.join().unwrap();
    assert_eq!(diary.read(), ["through-the-stall 1", "during 1"]);
    eventually("the worker is content", async || worker.health.ready().ok()).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_started_before_redis_waits_for_it() {
    let mut world = World::new();
    world.redis.kill();
    let queue = queue_on(&world.redis, quick());
    let refused = queue.enqueue(job("lost")).await;
    assert!(
        matches!(refused, Err(QueueError::Unreachable { .. })),
        "{refused:?}"
    );
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(1)));
    let worker = gated(&queue, &diary, &gate);
    eventually("the worker notices", async || worker.health.redis_is_down()).await;
    assert_eq!(worker.health.alive(), Ok(()));
    world.redis.revive();
    let id = world.add("first").await;
    world.until_state(&id, JobState::Done).await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_whose_reply_was_lost_is_not_a_lost_job() {
    let world = World::new();
    let proxy = Proxy::before(world.redis.port).await;
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(9)));
    let patient = proxy.queue_that_waits(Duration::from_secs(5), quick());
    let worker = gated(&patient, &diary, &gate);
    eventually("the worker asks", async || worker.health.ready().ok()).await;
    // One claim is under way when the job comes; it takes it, and no reply returns.
    proxy.hold_orders();
    tokio::time::sleep(quick().poll * 4).await;
    let id = world.add("claimed-unheard").await;
    proxy.swallow_replies();
    proxy.release();
    world.until_state(&id, JobState::Leased).await;
    proxy.cut();
    let done = world.until_state(&id, JobState::Done).await;
    assert_eq!(done.attempts, 1);
    assert_eq!(diary.read(), ["claimed-unheard 1"]);
    assert_eq!(
        world.queue.stats().await.unwrap().counts.get("rescued"),
        None
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_arrives_after_its_connection_was_given_up_takes_nothing() {
    let world = World::new();
    let proxy = Proxy::before(world.redis.port).await;
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let worker = gated(&proxy.queue(quick()), &diary, &gate);
    eventually("the worker asks", async || worker.health.ready().ok()).await;
    // The next claim stays in the wire; the worker gives that connection up.
    proxy.hold_orders();
    for n in 1..=4 {
        world.add(&format!("job-{n}")).await;
    }
    // Over a new connection it takes two, one after the other.
    gate.add_permits(1);
    assert_eq!(diary.until(2).await, ["job-1 1", "job-2 1"]);
    proxy.release();
    // The late claim, and whatever else was in the wire, has been seen to.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stats = world.queue.stats().await.unwrap();
    assert_eq!((stats.leased, stats.ready), (1, 2));
    gate.add_permits(9);
    assert_eq!(diary.until(4).await[2..], ["job-3 1", "job-4 1"]);
    eventually("all are done", async || {
        (world.queue.stats().await.ok()?.done == 4).then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_whose_reply_was_lost_ends_the_job_once() {
    let world = World::new();
    let proxy = Proxy::before(world.redis.port).await;
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let worker = gated(&proxy.queue(quick()), &diary, &gate);
    // Redis knows the script by now: the order itself is what gets no reply.
    world.add("before").await;
    gate.add_permits(1);
    let id = world.add("done-unheard").await;
    diary.until(2).await;
    proxy.swallow_replies();
    gate.add_permits(1);
    world.until_state(&id, JobState::Done).await;
    proxy.cut();
    let next = world.add("next").await;
    gate.add_permits(1);
    world.until_state(&next, JobState::Done).await;
    assert_eq!(diary.read()[1..], ["done-unheard 1", "next 1"]);
    assert_eq!(world.queue.stats().await.unwrap().counts["done"], 3);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_died_without_a_word_are_replaced_in_time_to_keep_the_lease() {
    let world = World::new();
    let proxy = Proxy::before(world.redis.port).await;
    let (diary, gate) = (Diary::default(), Arc::new(Semaphore::new(0)));
    let worker = gated(&proxy.queue(quick()), &diary, &gate);
    let id = world.add("running").await;
    diary.until(1).await;
    proxy.hold_orders();
    tokio::time::sleep(quick().lease * 2).await;
    gate.add_permits(2);
    assert_eq!(world.until_state(&id, JobState::Done).await.attempts, 1);
    world.add("next").await;
    assert_eq!(diary.until(2).await, ["running 1", "next 1"]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enqueue_whose_reply_was_lost_adds_one_job() {
    let world = World::new();
    let proxy = Proxy::before(world.redis.port).await;
    let queue = proxy.queue(quick());
    // Redis knows the script by now: the order itself is what gets no reply.
    world.add("before").await;
    queue.ping().await.unwrap();
    proxy.swallow_replies();
    let pending = tokio::spawn(async move { queue.enqueue(job("once")).await });
    eventually("Redis has it", async || {
        (world.queue.stats().await.ok()?.ready == 2).then_some(())
    })
    .await;
    proxy.cut();
    let answer = pending.await.unwrap().unwrap();
    let ready = world.queue.list(JobState::Ready, 10).await.unwrap();
    assert_eq!(ready.len(), 2);
    assert_eq!(answer, Enqueued::Added(ready[1].id.clone()));
}
