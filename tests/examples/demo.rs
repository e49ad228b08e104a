//! The demo: the whole system on loopback, with one worker killed and one cloud stopped,
//! and every object compared with its segment in the end. `./demo` builds and starts it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use walferry_tests::proxy::Fault;
use walferry_tests::{Intake, World, eventually, wait};

const DOWN: Duration = Duration::from_secs(6);

fn main() -> ExitCode {
    let keep = std::env::args().any(|argument| argument == "--keep");
    std::thread::spawn(interrupt_on_signal);
    // A failure is told where it happens; a signal needs no trace of where it came.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !wait::interrupted() {
            tell(panic);
        }
    }));
    match std::panic::catch_unwind(|| demo(keep)) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(_) if wait::interrupted() => {
            println!("demo: interrupted, everything is stopped and removed");
            ExitCode::from(130)
        }
        Err(_) => {
            println!("demo: FAILED, see above");
            ExitCode::FAILURE
        }
    }
}

fn demo(keep: bool) -> String {
    let began = Instant::now();
    say(
        "starting PostgreSQL, a catalog of its own, Redis and two S3 servers that check signatures",
    );
    let mut world = World::builder()
        .quick_clouds()
        .setting("scheduler.archive_interval", "10s")
        .build();
    let server = world.postgres(Intake::Push);
    let _scheduler = world.scheduler();
    let first = world.worker();

    say("pgbench writes; PostgreSQL hands over by `walferry push %p`");
    server.pgbench_init(10);
    server.switch();
    work(&server, 4);

    say("three workers now; the first one is killed with -9 in the middle of an upload");
    let gate = world.cloud("r2").proxy().hold("PUT", ".gz");
    work(&server, 3);
    gate.await_waiting(1);
    first.kill();
    let orphans = world.rows("SELECT name FROM wal_files WHERE lease_until > clock_timestamp()");
    let orphans: Vec<String> = orphans.into_iter().flatten().flatten().collect();
    let _second = world.worker();
    let _third = world.worker();
    gate.open();
    work(&server, 2);
    let names = orphans.join("','");
    let orphans = i64::try_from(orphans.len()).expect("a few");
    eventually("the others have claimed what it left", || {
        let again = world.number(&format!(
            "SELECT count(*) FROM wal_files WHERE attempt > 1 AND name IN ('{names}')"
        ));
        wait::is(again == orphans, format!("{again} of {orphans}"))
    });
    say(&format!(
        "the others took over the {orphans} segments that it held when it died"
    ));

    say("Backblaze B2 goes down; Cloudflare R2 goes on");
    world.cloud("b2").proxy().fault(Fault::Refuse);
    work(&server, 4);
    server.base_backup(world.folder(), "base", &["-X", "none"]);
    let last = server.switch();
    eventually("PostgreSQL has handed over its last segment", || {
        let archived = server.archiver("last_archived_wal");
        wait::is(archived == last, archived)
    });
    let down = Instant::now();
    eventually("R2 has everything although B2 is down", || {
        let behind = world
            .number("SELECT count(*) FROM copies WHERE repository = 'r2' AND state <> 'verified'");
        let known = world.number("SELECT count(*) FROM wal_files");
        let there = known > 0 && behind == 0;
        wait::is(there, format!("{behind} of {known} missing in r2"))
    });
    std::thread::sleep(DOWN.saturating_sub(down.elapsed()));
    println!("\n$ walferry status");
    println!("{}", indent(&world.cli(&["status"]).stdout));

    say("B2 is back; what is missing there is copied by itself");
    world.cloud("b2").proxy().pass();
    world.originals_mut().remember_archived_by(&server);
    world.await_archived_within(Duration::from_secs(180));

    say("every object in both clouds was unpacked and equals its segment");
    world.compare_clouds();
    table(&world);

    let sum = |sql: &str| world.number(sql);
    let files = sum("SELECT count(*) FROM backups WHERE status = 'VERIFIED'");
    let plain = sum("SELECT coalesce(sum(size_bytes), 0)::bigint FROM wal_files");
    let packed = sum("SELECT coalesce(sum(compressed_size), 0)::bigint FROM wal_files");
    if keep {
        hints(&world);
        wait_for_a_person();
    }
    say("stopping everything");
    drop(server);
    drop((_scheduler, _second, _third, first));
    drop(world);
    format!(
        "demo: OK {files} files verified in 2 clouds, {:.1} MB as {:.1} MB ({:.1} % saved), 1 worker killed, {orphans} segments taken over, 1 cloud down, {} objects compared, {:.0} s",
        plain as f64 / 1e6,
        packed as f64 / 1e6,
        100.0 * (1.0 - packed as f64 / plain.max(1) as f64),
        2 * files,
        began.elapsed().as_secs_f64()
    )
}

/// Ctrl-C and SIGTERM end the demo as its own end does: nothing is left running.
fn interrupt_on_signal() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread needs nothing");
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
    });
    wait::interrupt();
}

/// Until Enter, or for ever where nobody can press it: Ctrl-C and SIGTERM end both.
fn wait_for_a_person() {
    println!("Enter or Ctrl-C ends the demo and removes everything.");
    let (entered, enter) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if std::io::stdin().read_line(&mut String::new()).unwrap_or(0) > 0 {
            let _ = entered.send(());
        }
        // Held: an input that has ended is nobody's Enter.
        std::thread::park();
    });
    while !wait::interrupted() {
        if enter.recv_timeout(Duration::from_millis(200)).is_ok() {
            return;
        }
    }
    panic!("interrupted");
}

fn work(server: &walferry_tests::Postgres, segments: u32) {
    for _ in 0..segments {
        server.pgbench_run(300);
        server.switch();
    }
}

/// The old report's table, filled with what really happened.
fn table(world: &World) {
    println!(
        "\n{:<8}  {:<44} {:>12} {:>12} {:>7}  status",
        "time", "file", "original", "compressed", "%"
    );
    let rows = world.rows(
        "SELECT to_char(b.verified_at, 'HH24:MI:SS'), b.filename, f.size_bytes::text, \
                b.size_bytes::text, round(100 * b.compression_ratio::numeric, 1)::text, b.status \
           FROM backups b JOIN wal_files f ON b.filename = f.name || '.gz' ORDER BY 2",
    );
    for row in rows {
        let cell = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        println!(
            "{:<8}  {:<44} {:>12} {:>12} {:>7}  {}",
            cell(0),
            cell(1),
            cell(2),
            cell(3),
            cell(4),
            cell(5)
        );
    }
    println!();
}

fn hints(world: &World) {
    println!("\nIt is all still running. In another terminal:\n");
    for (name, value) in world.environment() {
        println!("  export {name}='{value}'");
    }
    let walferry = world.program_path("walferry");
    for command in [
        "status --watch",
        "check",
        "queue stats",
        "ls",
        "retention plan",
    ] {
        println!("  {} {command}", walferry.display());
    }
    println!();
}

fn say(text: &str) {
    println!("demo: {text}");
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
