//! What clouds answer, and what objects say about themselves.

use std::collections::BTreeMap;

use walferry_layout::{OwnerMark, metadata::ObjectMetadata};
use walferry_proof::{KeyPrefix, ObjectKey, RepositoryName};
use walferry_store::answers::{Listing, Versions, Words, is_error_body};

/// A prefix on the first line, a key on the second.
pub(crate) fn keys(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(name) = text.parse::<RepositoryName>() {
        assert_eq!(name.as_str(), text, "one spelling");
    }
    let (first, second) = text.split_once('\n').unwrap_or(("wal/", text));
    let (prefix, key) = (first.parse::<KeyPrefix>(), second.parse::<ObjectKey>());
    if let Ok(prefix) = &prefix {
        assert_eq!(prefix.as_str(), first, "one spelling");
        plain(first);
        assert!(first.ends_with('/'));
        plain(walferry_layout::owner_key(prefix).as_str());
    }
    let Ok(key) = key else { return };
    assert_eq!(key.as_str(), second, "one spelling");
    plain(second);
    if let Ok(prefix) = prefix
        && let Some(file) = walferry_layout::parse_key(&prefix, &key)
    {
        assert_eq!(walferry_layout::object_key(&prefix, &file), key);
    }
}

/// Leads nowhere but below the bucket, and is no news to a terminal.
fn plain(key: &str) {
    assert!((1..=1024).contains(&key.len()), "{key}");
    assert!(!key.starts_with('/') && !key.split('/').any(|part| part == ".."));
    assert!(key.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
}

pub(crate) fn listing(bytes: &[u8]) {
    words(bytes);
    let Ok(listing) = Listing::parse(bytes) else {
        return;
    };
    // An empty answer, a page of HTML or an error is not an empty bucket.
    assert!(text(bytes).contains("IsTruncated"));
    for object in &listing.contents {
        if let Ok(key) = object.key.parse::<ObjectKey>() {
            plain(key.as_str());
        }
    }
}

pub(crate) fn versions(bytes: &[u8]) {
    let Ok(page) = Versions::parse(bytes) else {
        return;
    };
    assert!(text(bytes).contains("IsTruncated"));
    // Deleting asks for one key: an entry is of it or of another, never lost, never both.
    let key = "wal/000000010000000000000001.gz";
    let ours = page.exactly(key);
    assert!(ours.iter().all(|version| version.key == key));
    let all = page.versions.len() + page.markers.len();
    assert_eq!(page.others(key), ours.len() < all);
}

fn words(bytes: &[u8]) {
    let words = Words::parse(bytes);
    if !is_error_body(bytes) {
        assert_eq!((words.code.as_str(), words.message), ("", text(bytes)));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Lines of `NAME: VALUE`, as in a HEAD's answer.
pub(crate) fn metadata(bytes: &[u8]) {
    let map: BTreeMap<String, String> = text(bytes)
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Ok(found) = ObjectMetadata::from_map(&map) {
        assert_eq!(ObjectMetadata::from_map(&found.to_map()), Ok(found.clone()));
        assert!(found.to_map().keys().all(|name| map.contains_key(name)));
    }
}

pub(crate) fn owner_mark(bytes: &[u8]) {
    if let Ok(mark) = OwnerMark::parse(bytes) {
        assert_eq!(mark.format, 1, "no later format is guessed");
        let again = OwnerMark::parse(&mark.to_json()).expect("as it was written");
        assert_eq!(again, mark);
    }
}
