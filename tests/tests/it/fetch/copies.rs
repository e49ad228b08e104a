//! Damaged copies: told, replaced from the other cloud, never delivered.

use walferry_tests::wal::Fill;
use walferry_tests::{Fault, Rule, World};

use super::{MAKER, archived, check, spot};

const METADATA: [&str; 7] = [
    "wf-sha256",
    "wf-size",
    "wf-cluster",
    "wf-system-id",
    "wf-encoder",
    "wf-level",
    "wf-mtime",
];

/// The object of another body, with what was said of the old one.
fn replace(world: &World, cloud: &str, key: &str, body: &[u8]) {
    let bucket = world.cloud(cloud).bucket();
    let there = bucket.head(key).expect("it is there");
    let values = METADATA.map(|name| there.header(&format!("x-amz-meta-{name}")));
    let pairs: Vec<(&str, &str)> = METADATA
        .into_iter()
        .zip(&values)
        .filter_map(|(name, value)| Some((name, value.as_deref()?)))
        .collect();
    assert_eq!(pairs.len(), METADATA.len(), "as workers put it there");
    bucket.put_with(key, body, &pairs);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

#[test]
fn a_damaged_copy_is_told_and_the_other_clouds_is_delivered() {
    let world = archived();
    let spot = spot(&world);
    let name = MAKER.name(2);
    let key = format!("wal/{name}.gz");
    let whole = world
        .cloud("r2")
        .bucket()
        .get(&key)
        .expect("it is there")
        .body;
    let original = MAKER.bytes(2, Fill::Light);
    let other = world
        .cloud("r2")
        .bucket()
        .get(&format!("wal/{}.gz", MAKER.name(3)))
        .expect("it is there")
        .body;
    let mut flipped = whole.to_vec();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x10;
    let mut foreign = original.clone();
    // xlp_sysid, in the long page header.
    foreign[24] ^= 1;
    let damages: [(&str, Vec<u8>); 6] = [
        ("zeros", gzip(&vec![0; original.len()])),
        ("another segment", other.to_vec()),
        ("truncated", whole[..whole.len() - 9].to_vec()),
        ("a flipped bit", flipped),
        ("another system", gzip(&foreign)),
        ("no gzip", b"<html>login</html>".to_vec()),
    ];
    for (damage, body) in &damages {
        replace(&world, "r2", &key, body);
        eprintln!("{damage} in r2");
        check(&world, &spot, &[&name], 0, "r2");
        replace(&world, "b2", &key, body);
        eprintln!("{damage} in both");
        check(&world, &spot, &[&name], 200, "b2");
        replace(&world, "r2", &key, &whole);
        replace(&world, "b2", &key, &whole);
    }
    // Put there by another system, without a word about its content: its header tells.
    world.cloud("r2").bucket().put(&key, &gzip(&foreign));
    check(&world, &spot, &[&name], 0, "r2");
    world.cloud("r2").bucket().put(&key, &whole);
    check(&world, &spot, &[&name], 0, "no SHA-256");
}

#[test]
fn a_download_that_breaks_goes_on_at_the_other_cloud() {
    let world = archived();
    let spot = spot(&world);
    for fault in [
        Fault::ResetMidBody,
        Fault::TruncatedAnswer,
        Fault::Status(503),
        Fault::Refuse,
    ] {
        let proxy = world.cloud("r2").proxy();
        proxy.fault(Rule::new(fault).for_keys_with(&MAKER.name(1)));
        check(&world, &spot, &[&MAKER.name(1)], 0, "");
        world.cloud("b2").proxy().fault(Fault::Refuse);
        check(&world, &spot, &[&MAKER.name(1)], 200, "r2");
        proxy.pass();
        world.cloud("b2").proxy().pass();
    }
}
