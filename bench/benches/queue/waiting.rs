//! Our calls with ten jobs waiting and with 100,000, and what a waiting job takes in memory.

use std::time::Instant;

use redis::{Connection, Script};
use walferry_bench::Report;
use walferry_bench::statistics::{Times, human};
use walferry_queue::{JobState, Queue};
use walferry_tests::redis_server::RedisServer;

use crate::Settings;
use crate::ours;

/// Jobs that wait in the small queue.
const FEW: u64 = 10;
/// Rows of a page: as many as the small queue has, so that both lists are as long.
const PAGE: usize = 10;
const CALLS: [&str; 7] = [
    "enqueue",
    "claim",
    "renew",
    "acknowledge",
    "list, a page",
    "show",
    "counts",
];

/// How often the two kinds of scripts take turns.
const TURNS: u64 = 10;

/// Each call's times, in the order of [`CALLS`].
type Calls = [Times; 7];

/// The queue's scripts as they are shipped, called without a worker around them.
struct Scripts {
    enqueue: Script,
    claim: Script,
    renew: Script,
    finish: Script,
}

impl Scripts {
    fn new(common: &str) -> Scripts {
        let script = |body: &str| Script::new(&[common, body].concat());
        Scripts {
            enqueue: script(include_str!(
                "../../../shared/queue/src/scripts/enqueue.lua"
            )),
            claim: script(include_str!("../../../shared/queue/src/scripts/claim.lua")),
            renew: script(include_str!("../../../shared/queue/src/scripts/renew.lua")),
            finish: script(include_str!("../../../shared/queue/src/scripts/finish.lua")),
        }
    }
}

const COMMON: &str = include_str!("../../../shared/queue/src/scripts/common.lua");

pub(crate) fn compare(report: &mut Report, settings: &Settings, redis: &RedisServer) {
    report.paragraph(&format!(
        "### Our calls with {} jobs waiting",
        settings.waiting
    ));
    let client = redis::Client::open(redis.url()).expect("a good URL");
    let mut connection = client.get_connection().expect("Redis runs");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let queue = ours::queue(&redis.url());
    let scripts = Scripts::new(COMMON);

    redis.command(&["FLUSHALL"]);
    fill(redis, &mut connection, &scripts, FEW, false);
    let unguarded = Scripts::new(&without_looking_at_kinds());
    let (mut few, mut bare, mut many) = (Calls::default(), Calls::default(), Calls::default());
    // In turn, so that a noisy moment does not fall on one of them only.
    for _ in 0..TURNS {
        let calls = settings.calls / TURNS;
        time(&mut few, &runtime, &queue, &mut connection, &scripts, calls);
        time(
            &mut bare,
            &runtime,
            &queue,
            &mut connection,
            &unguarded,
            calls,
        );
    }
    redis.command(&["FLUSHALL"]);
    let unique = fill(redis, &mut connection, &scripts, settings.waiting, true);
    redis.command(&["FLUSHALL"]);
    let plain = fill(redis, &mut connection, &scripts, settings.waiting, false);
    time(
        &mut many,
        &runtime,
        &queue,
        &mut connection,
        &scripts,
        settings.calls,
    );
    let waits = redis.integer(&["ZCARD", &format!("{{{}}}:ready", ours::QUEUE)]);
    assert_eq!(
        u64::try_from(waits).ok(),
        Some(settings.waiting),
        "the calls left as many jobs waiting as there were"
    );

    let mut worst = 0.0_f64;
    let rows: Vec<Vec<String>> = CALLS
        .iter()
        .zip(few.iter().zip(&many).zip(&bare))
        .map(|(call, ((few, many), bare))| {
            let ratio = quotient(many, few);
            worst = worst.max(ratio);
            vec![
                (*call).into(),
                human(few.percentile(50.0)),
                human(many.percentile(50.0)),
                format!("{ratio:.2}"),
                human(many.percentile(99.0)),
                human(bare.percentile(50.0)),
                format!("{:.0} %", (quotient(few, bare) - 1.0) * 100.0),
            ]
        })
        .collect();
    let with_few = format!("p50, {FEW} waiting");
    let with_many = format!("p50, {} waiting", settings.waiting);
    let head = [
        "call",
        &with_few,
        &with_many,
        "ratio",
        "p99",
        "p50 without the look at kinds",
        "its cost",
    ];
    report.paragraph(&format!(
        "{} calls each, over one connection. The last two columns are for {FEW} waiting, with scripts that \
         do not ask Redis for the kind of each key: what that guard costs.",
        settings.calls
    ));
    report.table(&head, &rows);
    report.goal(
        &format!(
            "{} jobs waiting make no call slower than twice",
            settings.waiting
        ),
        &format!("{worst:.2} times at most"),
        worst <= 2.0,
    );
    report.paragraph(&format!(
        "Redis's memory for each of {} waiting jobs: {plain:.0} bytes, {unique:.0} with a unique key.",
        settings.waiting
    ));
    redis.command(&["FLUSHALL"]);
}

