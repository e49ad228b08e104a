//! Segments of 1 GiB, the largest there are, written by a real server.

use std::os::unix::fs::PermissionsExt;

use sha2::{Digest, Sha256};
use walferry_bench::corpus::{Kind, Segment};
use walferry_tests::postgres::Settings;
use walferry_tests::{Postgres, World};

/// pgbench's scale: loading it logs most of a segment, so that each segment takes two loads.
const SCALE: u32 = 50;

/// Transactions between two loads.
const TRANSACTIONS: u32 = 2000;

/// Makes so many in the world's folder, and stops the server that wrote them.
///
/// # Panics
/// When the server or pgbench fails, or a segment is not of 1 GiB.
pub(crate) fn make(home: &World, count: usize) -> Vec<Segment> {
    eprintln!("bench: writing {count} segments of 1 GiB");
    let settings = Settings::new("huge")
        .initdb("--wal-segsize=1024")
        .option("fsync", "off")
        .option("synchronous_commit", "off")
        .option("autovacuum", "off")
        .option("wal_level", "replica")
        .option("min_wal_size", "2GB")
        .option("max_wal_size", "4GB")
        .option("wal_keep_size", "1TB")
        .option("wal_recycle", "off")
        .option("wal_init_zero", "off");
    let mut server = Postgres::start(&settings, home.folder(), home.runtime().handle());
    // What initdb left is in the first.
    server.switch();
    let first = position(&server);
    while position(&server) < first + count as u64 {
        server.pgbench_init(SCALE);
        server.pgbench_run(TRANSACTIONS);
    }
    let folder = home.folder().join("huge-segments");
    std::fs::create_dir_all(&folder).expect("make the folder of the originals");
    let segments = (first..first + count as u64)
        .map(|number| {
            let name = format!("{:08X}{:08X}{:08X}", 1, number / 4, number % 4);
            let path = folder.join(&name);
            std::fs::hard_link(server.pg_wal().join(&name), &path)
                .unwrap_or_else(|error| panic!("keep {name}: {error}"));
            kept(name, path)
        })
        .collect();
    server.stop();
    segments
}

/// The number of the segment that is written now.
fn position(server: &Postgres) -> u64 {
    let number = "SELECT div(pg_current_wal_insert_lsn() - '0/0', 1073741824)::bigint";
    server.value(number).parse().expect("a number")
}

/// Hashes a segment and makes it readable.
fn kept(name: String, path: std::path::PathBuf) -> Segment {
    let mut file = std::fs::File::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let read = std::io::Read::read(&mut file, &mut buffer)
            .unwrap_or_else(|error| panic!("read {name}: {error}"));
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        size += read as u64;
    }
    assert_eq!(size, 1 << 30, "{name} is no segment of 1 GiB");
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
        .unwrap_or_else(|error| panic!("chmod {name}: {error}"));
    Segment {
        sha256: hex::encode(hash.finalize()),
        name,
        path,
        kind: Kind::Full,
        size,
    }
}
