//! What a real PostgreSQL cannot be made to write at will; the rest is compared with
//! `pg_waldump` in `tests/records`.

use proptest::prelude::*;

use super::made::{Made, SIZE, START};
use super::{Ending, Event, Events, RecordsError, events};
use crate::{HeaderError, Lsn};

const V13: u16 = 0xD106;
const V15: u16 = 0xD110;
const V18: u16 = 0xD118;

fn read(made: &Made) -> Events {
    events(&made.bytes, Made::name(), Made::size()).unwrap()
}

fn positions(events: &Events) -> Vec<u64> {
    events
        .events
        .iter()
        .map(|event| event.lsn().get())
        .collect()
}

#[test]
fn records_are_read_from_pages_of_every_size() {
    for power in 10..=16 {
        let mut made = Made::new(V15, 1 << power, 0);
        let wanted: Vec<u64> = (0..9000).map(|at| made.commit(at)).collect();
        let found = read(&made);
        assert_eq!(positions(&found), wanted, "{power}");
        assert_eq!(found.ending, Ending::EndOfWal);
        let Some(Event::Commit { xid, time, end, .. }) = found.events.last() else {
            panic!("{found:?}");
        };
        assert_eq!((*xid, *end), (7, found.ends_at));
        assert_eq!(time.to_rfc3339(), "2000-01-01T00:00:00.008999+00:00");
    }
}

#[test]
fn the_tail_of_a_record_that_began_earlier_is_skipped() {
    // Within the first page; to its very end; over one more; over many.
    for tail in [1, 8, 8192 - 40, 8192 - 40 + 1, 100_000] {
        let mut made = Made::new(V15, 8192, tail);
        let wanted = made.commit(1);
        assert_eq!(positions(&read(&made)), [wanted], "{tail}");
    }
}

#[test]
fn a_tail_that_fills_the_segment_leaves_no_record() {
    let found = read(&Made::new(V15, 8192, 2 * SIZE));
    assert_eq!(found.events, []);
    assert_eq!(
        (found.ends_at.get(), found.ending),
        (START, Ending::Continues)
    );
}

#[test]
fn a_record_that_goes_on_in_the_next_segment_ends_the_walk() {
    let mut made = Made::new(V15, 8192, 0);
    let first = made.commit(1);
    let large = made.record(10, 0, &vec![255; SIZE]);
    let found = read(&made);
    assert_eq!(positions(&found), [first]);
    assert_eq!(
        (found.ends_at.get(), found.ending),
        (large, Ending::Continues)
    );
}

#[test]
fn a_segment_may_be_full_to_its_last_byte() {
    let mut made = Made::new(V15, SIZE.min(1 << 16), 0);
    let pages = SIZE / (1 << 16);
    let room = SIZE - 40 - (pages - 1) * 24;
    made.record(10, 0, &vec![0; room - 24 - 40]);
    let last = made.commit(1);
    let found = read(&made);
    // 34 bytes, aligned to 40.
    assert_eq!(positions(&found), [last]);
    assert_eq!(found.ends_at.get(), START + SIZE as u64);
    assert_eq!(found.ending, Ending::Full);
}

#[test]
fn a_record_that_a_crash_cut_is_passed_over() {
    let mut made = Made::new(V15, 8192, 0);
    let before = made.commit(1);
    made.lose();
    let after = made.commit(2);
    assert_eq!(positions(&read(&made)), [before, after]);
}

#[test]
fn a_switch_ends_the_segment() {
    let mut made = Made::new(V15, 8192, 0);
    made.commit(1);
    made.record(0, 0x40, &[]);
    made.commit(2);
    let found = read(&made);
    assert_eq!(found.events.len(), 1);
    assert_eq!(found.ends_at.get(), START + SIZE as u64);
    assert_eq!(found.ending, Ending::Switch);
}

#[test]
fn what_lies_before_the_main_data_is_known() {
    let time = 0_i64.to_le_bytes();
    for (front, readable) in [
        (&[255, 8][..], true),
        (&[254, 8, 0, 0, 0], true),
        (&[253, 1, 0, 255, 8], true),
        (&[252, 1, 0, 0, 0, 253, 1, 0, 255, 8], true),
        (&[0, 0, 0, 0, 255, 8], false),
        (&[251, 255, 8], false),
        (&[255, 7], false),
        (&[255, 9], false),
        (&[254, 255, 255, 255, 255], false),
        (&[], false),
    ] {
        let mut made = Made::new(V15, 8192, 0);
        let lsn = made.record(1, 0, &[front, &time].concat());
        let after = made.commit(1);
        let found = read(&made);
        let (events, unreadable) = if readable {
            (vec![lsn, after], vec![])
        } else {
            (vec![after], vec![Lsn::new(lsn)])
        };
        assert_eq!(positions(&found), events, "{front:?}");
        assert_eq!(found.unreadable, unreadable, "{front:?}");
    }
}