/// The common part without its look at each key.
fn without_looking_at_kinds() -> String {
    let guard = "if not looked_at[full] then";
    assert!(COMMON.contains(guard), "the common script looks at kinds");
    COMMON.replace(guard, "if false then")
}

fn quotient(above: &Times, below: &Times) -> f64 {
    above.percentile(50.0).as_secs_f64() / below.percentile(50.0).as_secs_f64()
}

/// Enqueues so many; bytes of Redis's memory for each.
fn fill(
    redis: &RedisServer,
    connection: &mut Connection,
    scripts: &Scripts,
    jobs: u64,
    unique: bool,
) -> f64 {
    let before = crate::used_memory(redis);
    for number in 0..jobs {
        let id = format!("00000000-0000-7000-8000-{number:012}");
        let key = if unique {
            format!("continuous-wal-archiving:{number:08}")
        } else {
            String::new()
        };
        enqueue(connection, scripts, &id, &key);
    }
    let used = crate::used_memory(redis).saturating_sub(before);
    #[expect(
        clippy::cast_precision_loss,
        reason = "megabytes, a hundred thousand jobs"
    )]
    let bytes_per_job = used as f64 / jobs as f64;
    bytes_per_job
}

fn enqueue(connection: &mut Connection, scripts: &Scripts, id: &str, key: &str) {
    let answer: Vec<String> = scripts
        .enqueue
        .key(tag())
        .arg(id)
        .arg(r#"{"name":"continuous-wal-archiving","version":1,"args":{}}"#)
        .arg(5)
        .arg(25)
        .arg(0)
        .arg(key)
        .arg(0)
        .arg("skip")
        .invoke(connection)
        .expect("the script runs");
    assert_eq!(answer[0], "added");
}

/// Adds the times of so many rounds, each of all calls.
fn time(
    times: &mut Calls,
    runtime: &tokio::runtime::Runtime,
    queue: &Queue,
    connection: &mut Connection,
    scripts: &Scripts,
    calls: u64,
) {
    // A token serves once, and a queue that was timed before remembers its worker.
    let worker = format!("bench-{:08x}", fastrand::u32(..));
    for call in 0..calls {
        let id = format!("00000000-0000-7000-9000-{:012x}", fastrand::u64(..1 << 48));
        timed(&mut times[0], || enqueue(connection, scripts, &id, ""));
        let claimed: Vec<redis::Value> = timed(&mut times[1], || {
            let mut order = scripts.claim.prepare_invoke();
            order.key(tag()).arg(&worker).arg(call + 1).arg(10_000);
            order.arg(1_000).arg(10_000);
            order.invoke(connection).expect("the script runs")
        });
        let field =
            |at: usize| -> String { redis::from_redis_value(claimed[at].clone()).expect("a word") };
        assert_eq!(field(0), "job");
        let (job, epoch) = (field(1), field(8));
        let renewed: Vec<i64> = timed(&mut times[2], || {
            let mut order = scripts.renew.prepare_invoke();
            order.key(tag()).arg(&worker).arg(10_000).arg(15_000).arg(1);
            order.arg("host").arg(1).arg(ours::QUEUE).arg(1).arg(0);
            order.arg("[]").arg("[]").arg(&job).arg(&epoch);
            order.invoke(connection).expect("the script runs")
        });
        assert_eq!(renewed, [1]);
        let ended: String = timed(&mut times[3], || {
            let mut order = scripts.finish.prepare_invoke();
            order.key(tag()).arg(&job).arg(&worker).arg(&epoch);
            order
                .arg("done")
                .arg("")
                .arg(0)
                .arg(1_000)
                .arg(10_000)
                .arg(-1);
            order.invoke(connection).expect("the script runs")
        });
        assert_eq!(ended, "done");
        timed(&mut times[4], || {
            let page = runtime.block_on(queue.list(JobState::Ready, PAGE));
            assert!(!page.expect("Redis answers").is_empty());
        });
        let first = runtime
            .block_on(queue.list(JobState::Ready, 1))
            .expect("Redis answers");
        timed(&mut times[5], || {
            let shown = runtime.block_on(queue.show(&first[0].id));
            assert!(shown.expect("Redis answers").is_some());
        });
        timed(&mut times[6], || {
            let counts = runtime.block_on(queue.stats()).expect("Redis answers");
            assert!(counts.ready >= FEW);
        });
    }
}

fn timed<T>(times: &mut Times, call: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let answer = call();
    times.add(began.elapsed());
    answer
}

fn tag() -> String {
    format!("{{{}}}", ours::QUEUE)
}
