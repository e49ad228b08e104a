//! A base that is taken as it should be.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use walferry_base::{
    BaseState, PackingError, Progress, RepositoryState, SourceEvent, TakeError, TakeSettings,
    check, list, take,
};
use walferry_layout::base::{CompleteBase, TarArchive};
use walferry_layout::metadata::ObjectMetadata;
use walferry_pack::pool::PackPool;

use crate::clouds::{
    Cloud, LABEL, facts, facts_at, gunzip, key, prefix, settings, slices_of, taken, taken_with,
    two_with_a_base,
};
use crate::script::{MANIFEST, Script, TABLESPACE, plain};

#[tokio::test]
async fn slices_one_after_the_other_unpack_to_what_the_server_sent() {
    let (r2, b2, taken) = two_with_a_base().await;
    assert_eq!(taken.complete_in.len(), 2);
    assert!(taken.dropped.is_empty());
    let expected: BTreeMap<String, usize> = [
        ("base.tar".to_owned(), 5),
        ("16400.tar".to_owned(), 2),
        ("16401.tar".to_owned(), 1),
    ]
    .into();
    assert_eq!(slices_of(&taken), expected);
    for cloud in [&r2, &b2] {
        for (archive, plain) in plain() {
            assert!(cloud.archive(archive).await == plain, "{archive}");
        }
        let manifest = cloud.get(&format!("{LABEL}/backup_manifest.gz")).await;
        assert_eq!(gunzip(&manifest), MANIFEST);
        let json = cloud.get(&format!("{LABEL}/backup.json")).await;
        assert_eq!(CompleteBase::parse(&json).unwrap(), taken.base);
        assert_eq!(cloud.keys().await.len(), 8 + 3);
    }
}

#[tokio::test]
async fn the_base_says_what_it_is() {
    let before = Utc::now();
    let (r2, _b2, taken) = two_with_a_base().await;
    let (base, facts) = (&taken.base, facts());
    assert_eq!(base.label.to_string(), LABEL);
    assert_eq!(base.started_at, facts.started_at);
    let ahead = TimeDelta::seconds(3);
    assert!(base.stopped_at >= before + ahead && base.stopped_at <= Utc::now() + ahead);
    assert_eq!(base.start_lsn.get(), 0x0300_0028);
    assert_eq!(base.stop_lsn.get(), 0x0300_0100);
    assert_eq!(base.manifest_sha256, walferry_proof::sha256(MANIFEST));
    let spaces: Vec<_> = base.tablespaces.iter().map(|space| space.oid).collect();
    assert_eq!(spaces, [16_400, 16_401]);
    let order: Vec<_> = base.slices.iter().map(|s| (s.archive, s.number)).collect();
    assert!(order.is_sorted());
    assert_eq!(
        base.size(),
        plain().values().map(|p| p.len() as u64).sum::<u64>()
    );
    // The objects say it as well.
    let name = format!("{LABEL}/{TABLESPACE}/00001.gz");
    let object = r2.repository.head(&key(&name)).await.unwrap().unwrap();
    let metadata = ObjectMetadata::from_map(&object.metadata).unwrap();
    let slice = base
        .slices
        .iter()
        .find(|s| s.archive == TABLESPACE && s.number == 1);
    assert_eq!(metadata.sha256, slice.unwrap().sha256);
    assert_eq!(metadata.size, slice.unwrap().size);
}

#[tokio::test]
async fn it_is_listed_and_every_object_is_found_to_be_right() {
    let (r2, b2, taken) = two_with_a_base().await;
    let pool = PackPool::start(1).unwrap();
    for cloud in [&r2, &b2] {
        let found = list(&*cloud.repository, &prefix()).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].state,
            BaseState::Complete(Box::new(taken.base.clone()))
        );
        assert_eq!(found[0].objects, 11);
        let faults = check(&taken.base, &prefix(), &*cloud.repository, &pool).await;
        assert_eq!(faults.unwrap(), []);
    }
}