/// A commit of a prepared transaction that has every part in front of its xid.
fn prepared(version: u16, dropped: usize) -> Events {
    let mut data = vec![254, 0, 0, 0, 0];
    data.extend_from_slice(&1_i64.to_le_bytes());
    let parts: u32 = 0b1_1111 | u32::from(dropped > 0) << 8;
    data.extend_from_slice(&parts.to_le_bytes());
    data.extend_from_slice(&[0xEE; 8]);
    let mut items = |count: u32, size: usize| {
        data.extend_from_slice(&count.to_le_bytes());
        data.extend(std::iter::repeat_n(0xEE, count as usize * size));
    };
    items(3, 4);
    items(2, 12);
    if dropped > 0 {
        items(2, dropped);
    }
    items(5, 16);
    data.extend_from_slice(&77_u32.to_le_bytes());
    let length = u32::try_from(data.len() - 5).unwrap();
    data[1..5].copy_from_slice(&length.to_le_bytes());
    let mut made = Made::new(version, 8192, 0);
    made.record(1, 0x30 | 0x80, &data);
    read(&made)
}

#[test]
fn a_prepared_transaction_keeps_its_xid_in_every_version() {
    for (version, dropped) in [(V13, 0), (V15, 12), (0xD116, 12), (V18, 16)] {
        let found = prepared(version, dropped);
        let [Event::Commit { xid: 77, .. }] = found.events[..] else {
            panic!("{version:X}: {found:?}");
        };
    }
}

#[test]
fn what_is_no_segment_of_that_name_is_refused() {
    let refused = |made: &Made, name: &str| {
        events(&made.bytes, name.parse().unwrap(), Made::size()).unwrap_err()
    };
    let (good, other) = ("000000010000000000000003", "000000010000000000000004");
    let mut made = Made::new(V15, 8192, 0);
    assert!(matches!(
        refused(&made, other),
        RecordsError::Header {
            source: HeaderError::Position { .. },
            ..
        }
    ));
    made.bytes.truncate(SIZE - 1);
    assert!(matches!(refused(&made, good), RecordsError::Length { .. }));
    let made = Made::new(0xD1FF, 8192, 0);
    assert!(matches!(
        refused(&made, good),
        RecordsError::Version { magic: 0xD1FF, .. }
    ));
    let mut made = Made::new(V15, 8192, 0);
    made.bytes[36..40].copy_from_slice(&8193_u32.to_le_bytes());
    assert!(matches!(
        refused(&made, good),
        RecordsError::BlockSize { found: 8193, .. }
    ));
}

#[test]
fn a_page_of_the_segment_s_last_use_ends_the_walk() {
    let mut made = Made::new(V15, 8192, 0);
    let mut wanted = Vec::new();
    while made.room() > 200 {
        wanted.push(made.commit(1));
    }
    let end = wanted.len();
    wanted.extend((0..500).map(|_| made.commit(2)));
    let on_first_page = wanted.iter().filter(|at| **at + 40 <= START + 8192).count();
    assert!(on_first_page >= end);
    // Position, timeline, flags, magic.
    for (at, byte) in [(8, 0xFF), (4, 2), (3, 0x80), (0, 0)] {
        let mut bytes = made.bytes.clone();
        bytes[8192 + at] = byte;
        let found = events(&bytes, Made::name(), Made::size()).unwrap();
        assert_eq!(positions(&found), wanted[..on_first_page], "{at}");
        assert_eq!(found.ending, Ending::EndOfWal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_make_the_walk_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..4000),
        tail in 0_usize..9000,
    ) {
        let _ = events(&bytes, Made::name(), Made::size());
        let mut made = Made::new(V15, 1024, tail);
        let at = tail.next_multiple_of(8) + 40;
        made.bytes[at..at + bytes.len()].copy_from_slice(&bytes);
        let _ = events(&made.bytes, Made::name(), Made::size());
    }

    /// Their checksum is right: only the body's own form can stop the reader.
    #[test]
    fn no_body_makes_the_reader_panic(
        bodies in proptest::collection::vec(
            (0_u8..2, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..200)),
            0..100,
        ),
        long: bool,
        version in prop::sample::select(vec![V13, V15, V18]),
    ) {
        let mut made = Made::new(version, 1024, 0);
        let mut count = 0;
        for (manager, info, body) in bodies {
            let front = if long {
                [&[254][..], &u32::try_from(body.len()).unwrap().to_le_bytes()].concat()
            } else {
                vec![255, u8::try_from(body.len()).unwrap()]
            };
            made.record(manager, info, &[front, body].concat());
            count += 1;
            if manager == 0 && info & 0xF0 == 0x40 {
                break;
            }
        }
        let found = read(&made);
        prop_assert!(found.events.len() + found.unreadable.len() <= count);
        prop_assert!(found.events.iter().all(|event| event.end() <= found.ends_at));
    }

    #[test]
    fn records_of_every_length_are_put_together(
        lengths in proptest::collection::vec(0_usize..5000, 1..100),
        tail in 0_usize..5000,
    ) {
        let mut made = Made::new(V15, 1024, tail);
        let mut wanted = Vec::new();
        for length in lengths {
            made.record(10, 0, &vec![9; length]);
            wanted.push(made.commit(0));
        }
        let found = read(&made);
        prop_assert_eq!(positions(&found), wanted);
    }
}
