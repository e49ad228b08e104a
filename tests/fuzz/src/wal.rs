//! Names of WAL files, and what their first bytes or their text says.

use std::path::{Component, Path};

use walferry_proof::KeyPrefix;
use walferry_wal::control::{ControlError, ControlFile};
use walferry_wal::records::{Ending, Event, RecordsError, events};
use walferry_wal::{
    BackupFrom, HeaderError, History, HistoryError, Label, LabelError, Lsn, PageHeader,
    SegmentName, SegmentSize, TimelineId, WalFile,
};

/// More than this no parser may take of a text file.
const LARGEST: usize = 1 << 20;

pub(crate) fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(file) = text.parse::<WalFile>() {
        assert_eq!(file.to_string(), text, "one spelling");
        // It becomes part of a path and of a key: nothing but a plain name may.
        let mut parts = Path::new(text).components();
        assert!(matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none());
        assert!(text.len() <= 40 && text.bytes().all(|byte| byte.is_ascii_graphic()));
        let prefix: KeyPrefix = "wal/".parse().expect("a prefix");
        let key = walferry_layout::object_key(&prefix, &file);
        assert_eq!(walferry_layout::parse_key(&prefix, &key), Some(file));
    }
    if let Ok(name) = text.parse::<SegmentName>() {
        for power in 20..=30_u32 {
            let size = SegmentSize::try_from(1_u64 << power).expect("a segment size");
            let Ok(start) = name.start_lsn(size) else {
                continue;
            };
            assert_eq!(SegmentName::from_lsn(name.timeline(), start, size), name);
            if let Ok(next) = name.next(size) {
                assert!(name < next && next.start_lsn(size).is_ok());
            }
        }
    }
    if let Ok(lsn) = text.parse::<Lsn>() {
        assert_eq!(lsn.to_string().parse(), Ok(lsn));
    }
    if let Ok(timeline) = text.parse::<TimelineId>() {
        assert_eq!(timeline.to_string(), text);
    }
}

/// A name of 24 bytes, then the page.
pub(crate) fn page_header(bytes: &[u8]) {
    let (name, page) = bytes.split_at(bytes.len().min(24));
    let header = match PageHeader::parse(page) {
        Ok(header) => header,
        Err(error) => {
            let short = page.len() < PageHeader::SIZE;
            return assert_eq!(matches!(error, HeaderError::Short(_)), short, "{error}");
        }
    };
    assert_eq!(encode(&header, page), page[..PageHeader::SIZE]);
    let name = std::str::from_utf8(name).ok();
    let Some(name) = name.and_then(|name| name.parse::<SegmentName>().ok()) else {
        return;
    };
    let size = header.segment_size.bytes();
    assert!(header.check(&name, size + 1, None).is_err());
    if header.check(&name, size, None).is_ok() {
        assert_eq!(
            name.start_lsn(header.segment_size),
            Ok(header.page_address),
            "a header is that of its name only"
        );
        assert!(header.timeline <= name.timeline());
        let other = walferry_wal::SystemId::new(!header.system_id.get());
        assert!(header.check(&name, size, Some(header.system_id)).is_ok());
        assert!(header.check(&name, size, Some(other)).is_err());
    }
}

/// As PostgreSQL writes it; what the parser leaves out is taken from `page`.
fn encode(header: &PageHeader, page: &[u8]) -> Vec<u8> {
    let mut bytes = page[..PageHeader::SIZE].to_vec();
    let size = u32::try_from(header.segment_size.bytes()).expect("at most 1 GiB");
    bytes[0..2].copy_from_slice(&header.magic.to_le_bytes());
    bytes[2..4].copy_from_slice(&header.info.to_le_bytes());
    bytes[4..8].copy_from_slice(&header.timeline.get().to_le_bytes());
    bytes[8..16].copy_from_slice(&header.page_address.get().to_le_bytes());
    bytes[24..32].copy_from_slice(&header.system_id.get().to_le_bytes());
    bytes[32..36].copy_from_slice(&size.to_le_bytes());
    bytes[36..40].copy_from_slice(&header.block_size.to_le_bytes());
    bytes
}

