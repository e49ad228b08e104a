//! The breaker, with time in the test's hands.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use walferry_store::{Breaker, BreakerSettings, BreakerState, ReadRepository, StoreError};

use crate::scripted::{Mood, Scripted};
use crate::{cause, key};

fn breaker(mood: Mood) -> (Arc<Scripted>, Breaker) {
    let inner = Arc::new(Scripted::new(mood));
    let breaker = Breaker::new(inner.clone(), BreakerSettings::default());
    (inner, breaker)
}

async fn put(breaker: &Breaker) -> Result<(), StoreError> {
    crate::put(breaker, &key("a"), &Bytes::from_static(b"abc")).await
}

/// Fails until it opens.
async fn open(breaker: &Breaker) {
    for _ in 0..3 {
        assert_eq!(cause(put(breaker).await), "refused");
    }
    assert!(matches!(
        breaker.write_state(),
        BreakerState::Open {
            cause: "refused",
            ..
        }
    ));
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn after_three_failures_nothing_is_asked_any_more() {
    let (inner, breaker) = breaker(Mood::Refuses);
    for _ in 0..2 {
        assert_eq!(cause(put(&breaker).await), "refused");
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
    assert_eq!(cause(put(&breaker).await), "refused");
    for _ in 0..10 {
        let error = crate::failed(put(&breaker).await);
        let StoreError::BreakerOpen { wait, cause, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*cause, "refused");
        assert!(*wait <= Duration::from_secs(1), "{wait:?}");
        assert_eq!(error.retry_after(), Some(*wait));
        assert!(
            error.to_string().contains("last failure: refused"),
            "{error}"
        );
    }
    assert_eq!(inner.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_success_in_between_starts_the_count_again() {
    let (inner, breaker) = breaker(Mood::Refuses);
    for _ in 0..5 {
        inner.turn(Mood::Refuses);
        cause(put(&breaker).await);
        cause(put(&breaker).await);
        inner.turn(Mood::Well);
        put(&breaker).await.expect("stored");
    }
    assert_eq!((inner.asked(), breaker.state()), (15, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_repositorys_fault_does_not_open_it() {
    for mood in [Mood::Status(400), Mood::Status(429)] {
        let (inner, breaker) = breaker(mood);
        for _ in 0..20 {
            put(&breaker).await.expect_err("rejected");
            breaker.head(&key("a")).await.expect_err("rejected");
        }
        assert_eq!((inner.asked(), breaker.state()), (40, BreakerState::Closed));
    }
    let (inner, breaker) = breaker(Mood::Well);
    for _ in 0..20 {
        assert_eq!(breaker.head(&key("absent")).await.expect("an answer"), None);
    }
    assert_eq!((inner.asked(), breaker.state()), (20, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_unavailable_opens_it() {
    let (inner, breaker) = breaker(Mood::Status(503));
    for _ in 0..20 {
        put(&breaker).await.expect_err("refused");
    }
    assert_eq!(inner.asked(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_says_when_to_ask_again_is_not_asked_before_but_within_half_a_minute() {
    for (asked, waited) in [(20, 20), (3600, 30)] {
        let (inner, breaker) = breaker(Mood::Unavailable {
            retry_after: Duration::from_secs(asked),
        });
        for _ in 0..3 {
            put(&breaker).await.expect_err("unavailable");
        }
        // Once when it opens, and once when it stays open.
        for asked in [3, 4] {
            pass(Duration::from_secs(waited - 1)).await;
            assert_eq!(cause(put(&breaker).await), "breaker-open");
            assert_eq!(inner.asked(), asked);
            pass(Duration::from_secs(1)).await;
            assert_eq!(cause(put(&breaker).await), "throttled");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_at_a_time_tries_and_its_success_closes_it() {
    let (inner, breaker) = breaker(Mood::Refuses);
    open(&breaker).await;
    pass(Duration::from_secs(1)).await;
    assert!(matches!(
        breaker.write_state(),
        BreakerState::HalfOpen { .. }
    ));

    inner.turn(Mood::Hangs);
    let mut trial = Box::pin(put(&breaker));
    assert!((&mut trial).now_or_never().is_none(), "it hangs");
    assert_eq!(inner.asked(), 4);
    for _ in 0..5 {
        assert_eq!(cause(put(&breaker).await), "breaker-open");
    }
    assert_eq!(inner.asked(), 4, "a second one got through");

    // The one that tries goes away: it proved nothing and blocks nobody.
    drop(trial);
    inner.turn(Mood::Well);
    put(&breaker).await.expect("stored");
    assert_eq!((inner.asked(), breaker.state()), (5, BreakerState::Closed));
    put(&breaker).await.expect("stored");
}

#[tokio::test(start_paused = true)]
async fn the_wait_doubles_up_to_half_a_minute() {
    let (inner, breaker) = breaker(Mood::Refuses);
    open(&breaker).await;
    let mut longest = Duration::ZERO;
    for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
        let error = crate::failed(put(&breaker).await);
        let wait = error.retry_after().expect("a wait");
        let low = Duration::from_secs_f64(expected * 0.75);
        let high = Duration::from_secs_f64(expected);
        assert!(
            (low..=high).contains(&wait),
            "{wait:?} is not about {expected} s"
        );
        longest = longest.max(wait);
        pass(wait).await;
        assert_eq!(cause(put(&breaker).await), "refused");
    }
    assert_eq!(inner.asked(), 3 + 8);
    // Back for good: found out within the longest wait.
    inner.turn(Mood::Well);
    pass(Duration::from_secs(30)).await;
    put(&breaker).await.expect("stored");
    // And the next row of failures begins with the shortest wait again.
    inner.turn(Mood::Refuses);
    open(&breaker).await;
    let error = crate::failed(put(&breaker).await);
    assert!(error.retry_after() <= Some(Duration::from_secs(1)));
}

/// A full bucket refuses every PUT; restore must still read.
#[tokio::test(start_paused = true)]
async fn reading_goes_on_while_writing_is_refused_and_does_not_hide_it() {
    let (inner, breaker) = breaker(Mood::Refuses);
    for _ in 0..3 {
        inner.turn(Mood::Refuses);
        cause(put(&breaker).await);
        inner.turn(Mood::Well);
        breaker.head(&key("a")).await.expect("an answer");
    }
    assert!(matches!(breaker.state(), BreakerState::Open { .. }));
    assert_eq!(breaker.read_state(), BreakerState::Closed);
    breaker.head(&key("a")).await.expect("an answer");
    assert_eq!(cause(put(&breaker).await), "breaker-open");
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_always_made_and_its_success_counts() {
    let (inner, breaker) = breaker(Mood::Refuses);
    for _ in 0..3 {
        assert_eq!(cause(breaker.clock().await), "refused");
    }
    assert_eq!(cause(breaker.clock().await), "breaker-open");
    assert_eq!(cause(breaker.probe().await), "refused");
    inner.turn(Mood::Well);
    breaker.probe().await.expect("well");
    assert_eq!(breaker.state(), BreakerState::Closed);
    breaker.clock().await.expect("the time");
}

/// Its head arrived, but that is no success.
#[tokio::test(start_paused = true)]
async fn downloads_that_break_in_the_middle_open_it() {
    let (inner, breaker) = breaker(Mood::BreaksBodies);
    let download = async || {
        let stream = breaker.get(&key("a")).await?.expect("an object");
        stream.body.try_collect::<Vec<_>>().await
    };
    for _ in 0..3 {
        assert_eq!(cause(download().await), "interrupted");
    }
    assert_eq!(cause(download().await), "breaker-open");
    assert_eq!(inner.asked(), 3);
    inner.turn(Mood::Well);
    pass(Duration::from_secs(1)).await;
    // Dropped half-way it proves nothing.
    drop(breaker.get(&key("a")).await.expect("an answer"));
    assert!(matches!(
        breaker.read_state(),
        BreakerState::HalfOpen { .. }
    ));
    assert_eq!(download().await.expect("all of it").concat(), b"abcdef");
    assert_eq!(breaker.state(), BreakerState::Closed);
}
