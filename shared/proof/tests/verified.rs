//! Nothing but the expected content makes a `Verified`.

use walferry_proof::{
    Evidence, Expected, ExpectedEtag, Mismatch, Reported, Verified, VerifyMode, md5, sha256,
};

const PLAIN: &[u8] = b"a segment";
const STORED: &[u8] = b"its gzip";

fn expected() -> Expected {
    Expected {
        sha256: sha256(PLAIN),
        plain_size: PLAIN.len() as u64,
        stored_size: STORED.len() as u64,
        stored_md5: md5(STORED),
        etag: ExpectedEtag::Single(md5(STORED)),
    }
}

fn reported(evidence: Evidence) -> Reported {
    Reported {
        repository: "r2".parse().expect("a name"),
        key: "wal/000000010000000000000001.gz".parse().expect("a key"),
        evidence,
    }
}

fn head() -> Evidence {
    Evidence::Head {
        size: STORED.len() as u64,
        etag: Some(format!("\"{}\"", md5(STORED))),
        sha256_metadata: Some(sha256(PLAIN)),
    }
}

fn read_back() -> Evidence {
    Evidence::ReadBack {
        stored_size: STORED.len() as u64,
        stored_md5: md5(STORED),
        plain_sha256: sha256(PLAIN),
        plain_size: PLAIN.len() as u64,
    }
}

fn compare(evidence: Evidence, mode: VerifyMode) -> Result<Verified, Mismatch> {
    Verified::compare(&expected(), reported(evidence), mode)
}

#[test]
fn what_was_sent_is_verified_and_says_how() {
    for (evidence, mode, proven) in [
        (head(), VerifyMode::Head, VerifyMode::Head),
        (read_back(), VerifyMode::Head, VerifyMode::ReadBack),
        (read_back(), VerifyMode::ReadBack, VerifyMode::ReadBack),
    ] {
        let verified = compare(evidence, mode).expect("the same content");
        assert_eq!(verified.mode(), proven);
        assert_eq!(verified.sha256(), sha256(PLAIN));
        assert_eq!(verified.stored_size(), STORED.len() as u64);
        assert_eq!(verified.repository().as_str(), "r2");
        assert_eq!(verified.key().as_str(), "wal/000000010000000000000001.gz");
    }
}

#[test]
fn a_head_is_no_proof_where_the_object_has_to_be_read_back() {
    let error = compare(head(), VerifyMode::ReadBack).expect_err("too weak");
    assert!(matches!(error, Mismatch::NotReadBack { .. }));
    assert!(error.needs_read_back());
}

#[test]
fn each_difference_of_a_head_is_seen() {
    let with = |size, etag: Option<&str>, sha256_metadata| Evidence::Head {
        size,
        etag: etag.map(str::to_owned),
        sha256_metadata,
    };
    let size = STORED.len() as u64;
    let good_sha = Some(sha256(PLAIN));
    let good_etag = md5(STORED).to_string();
    let other_etag = md5(b"other").to_string();
    let check = |evidence, wanted: fn(&Mismatch) -> bool, read_back: bool| {
        let error = compare(evidence, VerifyMode::Head).expect_err("a difference");
        assert!(wanted(&error), "{error}");
        assert_eq!(error.needs_read_back(), read_back, "{error}");
    };
    check(
        with(size - 1, Some(&good_etag), good_sha),
        |e| matches!(e, Mismatch::Size { .. }),
        false,
    );
    check(
        with(size, Some(&other_etag), good_sha),
        |e| matches!(e, Mismatch::Etag { .. }),
        false,
    );
    for strange in [None, Some(""), Some("opaque"), Some("0123-2")] {
        check(
            with(size, strange, good_sha),
            |e| matches!(e, Mismatch::EtagNotMd5 { .. }),
            true,
        );
    }
    check(
        with(size, Some(&good_etag), Some(sha256(b"other"))),
        |e| matches!(e, Mismatch::Sha256 { .. }),
        false,
    );
    check(
        with(size, Some(&good_etag), None),
        |e| matches!(e, Mismatch::NoSha256 { .. }),
        true,
    );
}

#[test]
fn each_difference_of_an_object_read_back_is_seen() {
    let mut seen = 0;
    for change in 0..4 {
        let Evidence::ReadBack {
            mut stored_size,
            mut stored_md5,
            mut plain_sha256,
            mut plain_size,
        } = read_back()
        else {
            unreachable!("it was read back");
        };
        match change {
            0 => stored_size += 1,
            1 => stored_md5 = md5(b"other"),
            2 => plain_sha256 = sha256(b"other"),
            _ => plain_size += 1,
        }
        let error = compare(
            Evidence::ReadBack {
                stored_size,
                stored_md5,
                plain_sha256,
                plain_size,
            },
            VerifyMode::ReadBack,
        )
        .expect_err("a difference");
        assert!(!error.needs_read_back(), "{error}");
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn a_multipart_etag_is_compared_with_the_one_computed_from_the_parts() {
    let etag = format!("{}-3", md5(STORED));
    let expected = Expected {
        etag: ExpectedEtag::Multipart { etag: etag.clone() },
        ..expected()
    };
    let compare = |reported_etag: &str| {
        let evidence = Evidence::Head {
            size: STORED.len() as u64,
            etag: Some(reported_etag.to_owned()),
            sha256_metadata: Some(sha256(PLAIN)),
        };
        Verified::compare(&expected, reported(evidence), VerifyMode::Head)
    };
    assert!(compare(&format!("\"{etag}\"")).is_ok());
    let other = compare(&format!("{}-4", md5(STORED))).expect_err("other parts");
    assert!(matches!(other, Mismatch::Etag { .. }), "{other}");
    let whole = compare(&md5(STORED).to_string()).expect_err("no multipart etag");
    assert!(matches!(whole, Mismatch::EtagNotMd5 { .. }), "{whole}");
}

#[test]
fn an_object_packed_by_somebody_else_is_adopted_only_when_it_unpacks_to_the_content() {
    let adopt = |evidence| Verified::adopt(sha256(PLAIN), PLAIN.len() as u64, reported(evidence));
    let other_gzip = |plain: &[u8]| Evidence::ReadBack {
        stored_size: 77,
        stored_md5: md5(b"another encoder"),
        plain_sha256: sha256(plain),
        plain_size: plain.len() as u64,
    };
    let adopted = adopt(other_gzip(PLAIN)).expect("the same content");
    assert_eq!(adopted.stored_size(), 77, "as the repository holds it");
    let error = adopt(other_gzip(b"other")).expect_err("another content");
    assert!(matches!(error, Mismatch::Sha256 { .. }));
    let error = adopt(head()).expect_err("metadata is what somebody claims");
    assert!(matches!(error, Mismatch::NotReadBack { .. }));
}

#[test]
fn verify_modes_are_read_as_they_are_written() {
    for mode in [VerifyMode::Head, VerifyMode::ReadBack] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
    }
    assert!("HEAD".parse::<VerifyMode>().is_err());
}