pub(crate) fn history(bytes: &[u8]) {
    let timeline = TimelineId::new(9).expect("not 0");
    let history = match History::parse(timeline, bytes) {
        Ok(history) => history,
        Err(error) => {
            let cut = bytes.last() != Some(&b'\n') && bytes.len() <= LARGEST;
            return assert_eq!(error == HistoryError::Incomplete, cut, "{error}");
        }
    };
    assert!(bytes.len() <= LARGEST && bytes.ends_with(b"\n"));
    let parents: Vec<TimelineId> = history.entries.iter().map(|entry| entry.parent).collect();
    assert!(!parents.is_empty() && parents.is_sorted_by(|a, b| a < b));
    assert!(parents.iter().all(|parent| *parent < timeline));
    let mut text = String::new();
    for entry in &history.entries {
        let (parent, reason) = (entry.parent.get(), &entry.reason);
        text.push_str(&format!("{parent}\t{}\t{reason}\n", entry.switch));
    }
    // A reason in another encoding grows when it is made text.
    if text.len() <= LARGEST {
        assert_eq!(History::parse(timeline, text.as_bytes()), Ok(history));
    }
}

pub(crate) fn label(bytes: &[u8]) {
    let label = match Label::parse(bytes) {
        Ok(label) => label,
        Err(error) => {
            let large = bytes.len() > LARGEST;
            return assert_eq!(error == LabelError::TooLarge, large, "{error}");
        }
    };
    assert!(bytes.len() <= LARGEST && bytes.ends_with(b"\n"));
    let from = match label.backup_from {
        BackupFrom::Primary => "primary",
        BackupFrom::Standby => "standby",
    };
    let time = |name, time: Option<chrono::DateTime<chrono::Utc>>| {
        time.map(|time| format!("{name} TIME: {}\n", time.format("%Y-%m-%d %H:%M:%S UTC")))
            .unwrap_or_default()
    };
    let text = format!(
        "START WAL LOCATION: {} (file {})\nSTOP WAL LOCATION: {} (file {})\nBACKUP FROM: {from}\n\
         {}LABEL: {}\nSTART TIMELINE: {}\n{}STOP TIMELINE: 1\n",
        label.start_lsn,
        label.start_segment,
        label.stop_lsn,
        label.stop_segment,
        time("START", label.start_time),
        label.label,
        label.timeline.get(),
        time("STOP", label.stop_time),
    );
    if text.len() <= LARGEST {
        assert_eq!(Label::parse(text.as_bytes()), Ok(label));
    }
}

/// The first bytes of a segment of 1 MiB, the rest of which is zeros. Its name is the one that
/// its header wants, for the records to be reached.
pub(crate) fn records(bytes: &[u8]) {
    let size = SegmentSize::try_from(1 << 20).expect("a segment size");
    let mut segment = bytes.to_vec();
    segment.resize(1 << 20, 0);
    let header = PageHeader::parse(&segment).ok();
    let Some(header) = header.filter(|header| header.segment_size == size) else {
        let name = "000000010000000000000001".parse().expect("a name");
        return assert!(matches!(
            events(&segment, name, size),
            Err(RecordsError::Header { .. })
        ));
    };
    let name = SegmentName::from_lsn(header.timeline, header.page_address, size);
    let Ok(found) = events(&segment, name, size) else {
        return;
    };
    let start = header.page_address.get();
    let end = start + size.bytes();
    assert!((start..=end).contains(&found.ends_at.get()));
    let whole = matches!(found.ending, Ending::Full | Ending::Switch);
    assert!(!whole || found.ends_at.get() == end);
    let mut before = header.page_address;
    for event in &found.events {
        assert!(before <= event.lsn() && event.lsn() < event.end());
        assert!(event.lsn().get().is_multiple_of(8));
        if let Event::RestorePoint { name, .. } = event {
            assert!(!name.contains('\0'));
        }
        before = event.end();
    }
    assert!(before <= found.ends_at && found.unreadable.is_sorted());
}

pub(crate) fn control(bytes: &[u8]) {
    match ControlFile::parse(bytes) {
        Ok(file) => {
            let mut again = file.system_id.get().to_le_bytes().to_vec();
            again.extend_from_slice(&file.version.to_le_bytes());
            assert_eq!(again, bytes[..ControlFile::SIZE]);
        }
        Err(error) => {
            let short = bytes.len() < ControlFile::SIZE;
            assert_eq!(matches!(error, ControlError::Short(_)), short, "{error}");
        }
    }
}
