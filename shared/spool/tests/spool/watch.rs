//! The watch wakes the worker, whatever way a file arrives.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use walferry_spool::{Pushed, Watch, push};

use crate::postgres::made;
use crate::scratch::{SETTINGS, Scratch};

const SOON: Duration = Duration::from_secs(20);

async fn woken(watch: &mut Watch) -> bool {
    tokio::time::timeout(SOON, watch.changed()).await.is_ok()
}

/// Waits until nothing more is told of what has happened already.
async fn quiet(watch: &mut Watch) {
    while tokio::time::timeout(Duration::from_millis(300), watch.changed())
        .await
        .is_ok()
    {}
}

#[tokio::test]
async fn each_way_of_arriving_wakes() {
    let scratch = Scratch::new();
    let mut watch = Watch::start(scratch.archive(), CancellationToken::new());
    assert!(woken(&mut watch).await, "what lies there already counts");
    quiet(&mut watch).await;

    // Made first: it takes a server's start.
    let source = scratch.source(&made().segment());
    quiet(&mut watch).await;
    let began = std::time::Instant::now();
    assert_eq!(
        push(&source, &scratch.directory(), &SETTINGS).unwrap(),
        Pushed::Stored
    );
    assert!(woken(&mut watch).await, "push");
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "by inotify, not by the slow look"
    );
    quiet(&mut watch).await;

    std::fs::copy(&source, scratch.archive().join("0000000100000000000000F0")).unwrap();
    assert!(woken(&mut watch).await, "cp");
    quiet(&mut watch).await;

    let temporary = scratch
        .archive()
        .join("archtemp.0000000100000000000000F1.1.2");
    std::fs::copy(&source, &temporary).unwrap();
    quiet(&mut watch).await;
    std::fs::rename(
        &temporary,
        scratch.archive().join("0000000100000000000000F1"),
    )
    .unwrap();
    assert!(woken(&mut watch).await, "basic_archive");
    quiet(&mut watch).await;

    crate::scratch::set_mode(&scratch.archive().join("0000000100000000000000F0"), 0o644);
    assert!(woken(&mut watch).await, "chmod after cp");
}

#[tokio::test]
async fn reading_deleting_and_temporary_names_do_not_wake() {
    let scratch = Scratch::new();
    scratch.put("0000000100000000000000F0", b"x");
    let mut watch = Watch::start(scratch.archive(), CancellationToken::new());
    assert!(woken(&mut watch).await);
    quiet(&mut watch).await;
    scratch.put(".walferry-push.0000000100000000000000F1.1.2.3", b"x");
    let (file, id) = scratch.seen("0000000100000000000000F0");
    std::fs::read(scratch.archive().join("0000000100000000000000F0")).unwrap();
    let _ = walferry_spool::delete(&scratch.directory(), &file, &id).unwrap();
    let told = tokio::time::timeout(Duration::from_millis(500), watch.changed()).await;
    assert!(told.is_err(), "a worker's own doing is no arrival");
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_watched_again() {
    let scratch = Scratch::new();
    let archive = scratch.archive();
    std::fs::remove_dir(&archive).unwrap();
    let mut watch = Watch::start(&archive, CancellationToken::new());
    let told = tokio::time::timeout(Duration::from_millis(200), watch.changed()).await;
    assert!(told.is_err(), "there is nothing yet");
    for round in 0..2 {
        std::fs::create_dir(&archive).unwrap();
        assert!(woken(&mut watch).await, "it has come, round {round}");
        quiet(&mut watch).await;
        scratch.put("0000000100000000000000F0", b"x");
        assert!(woken(&mut watch).await, "a file arrives, round {round}");
        quiet(&mut watch).await;
        std::fs::rename(&archive, scratch.path().join(format!("old{round}"))).unwrap();
        assert!(woken(&mut watch).await, "it has gone, round {round}");
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_worker() {
    let scratch = Scratch::new();
    let shutdown = CancellationToken::new();
    let mut watch = Watch::start(scratch.archive(), shutdown.clone());
    assert!(woken(&mut watch).await);
    shutdown.cancel();
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    for _ in 0..1000 {
        if alive() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{} tasks still run", alive());
}
