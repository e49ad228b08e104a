//! Bases that end before they are complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use walferry_base::{Progress, TakeError, TakeSettings, take};
use walferry_store::Repository;

use crate::clouds::{Cloud, facts, settings, taken};
use crate::odd::{Act, Odd};
use crate::script::{Script, Step};

#[tokio::test]
async fn a_server_that_breaks_off_leaves_nothing() {
    let cloud = Cloud::start("r2").await;
    let repositories = [Arc::clone(&cloud.repository)];
    let last = Script::usual().len();
    for at in [0, 1, 20, last - 3, last - 1] {
        let script = Script::usual().with(at, Step::Fail("the server was shut down"));
        let error = taken(script, &repositories).await.unwrap_err();
        assert!(matches!(error, TakeError::Source(_)), "{at}: {error}");
        assert_eq!(cloud.keys().await, [""; 0], "{at}");
    }
}

#[tokio::test]
async fn cancelled_it_leaves_nothing_wherever_it_was() {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let both = [Arc::clone(&r2.repository), Arc::clone(&b2.repository)];
    let last = Script::usual().len();
    for at in [0, 1, 20, last - 3, last - 1] {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        // And then nothing comes any more.
        let script = Script::usual()
            .with(at, Step::Hold(Arc::new(Semaphore::new(0))))
            .with(at, Step::Call(Box::new(move || token.cancel())));
        let progress = watch::Sender::new(Progress::default());
        let error = take(script, facts(), &both, &settings(), &progress, &cancel)
            .await
            .unwrap_err();
        assert!(matches!(error, TakeError::Cancelled), "{at}: {error}");
        assert_eq!(r2.keys().await, [""; 0], "{at}");
        assert_eq!(b2.keys().await, [""; 0], "{at}");
    }
}

#[tokio::test]
async fn cancelled_before_it_began_it_leaves_nothing() {
    let cloud = Cloud::start("r2").await;
    let repositories = [Arc::clone(&cloud.repository)];
    let cancel = CancellationToken::new();
    cancel.cancel();
    let progress = watch::Sender::new(Progress::default());
    let taken = take(
        Script::usual(),
        facts(),
        &repositories,
        &settings(),
        &progress,
        &cancel,
    )
    .await;
    assert!(matches!(taken, Err(TakeError::Cancelled)), "{taken:?}");
    assert_eq!(cloud.keys().await, [""; 0]);
}

/// A drain has a grace period, and one cloud does not answer at all.
#[tokio::test]
async fn cancelled_it_waits_for_no_cloud_that_hangs() {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let hanging = Odd::new(&b2.repository, |call| match call.operation {
        "put" | "delete" => Act::Hang,
        _ => Act::Pass,
    });
    let both: [Arc<dyn Repository>; 2] = [Arc::clone(&r2.repository), hanging];
    let settings = TakeSettings {
        stall: Duration::from_secs(600),
        cleanup: Duration::from_secs(2),
        ..settings()
    };
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let progress = watch::Sender::new(Progress::default());
    // Two slices were cut by then, which leave room in the memory: otherwise the server would
    // have to wait for the cloud that hangs.
    let script = Script::usual()
        .with(12, Step::Hold(Arc::new(Semaphore::new(0))))
        .with(12, Step::Call(Box::new(move || token.cancel())));
    let before = Instant::now();
    // As a worker runs it.
    let task =
        tokio::spawn(
            async move { take(script, facts(), &both, &settings, &progress, &cancel).await },
        );
    let taken = task.await.unwrap();
    assert!(matches!(taken, Err(TakeError::Cancelled)), "{taken:?}");
    assert!(before.elapsed() < Duration::from_secs(60));
    assert_eq!(r2.keys().await, [""; 0]);
}
