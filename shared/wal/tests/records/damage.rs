//! What damage to a real segment can do: hide events, never make any up.

use std::sync::OnceLock;

use proptest::prelude::*;
use walferry_wal::SegmentName;
use walferry_wal::records::{Event, events};

use crate::postgres::{Server, size};

struct Real {
    name: SegmentName,
    bytes: Vec<u8>,
    events: Vec<Event>,
    /// How many bytes of it are written; the rest is zeros.
    used: usize,
}

fn real() -> &'static Real {
    static REAL: OnceLock<Real> = OnceLock::new();

    REAL.get_or_init(|| {
        let server = Server::new();
        server.query("create table t (n int, body text)");
        server.switch();
        for n in 0..40 {
            server.query(&format!(
                "insert into t select {n}, md5(i::text) from generate_series(1, 90) i"
            ));
            server.query("select pg_create_restore_point('point')");
        }
        let name = server.switch();
        let bytes = server.read(name);
        let found = events(&bytes, name, size()).expect("a segment");
        assert!(found.events.len() >= 80, "{found:?}");
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        Real {
            name,
            used: bytes.len() - zeros,
            bytes,
            events: found.events,
        }
    })
}

fn check(bytes: &[u8]) -> usize {
    let Ok(found) = events(bytes, real().name, size()) else {
        return 0;
    };
    for event in &found.events {
        assert!(real().events.contains(event), "made up: {event:?}");
    }
    found.events.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_flip_makes_an_event_up(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0_u32..8), 1..6),
    ) {
        let mut bytes = real().bytes.clone();
        for (at, bit) in flips {
            bytes[at.index(real().used)] ^= 1 << bit;
        }
        check(&bytes);
    }

    /// The headers of pages have no checksum.
    #[test]
    fn no_flip_in_the_header_of_a_page_makes_an_event_up(
        page: prop::sample::Index,
        bits in proptest::collection::vec(0_usize..24 * 8, 1..4),
    ) {
        let mut bytes = real().bytes.clone();
        let page = page.index(real().used.div_ceil(8192)) * 8192;
        for bit in bits {
            bytes[page + bit / 8] ^= 1 << (bit % 8);
        }
        check(&bytes);
    }

    #[test]
    fn zeros_hide_what_is_behind_them_only(from: prop::sample::Index) {
        let mut bytes = real().bytes.clone();
        let from = from.index(real().used);
        bytes[from..].fill(0);
        let start = real().name.start_lsn(size()).expect("a start").get() as usize;
        let whole = real().events.iter().filter(|one| one.end().get() as usize <= start + from);
        let whole = whole.count();
        // A first page without its header is no segment; an event's padding may be zero anyway.
        prop_assert!(from < 40 || (whole..=whole + 1).contains(&check(&bytes)));
    }
}
