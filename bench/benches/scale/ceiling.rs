//! What broke, by who used the cores.

use std::fmt::Write as _;
use std::time::Duration;

use crate::load::Outcome;
use crate::print::{broken, cores, idle};
use crate::settings::Settings;

/// Less of a core than this is as good as none.
const NONE_LEFT: f64 = 0.25;

/// The ceiling and its cause, from the loads in the order in which they were tried.
#[expect(clippy::cast_precision_loss, reason = "some thousands")]
pub(crate) fn words(settings: &Settings, pack: Duration, all: &[&Outcome]) -> String {
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return String::new();
    };
    let done = |outcome: &Outcome| outcome.done as f64 / outcome.wall.as_secs_f64();
    let best = all
        .iter()
        .rfind(|outcome| !broken(outcome))
        .unwrap_or(first);
    let [catalog, redis, workers] = cores(last);
    let machine = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (left, threads) = (
        idle(last),
        (settings.workers * settings.pack_threads) as f64,
    );
    let others = (machine - left - catalog - redis - workers).max(0.0);
    let mut text = if broken(last) {
        format!(
            "It kept up with {:.1} segments a second; of {:.1} it did {:.1}. ",
            best.rate,
            last.rate,
            done(last)
        )
    } else {
        format!(
            "It kept up with {:.1} segments a second, the most that was tried. ",
            best.rate
        )
    };
    let _ = write!(
        text,
        "At the last load catalog, Redis and simulated workers used {catalog:.2}, {redis:.2} and {workers:.2} of \
         {machine:.0} cores, whatever else ran on the machine (the kernel for all of them too) {others:.2}, and {left:.2} \
         were idle; the simulated packing threads could have packed {:.0} a second. ",
        threads / pack.as_secs_f64()
    );
    if broken(last) && left < NONE_LEFT {
        let used = [
            (catalog, "the catalog"),
            (redis, "Redis"),
            (workers, "the workers"),
        ];
        let most = used
            .iter()
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map_or("nobody", |most| most.1);
        let _ = write!(
            text,
            "The cores ran out, and of the three {most} used most of them. "
        );
    } else if broken(last) {
        text.push_str(
            "Cores were left: what ran out was not their time, but something that waits. ",
        );
    }
    let [catalog, redis, _] = cores(best);
    let _ = write!(
        text,
        "By processor time at the highest load that it kept up with, one core of the catalog is worth {:.0} segments \
         a second and Redis's one thread {:.0}.",
        done(best) / catalog.max(1e-6),
        done(best) / redis.max(1e-6)
    );
    text
}
