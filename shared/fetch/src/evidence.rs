//! What lies in a repository and could not be there if the file had never existed.
//!
//! Keys sort by timeline, then position, with `T.history` in front of the timeline's segments,
//! so one listing behind the key that is absent tells almost everything:
//!
//! - A **segment** is known by any later file of its timeline, and by a label that names it: a
//!   base backup that ended has archived its first segment. Its own `.partial` tells nothing: it
//!   is what a promotion leaves of a segment that was never finished.
//! - A **history file** is known by any other file of its timeline. Those of *other* timelines
//!   tell nothing: PostgreSQL asks for the next free number at the end of every recovery, and
//!   number 2 may be free for ever while 3 is taken.
//! - Both are known by the history file of a **later timeline** that descends from theirs: it
//!   names its ancestors, and how far each of them reached. So the segments at the end of an old
//!   timeline are missed too, although nothing of that timeline lies behind them.
//! - A **partial** or a **label** is known by nothing: no other file needs it. The history file of
//!   **timeline 1** does not exist.

use futures::StreamExt as _;
use walferry_layout::{OwnerMark, object_key, parse_key};
use walferry_pack::unpack::{UnpackError, collect};
use walferry_proof::KeyPrefix;
use walferry_store::{ObjectStream, ReadRepository};
use walferry_wal::{History, SegmentName, TimelineId, WalFile};

use crate::check::Mismatch;
use crate::problem::Problem;

/// Keys of one page: enough for the label, the partial and the next segment.
const PAGE: usize = 10;

/// More later timelines than anybody has.
const MOST_TIMELINES: usize = 1000;

/// A history file is a few lines.
const HISTORY: u64 = 1 << 20;

/// Looks for a reason to believe that `file` existed; `mark` is that of the repository.
pub(crate) async fn evidence(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    file: &WalFile,
    mark: &OwnerMark,
) -> Result<Option<String>, Problem> {
    let before = match file {
        WalFile::Partial(_) | WalFile::Label { .. } => return Ok(None),
        // PostgreSQL asks for it at the end of every recovery that was on timeline 1.
        WalFile::History(timeline) if timeline.get() == 1 => return Ok(None),
        WalFile::History(timeline) => WalFile::History(*timeline),
        // The first of the segment's labels, which sort in front of it. No backup begins at
        // offset 0, where the page header lies.
        WalFile::Segment(segment) => WalFile::Label {
            segment: *segment,
            offset: 0,
        },
    };
    let own = SameTimeline { file };
    let mut found = Walk::behind(&before);
    for _ in 0..MOST_TIMELINES {
        let later = match found.next(repository, prefix, &own).await? {
            Next::Evidence(evidence) => return Ok(Some(evidence)),
            Next::Nothing => return Ok(None),
            Next::Timeline(later) => later,
        };
        let of = WalFile::History(later);
        if let Some(history) = history(repository, prefix, later).await?
            && descends(&history, file, mark)
        {
            return Ok(Some(format!("`{of}` names it as an ancestor's")));
        }
        let Some(end) = last_of(later, mark) else {
            return Ok(None);
        };
        found = Walk::behind(&WalFile::Partial(end));
    }
    Ok(Some(format!("more than {MOST_TIMELINES} timelines lie")))
}

/// A walk over the keys behind one.
struct Walk {
    after: WalFile,
}

enum Next {
    Evidence(String),
    /// Something of a later timeline.
    Timeline(TimelineId),
    Nothing,
}

struct SameTimeline<'a> {
    file: &'a WalFile,
}

impl SameTimeline<'_> {
    fn tells(&self, other: &WalFile) -> bool {
        match self.file {
            WalFile::Segment(segment) => *other != WalFile::Partial(*segment),
            WalFile::History(_) => true,
            WalFile::Partial(_) | WalFile::Label { .. } => false,
        }
    }
}

impl Walk {
    fn behind(file: &WalFile) -> Self {
        Self { after: *file }
    }

    async fn next(
        &mut self,
        repository: &dyn ReadRepository,
        prefix: &KeyPrefix,
        own: &SameTimeline<'_>,
    ) -> Result<Next, Problem> {
        let mut after = object_key(prefix, &self.after);
        loop {
            let page = repository
                .list(prefix, Some(&after), PAGE)
                .await
                .map_err(Problem::Store)?;
            for object in &page.objects {
                // Marks, and what others put there.
                let Some(found) = parse_key(prefix, &object.key) else {
                    continue;
                };
                if found == *own.file {
                    return Err(Problem::Contradiction {
                        repository: repository.name().clone(),
                        key: object.key.clone(),
                    });
                }
                if found.timeline() > own.file.timeline() {
                    return Ok(Next::Timeline(found.timeline()));
                }
                if own.tells(&found) {
                    return Ok(Next::Evidence(format!("`{found}` lies")));
                }
            }
            match page.objects.last() {
                Some(last) if page.more => after = last.key.clone(),
                _ => return Ok(Next::Nothing),
            }
        }
    }
}

/// Whether a later timeline's ancestors show that `file` existed.
fn descends(history: &History, file: &WalFile, mark: &OwnerMark) -> bool {
    let entry = |timeline| {
        let mut entries = history.entries.iter();
        entries.find(|entry| entry.parent == timeline)
    };
    match file {
        WalFile::History(timeline) => entry(*timeline).is_some(),
        // The timeline was left within the segment that holds the switch: that one may never
        // have been finished, those before it were.
        WalFile::Segment(segment) => entry(segment.timeline()).is_some_and(|entry| {
            let left = SegmentName::from_lsn(segment.timeline(), entry.switch, mark.segment_size);
            left > *segment
        }),
        WalFile::Partial(_) | WalFile::Label { .. } => false,
    }
}

/// The last name that a timeline can have.
fn last_of(timeline: TimelineId, mark: &OwnerMark) -> Option<SegmentName> {
    let last = (mark.segment_size.per_log() << 32) - 1;
    SegmentName::from_number(timeline, last, mark.segment_size)
}

/// A history file that lies there; one that cannot be read excludes nothing.
pub(crate) async fn history(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
    timeline: TimelineId,
) -> Result<Option<History>, Problem> {
    let key = object_key(prefix, &WalFile::History(timeline));
    let stream = repository.get(&key).await.map_err(Problem::Store)?;
    let Some(ObjectStream { body, .. }) = stream else {
        return Ok(None);
    };
    let unreadable = |source| Problem::History {
        repository: repository.name().clone(),
        key: key.clone(),
        source,
    };
    let packed = match collect(body.boxed(), HISTORY).await {
        Ok(packed) => packed,
        Err(UnpackError::Store(error)) => return Err(Problem::Store(error)),
        Err(error) => {
            return Err(unreadable(Mismatch::Unpack(std::io::Error::other(error))));
        }
    };
    let plain = gunzip(&packed).map_err(|error| unreadable(Mismatch::Unpack(error)))?;
    match History::parse(timeline, &plain) {
        Ok(history) => Ok(Some(history)),
        Err(error) => Err(unreadable(Mismatch::History(error))),
    }
}

/// A few hundred bytes: nothing that holds up the runtime.
fn gunzip(packed: &[u8]) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;

    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(packed)
        .take(HISTORY + 1)
        .read_to_end(&mut plain)?;
    Ok(plain)
}