#[tokio::test]
async fn portions_and_threads_do_not_matter() {
    let mut seen = Vec::new();
    for (portion, threads) in [(1000, 1), (300_000, 3)] {
        let cloud = Cloud::start("r2").await;
        let settings = TakeSettings {
            pool: PackPool::start(threads).unwrap(),
            uploads: threads,
            ..settings()
        };
        let script = Script::sending(&plain(), portion);
        let repositories = [Arc::clone(&cloud.repository)];
        let taken = taken_with(script, &repositories, &settings).await.unwrap();
        seen.push(taken.base.slices);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn progress_counts_bytes_and_slices() {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let both = [Arc::clone(&r2.repository), Arc::clone(&b2.repository)];
    let progress = watch::Sender::new(Progress::default());
    let cancel = CancellationToken::new();
    let taken = take(
        Script::usual(),
        facts(),
        &both,
        &settings(),
        &progress,
        &cancel,
    )
    .await
    .unwrap();
    let seen = progress.borrow().clone();
    assert_eq!(seen.read, taken.base.size());
    assert_eq!(seen.estimated, Some(3000));
    assert_eq!(seen.slices, 8);
    for repository in &seen.repositories {
        assert_eq!(repository.state, RepositoryState::Complete);
        assert_eq!(repository.slices, 8);
        assert_eq!(repository.stored, taken.base.stored_size());
    }
}

#[tokio::test]
async fn a_label_that_is_taken_is_said_and_the_base_that_has_it_is_left_alone() {
    let (r2, b2) = (Cloud::start("r2").await, Cloud::start("b2").await);
    let one = [Arc::clone(&r2.repository)];
    let first = taken(Script::usual(), &one).await.unwrap();
    let keys = r2.keys().await;
    // Another taker, in the same second.
    let facts = facts_at(facts().started_at + TimeDelta::nanoseconds(1));
    let both = [Arc::clone(&b2.repository), Arc::clone(&r2.repository)];
    let progress = watch::Sender::new(Progress::default());
    let cancel = CancellationToken::new();
    let second = take(
        Script::usual(),
        facts,
        &both,
        &settings(),
        &progress,
        &cancel,
    )
    .await;
    match second {
        Err(TakeError::LabelTaken { repository, label }) => {
            assert_eq!(repository.as_str(), "r2");
            assert_eq!(label, first.base.label);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(r2.keys().await, keys);
    assert_eq!(b2.keys().await, [""; 0]);
    // The same where `begun.json` was deleted.
    r2.delete(&format!("{LABEL}/begun.json")).await;
    let third = taken(Script::usual(), &one).await;
    assert!(
        matches!(third, Err(TakeError::LabelTaken { .. })),
        "{third:?}"
    );
}

#[tokio::test]
async fn a_level_that_gzip_does_not_have_is_refused_before_anything_is_written() {
    let cloud = Cloud::start("r2").await;
    let settings = TakeSettings {
        level: 10,
        ..settings()
    };
    let repositories = [Arc::clone(&cloud.repository)];
    let taken = taken_with(Script::usual(), &repositories, &settings).await;
    assert!(matches!(
        taken,
        Err(TakeError::Packing(PackingError::Pack(_)))
    ));
    assert_eq!(cloud.keys().await, [""; 0]);
    let none = taken_with(Script::usual(), &[], &settings).await;
    assert!(matches!(none, Err(TakeError::NoRepository)));
}

#[tokio::test]
async fn what_a_server_must_not_send_ends_the_base_without_remains() {
    let base = || [TarArchive::Base].into_iter();
    let data = || SourceEvent::Data(b"x".as_slice().into());
    let mut stray = Script::announcing(base());
    stray.event(data());
    let mut other = Script::announcing(base());
    other.event(SourceEvent::Archive(TABLESPACE));
    let mut twice = Script::announcing(base());
    twice.event(SourceEvent::Archive(TarArchive::Base));
    twice.event(data());
    twice.event(SourceEvent::Archive(TarArchive::Base));
    let mut without = Script::announcing(base());
    without.end();
    let mut no_manifest = Script::usual();
    let mut steps = no_manifest.len();
    // The manifest, its two halves, and the end.
    steps -= 4;
    no_manifest = no_manifest.cut_at(steps);
    no_manifest.event(SourceEvent::End {
        lsn: walferry_wal::Lsn::new(1),
        timeline: walferry_wal::TimelineId::new(1).unwrap(),
    });
    let cloud = Cloud::start("r2").await;
    let repositories = [Arc::clone(&cloud.repository)];
    for (script, expected) in [
        (
            stray,
            "the server sent data of no archive where it does not belong",
        ),
        (
            other,
            "the server sent archive `16400.tar` where it does not belong",
        ),
        (
            twice,
            "the server sent archive `base.tar` where it does not belong",
        ),
        (
            without,
            "the server ended the base backup without `base.tar`",
        ),
        (
            no_manifest,
            "the server ended the base backup without `backup_manifest`",
        ),
    ] {
        let error = taken(script, &repositories).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(cloud.keys().await, [""; 0], "{expected}");
    }
}
