//! The block of needs for `docs/scaling.md`.

use std::fmt::Write as _;

use walferry_bench::needs::{Demand, Measured, Needs, THREADS};
use walferry_bench::prices;

use crate::settings::Settings;

/// What 1, 100 and 1,000 clusters need, as Markdown.
pub(crate) fn block(settings: &Settings, measured: &Measured) -> String {
    let mut text = format!(
        "Computed by `bench/scale` on {} from what that run measured: {:.0} ms of a core and {:.2} MB in each cloud for \
         a full segment, {:.0} ms and {:.2} MB for a light one; {:.1} ms of the catalog's and {:.2} ms of Redis's \
         time for one; {:.0} bytes in the catalog; {:.0} bytes in Redis for a waiting job. A quiet cluster hands over one \
         light segment every {} s, a busy one {} full segments a minute; all are kept {} days.\n\n",
        chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
        measured.full.cpu * 1e3,
        measured.full.stored / 1e6,
        measured.light.cpu * 1e3,
        measured.light.stored / 1e6,
        measured.catalog_cpu * 1e3,
        measured.redis_cpu * 1e3,
        measured.catalog_bytes,
        measured.job_bytes,
        settings.archive_timeout,
        settings.busy,
        settings.retention,
    );
    let quiet = (
        60.0 / f64::from(settings.archive_timeout),
        measured.light,
        "quiet",
    );
    let busy = (f64::from(settings.busy), measured.full, "busy");
    let all: Vec<(String, Needs)> = [quiet, busy]
        .into_iter()
        .flat_map(|(per_minute, segment, name)| {
            [1.0, 100.0, 1_000.0].map(|clusters| {
                let retention_days = f64::from(settings.retention);
                let demand = Demand {
                    clusters,
                    per_minute,
                    segment,
                    retention_days,
                };
                (
                    format!("{clusters:.0} {name}"),
                    Needs::of(&demand, measured),
                )
            })
        })
        .collect();
    let head = format!(
        "| clusters | segments/s | workers of {THREADS:.0} threads | cores they use | catalog's cores | Redis's cores | \
         Redis MB at most | catalog GB kept | catalog GB of a year | Mbit/s to both clouds |"
    );
    table(&mut text, &head, &all, |needs| {
        vec![
            format!("{:.2}", needs.segments_per_second),
            format!("{:.0}", needs.workers),
            format!("{:.3}", needs.packing_cores),
            format!("{:.4}", needs.catalog_cores),
            format!("{:.4}", needs.redis_cores),
            format!("{:.1}", needs.redis_bytes / 1e6),
            format!("{:.2}", needs.catalog_kept / 1e9),
            format!("{:.2}", needs.catalog_year / 1e9),
            format!("{:.2}", needs.upload_bits_per_second / 1e6),
        ]
    });
    let head = "| a month | TB in each cloud | R2: PUT+LIST, thousands | R2: HEAD+GET, thousands | B2: HEAD+GET, thousands | \
                B2: LIST, thousands | R2 $ | B2 $ | both $ |";
    table(&mut text, head, &all, |needs| {
        let (r2, b2) = needs.price();
        vec![
            format!("{:.3}", needs.r2.bytes / 1e12),
            format!("{:.0}", (needs.r2.puts + needs.r2.lists) / 1e3),
            format!("{:.0}", needs.r2.reads / 1e3),
            format!("{:.0}", needs.b2.reads / 1e3),
            format!("{:.0}", needs.b2.lists / 1e3),
            format!("{r2:.2}"),
            format!("{b2:.2}"),
            format!("{:.2}", r2 + b2),
        ]
    });
    let _ = write!(text, "{} {}", prices::WORDS, prices::SOURCE);
    text
}

fn table(
    text: &mut String,
    head: &str,
    all: &[(String, Needs)],
    columns: impl Fn(&Needs) -> Vec<String>,
) {
    let right = "---:|".repeat(head.matches('|').count() - 2);
    let _ = writeln!(text, "{head}\n|---|{right}");
    for (name, needs) in all {
        let _ = writeln!(text, "| {name} | {} |", columns(needs).join(" | "));
    }
    text.push('\n');
}
