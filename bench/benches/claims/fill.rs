//! A catalog full of segments that were verified long ago.

use std::time::{Duration, Instant};

use walferry_catalog::{
    Catalog, CatalogSettings, ClusterId, Connection, DirectoryId, PrefixId, clusters, repositories,
};
use walferry_proof::RepositoryName;
use walferry_tests::World;

use crate::server::sql;

/// Segments of one statement.
const CHUNK: u64 = 250_000;

/// A cluster with its prefix and its archive directory.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) cluster: ClusterId,
    pub(crate) prefix: PrefixId,
    pub(crate) key_prefix: String,
    pub(crate) directory: DirectoryId,
}

impl Site {
    /// So many clusters, made as a worker makes them; the first is the one that the world's
    /// worker serves.
    pub(crate) fn make(world: &World, number: u32) -> Vec<Site> {
        let archive = world.archive().display().to_string();
        let sites = world.runtime().block_on(async {
            let catalog = catalog(world);
            let mut conn = connect(&catalog).await;
            repositories::ensure_repositories(&mut conn, &clouds())
                .await
                .expect("repositories are made");
            let mut sites = Vec::new();
            for number in 0..number {
                let (name, prefix, path) = match number {
                    0 => ("main".to_owned(), "wal/".to_owned(), archive.clone()),
                    _ => {
                        let name = format!("cluster-{number}");
                        let path = format!("/archive/{name}");
                        (name.clone(), format!("{name}/"), path)
                    }
                };
                let key_prefix = prefix.parse().expect("a prefix");
                let cluster = clusters::ensure_cluster(&mut conn, &name, &key_prefix)
                    .await
                    .expect("a cluster is made");
                let directory = clusters::ensure_directory(&mut conn, cluster.id, "main", &path)
                    .await
                    .expect("a directory is made");
                sites.push(Site {
                    cluster: cluster.id,
                    prefix: cluster.prefix.id,
                    key_prefix: prefix,
                    directory,
                });
            }
            sites
        });
        Site::identify(world);
        sites
    }

    /// As the first segment of each would have told, so that retention takes them for real.
    fn identify(world: &World) {
        sql(
            world,
            "UPDATE prefixes SET system_id = 7000000000000000000 + id, segment_size = 16777216",
        );
    }
}

/// The repositories that a world has.
pub(crate) fn clouds() -> Vec<RepositoryName> {
    ["b2", "r2"]
        .map(|name| name.parse().expect("a repository's name"))
        .to_vec()
}

/// A pool of one connection, set up as a worker's.
pub(crate) fn catalog(world: &World) -> Catalog {
    let url = world.catalog().url("walferry");
    Catalog::new(CatalogSettings {
        pool_size: 1,
        ..CatalogSettings::new(url.into(), "walferry-bench")
    })
    .expect("the settings parse")
}

pub(crate) async fn connect(catalog: &Catalog) -> Connection {
    catalog.get().await.expect("the catalog answers")
}

/// Adds segments until there are `to`, and lets the server settle. How long that took.
pub(crate) fn fill(world: &World, sites: &[Site], from: u64, to: u64) -> Duration {
    let began = Instant::now();
    let mut next = from;
    while next < to {
        let end = (next + CHUNK).min(to);
        sql(world, &statement(sites, next, end));
        next = end;
    }
    for table in ["wal_files", "copies", "local_files"] {
        sql(world, &format!("VACUUM (ANALYZE) {table}"));
    }
    sql(world, "CHECKPOINT");
    began.elapsed()
}

/// Rows as a worker leaves them: two verified copies, a local file that was deleted, nothing
/// due; a segment every 2.4 s and cluster. Foreign keys hold by construction, so their
/// triggers are spared.
fn statement(sites: &[Site], from: u64, to: u64) -> String {
    let list = |pick: fn(&Site) -> i64| {
        let ids: Vec<String> = sites.iter().map(|site| pick(site).to_string()).collect();
        ids.join(",")
    };
    let (prefixes, directories) = (
        list(|site| site.prefix.get()),
        list(|site| site.directory.get()),
    );
    let clusters = sites.len();
    format!(
        "SET session_replication_role = replica; SET synchronous_commit = off; \
         WITH input AS ( \
            SELECT g, g / {clusters} AS n, (g % {clusters})::int + 1 AS site, \
                   '00000001' || upper(lpad(to_hex(g / {clusters} / 256), 8, '0') \
                              || lpad(to_hex(g / {clusters} % 256), 8, '0')) AS name, \
                   now() - interval '29 days' + (g / {clusters}) * interval '2.4 s' AS at \
              FROM generate_series({from}::bigint, {last}) AS g), \
         files AS ( \
            INSERT INTO wal_files (prefix_id, name, kind, timeline, log, seg, sha256, size_bytes, mtime, \
                    encoder, level, compressed_size, compressed_md5, status, registered_at, verified_at, \
                    attempt, lease_length, due_at) \
            SELECT (ARRAY[{prefixes}])[site], name, 'segment', 1, n / 256, n % 256, sha256(name::bytea), \
                   16777216, at, 'libdeflate', 9, 300000 + g % 2000000, decode(md5(name), 'hex'), 'VERIFIED', \
                   at + interval '1 s', at + interval '2 s', 1, 60, NULL FROM input \
            RETURNING id, prefix_id, compressed_size, registered_at, verified_at, mtime), \
         copied AS ( \
            INSERT INTO copies (file_id, repository, state, due_at, due_since, stored_size, verify_mode, verified_at) \
            SELECT id, name, 'verified', registered_at, registered_at, compressed_size, 'head', verified_at \
              FROM files CROSS JOIN (VALUES ('b2'), ('r2')) AS clouds (name)) \
         INSERT INTO local_files (file_id, directory_id, dev, ino, size, mtime_ns, seen_at, deleted_at) \
         SELECT id, (ARRAY[{directories}])[array_position(ARRAY[{prefixes}], prefix_id::int)], 65024, \
                1000000 + id, 16777216, (extract(epoch FROM mtime) * 1e9)::bigint, registered_at, verified_at \
           FROM files",
        last = to - 1
    )
}

/// Every segment is VERIFIED with both copies, none is claimed or due, and nothing lies in a
/// directory.
///
/// # Panics
/// When that is not so: no figure of this run counts then.
pub(crate) fn check(world: &World) {
    for (what, sql) in [
        (
            "are not verified",
            "SELECT count(*) FROM wal_files WHERE status <> 'VERIFIED'",
        ),
        (
            "are due",
            "SELECT count(*) FROM wal_files WHERE due_at IS NOT NULL",
        ),
        (
            "are claimed",
            "SELECT count(*) FROM wal_files WHERE claimed_by IS NOT NULL",
        ),
        (
            "copies are due",
            "SELECT count(*) FROM copies WHERE state = 'due'",
        ),
        (
            "lie on disk",
            "SELECT count(*) FROM local_files WHERE deleted_at IS NULL",
        ),
        (
            "lack a copy",
            "SELECT (SELECT count(*) * 2 FROM wal_files) - (SELECT count(*) FROM copies)",
        ),
    ] {
        assert_eq!(world.number(sql), 0, "of the segments so many {what}");
    }
}
