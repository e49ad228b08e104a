//! What WAL a repository holds for its bases, by listing it: for when there is no catalog.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use walferry_layout::{base::CompleteBase, object_key, parse_key};
use walferry_proof::{KeyPrefix, ObjectKey};
use walferry_store::{ReadRepository, StoreError};
use walferry_wal::{SegmentName, WalFile};

const PAGE: usize = 1000;

/// A base's WAL in one repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalReach {
    /// Every segment from its start to its stop is there.
    pub usable: bool,
    /// The last segment of its timeline without a hole since its start.
    pub last: Option<SegmentName>,
    /// When that one was stored: it was closed before.
    pub last_stored_at: Option<DateTime<Utc>>,
}

/// The reach of each of `bases`, in their order: one walk through the listing, from the oldest
/// start on.
///
/// A base whose timeline changed while it was taken counts as not usable: only the catalog
/// knows the way across.
///
/// # Errors
/// When the repository does not answer.
pub async fn reach(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    bases: &[&CompleteBase],
) -> Result<Vec<WalReach>, StoreError> {
    let Some(oldest) = bases.iter().map(|base| base.start_segment()).min() else {
        return Ok(Vec::new());
    };
    let segments = segments(repository, prefix, oldest).await?;
    Ok(bases.iter().map(|base| of(base, &segments)).collect())
}

type Segments = BTreeMap<SegmentName, DateTime<Utc>>;

fn of(base: &CompleteBase, segments: &Segments) -> WalReach {
    let mut last = None;
    let mut next = Some(base.start_segment());
    while let Some((name, stored_at)) = next.and_then(|name| Some((name, *segments.get(&name)?))) {
        last = Some((name, stored_at));
        next = name.next(base.segment_size).ok();
    }
    let one_timeline = base.start_timeline == base.stop_timeline;
    let stop = base.stop_segment().max(base.start_segment());
    WalReach {
        usable: one_timeline && last.is_some_and(|(name, _)| name >= stop),
        last: last.map(|(name, _)| name),
        last_stored_at: last.map(|(_, stored_at)| stored_at),
    }
}

/// Every segment from `oldest` on, of its timeline and later ones.
async fn segments(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    oldest: SegmentName,
) -> Result<Segments, StoreError> {
    let mut segments = Segments::new();
    let mut after = before(prefix, oldest);
    loop {
        let page = repository.list(prefix, after.as_ref(), PAGE).await?;
        after = page.objects.last().map(|listed| listed.key.clone());
        for listed in &page.objects {
            if let Some(WalFile::Segment(name)) = parse_key(prefix, &listed.key) {
                segments.insert(name, listed.last_modified);
            }
        }
        if !page.more || after.is_none() {
            return Ok(segments);
        }
    }
}

/// A key right before that of the segment: without its ending.
fn before(prefix: &KeyPrefix, segment: SegmentName) -> Option<ObjectKey> {
    let key = object_key(prefix, &WalFile::Segment(segment));
    key.as_str().strip_suffix(".gz")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use walferry_wal::{Lsn, SegmentSize, SystemId, TimelineId};

    use super::*;

    const SIZE: u64 = 16 << 20;

    /// From within segment `start` to within segment `stop`.
    fn base(start: u64, stop: u64) -> CompleteBase {
        let at = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let timeline = TimelineId::new(1).unwrap();
        CompleteBase {
            format: CompleteBase::FORMAT,
            label: walferry_layout::base::BaseLabel::at(at),
            cluster: "main".into(),
            system_id: SystemId::new(7),
            segment_size: SegmentSize::DEFAULT,
            server_version: 150_018,
            from_standby: false,
            start_lsn: Lsn::new(start * SIZE + 0x28),
            start_timeline: timeline,
            stop_lsn: Lsn::new(stop * SIZE + 0x100),
            stop_timeline: timeline,
            started_at: at,
            stopped_at: at,
            tablespaces: Vec::new(),
            slices: Vec::new(),
            manifest_sha256: walferry_proof::sha256(b""),
        }
    }

    fn held(numbers: &[u64]) -> Segments {
        let timeline = TimelineId::new(1).unwrap();
        let name = |number| SegmentName::from_number(timeline, number, SegmentSize::DEFAULT);
        let named = numbers.iter().map(|number| name(*number).unwrap());
        named.map(|name| (name, DateTime::UNIX_EPOCH)).collect()
    }

    fn check(base: &CompleteBase, numbers: &[u64], usable: bool, last: Option<u64>) {
        let found = of(base, &held(numbers));
        let number = found
            .last
            .map(|name| name.number(SegmentSize::DEFAULT).unwrap());
        assert_eq!((found.usable, number), (usable, last), "{numbers:?}");
    }

    #[test]
    fn a_base_is_usable_with_every_segment_from_its_start_to_its_stop() {
        check(&base(4, 5), &[4, 5], true, Some(5));
        check(&base(4, 5), &[3, 4, 5, 6, 8], true, Some(6));
        check(&base(4, 5), &[4], false, Some(4));
        check(&base(4, 6), &[4, 6], false, Some(4));
        check(&base(4, 5), &[5, 6], false, None);
        check(&base(4, 5), &[], false, None);
    }

    #[test]
    fn a_stop_at_the_very_beginning_of_a_segment_needs_only_the_one_before() {
        let mut exact = base(4, 5);
        exact.stop_lsn = Lsn::new(5 * SIZE);
        check(&exact, &[4], true, Some(4));
    }
}
