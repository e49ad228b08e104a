//! What a segment takes on the catalog's disk.

use walferry_bench::Report;
use walferry_tests::World;

use crate::calls;
use crate::fill::Site;
use crate::server::sql;

const TABLES: [&str; 3] = ["wal_files", "copies", "local_files"];
/// Segments archived call by call, to see what rows take that were updated.
const REAL: u64 = 5_000;

/// Bytes of the three tables that grow with the archive: rows, indexes.
#[derive(Debug)]
pub(crate) struct Disk {
    segments: i64,
    tables: Vec<(i64, i64)>,
}

pub(crate) fn on_disk(world: &World) -> Disk {
    let segments = world.number("SELECT count(*) FROM wal_files");
    let tables = TABLES
        .iter()
        .map(|table| {
            let bytes = |what: &str| world.number(&format!("SELECT {what}('{table}')"));
            (bytes("pg_table_size"), bytes("pg_indexes_size"))
        })
        .collect();
    Disk { segments, tables }
}

/// A fresh catalog into which segments are archived as a worker does it, call by call.
pub(crate) fn of_real_rows(world: &World, site: &Site, report: &mut Report) {
    calls::archive(world, site, REAL);
    for table in TABLES {
        sql(world, &format!("VACUUM (ANALYZE) {table}"));
    }
    let disk = on_disk(world);
    let rows = world.rows(
        "SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del FROM pg_stat_user_tables \
          WHERE n_tup_ins + n_tup_upd > 0 AND relname IN ('wal_files', 'copies', 'local_files') ORDER BY 1",
    );
    report.paragraph(&format!(
        "{REAL} segments archived call by call into a fresh catalog take {} bytes each, indexes included; \
         what was written for each:",
        disk.each()
    ));
    let table: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect();
    let head = ["table", "inserts", "updates", "of these HOT", "deletes"];
    report.table(&head, &table);
}

impl Disk {
    fn each(&self) -> i64 {
        let all: i64 = self
            .tables
            .iter()
            .map(|(rows, indexes)| rows + indexes)
            .sum();
        all / self.segments
    }
}

pub(crate) fn tell(disk: &[Disk], report: &mut Report) {
    report.paragraph(
        "### On disk\n\nBytes for each archived segment (two copies), rows and indexes:",
    );
    let rows: Vec<Vec<String>> = disk
        .iter()
        .map(|disk| {
            let of = |bytes: i64| (bytes / disk.segments).to_string();
            let mut row = vec![disk.segments.to_string()];
            for (rows, indexes) in &disk.tables {
                row.push(format!("{} + {}", of(*rows), of(*indexes)));
            }
            row.push(disk.each().to_string());
            row
        })
        .collect();
    report.table(
        &["segments", "wal_files", "copies", "local_files", "together"],
        &rows,
    );
}
