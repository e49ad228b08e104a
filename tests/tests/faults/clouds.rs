//! What a cloud can do to an upload, on one and on both.

mod certificate;
mod objects;
mod told;

use std::time::Duration;

use walferry_tests::{Fault as Strike, Rule, eventually, wait};

use crate::fault::Fault;
use crate::invariants::Allowed;
use crate::stage::Stage;

/// Which clouds a fault strikes.
type Clouds = &'static [&'static str];
const R2: Clouds = &["r2"];
const B2: Clouds = &["b2"];
const BOTH: Clouds = &["r2", "b2"];

pub(crate) fn faults() -> Vec<Fault> {
    let kinds: [Vec<Fault>; 4] = [
        ways().iter().flat_map(Way::faults).collect(),
        on_each("latency-5-s", latency),
        on_each("flapping-2-s", flapping),
        on_each("response-lost", response_lost),
    ];
    let mut faults = kinds.concat();
    faults.extend(certificate::faults());
    faults.extend(objects::faults());
    faults
}

/// One kind of fault on r2, on b2 and on both.
fn on_each(what: &str, fault: impl Fn(&'static str, Clouds) -> Fault) -> Vec<Fault> {
    [("r2", R2), ("b2", B2), ("both", BOTH)]
        .map(|(which, clouds)| {
            let name: &'static str = format!("clouds.{what}.{which}").leak();
            fault(name, clouds)
        })
        .to_vec()
}

/// A way to fail for which everybody has the same word.
struct Way {
    what: &'static str,
    outcome: &'static str,
    rule: Rule,
    /// In `status`, `/readyz` and the metrics.
    cause: &'static str,
    /// In `check`.
    words: &'static str,
    /// Who can know of it.
    seen: Seen,
}

/// How much of a cloud fails, and so who can know of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// All of it: `check` sees it with a question of its own, too.
    Everywhere,
    /// All of it, and none of it opens the breaker: a 429 may be about one key.
    Throttled,
    /// PUTs: who only reads sees nothing.
    InWriting,
    /// What it says of a copy: the breaker has nothing to say.
    InCopies,
    /// The same, and each request succeeded.
    InProofs,
}

fn ways() -> Vec<Way> {
    let says = |status, code, retry_after| {
        Rule::new(Strike::Says {
            status,
            code,
            retry_after,
        })
    };
    let way = |what, cause, words, rule: Rule, outcome| Way {
        what,
        outcome,
        rule,
        cause,
        words,
        seen: Seen::Everywhere,
    };
    let only = |seen, way| Way { seen, ..way };
    vec![
        way(
            "refused",
            "refused",
            "cannot connect",
            Strike::Refuse.into(),
            "`refused`; the other cloud goes on, healed from it",
        ),
        way(
            "blackholed",
            "timeout",
            "no progress",
            Strike::Blackhole.into(),
            "`timeout` after `idle_timeout`; the other cloud goes on, healed from it",
        ),
        only(
            Seen::InWriting,
            way(
                "reset-in-a-body",
                "interrupted",
                "the connection broke",
                Rule::new(Strike::ResetMidBody).on("PUT"),
                "`interrupted`; nothing is stored, sent again",
            ),
        ),
        way(
            "error-500",
            "server-error",
            "the server failed",
            says(500, "InternalError", None),
            "`server-error` with the cloud's words",
        ),
        way(
            "unavailable-503",
            "throttled",
            "asked to slow down",
            says(503, "ServiceUnavailable", Some(1)),
            "`throttled`; asked again after its `Retry-After`",
        ),
        only(
            Seen::Throttled,
            way(
                "slow-down-429",
                "throttled",
                "asked to slow down",
                says(429, "TooManyRequests", Some(1)),
                "`throttled`; asked again after its `Retry-After`",
            ),
        ),
        way(
            "key-revoked",
            "denied",
            "access denied",
            Strike::KeyRevoked.into(),
            "`denied` with the cloud's words, HINT on keys and permissions",
        ),
        way(
            "bucket-gone",
            "no-bucket",
            "the bucket does not exist",
            Strike::BucketGone.into(),
            "`no-bucket`; no bucket is made, and a 404 is never taken for a missing object",
        ),
        way(
            "wrong-region",
            "wrong-region",
            "the bucket is in another region",
            says(400, "AuthorizationHeaderMalformed", None),
            "`wrong-region`, HINT to set it",
        ),
        only(
            Seen::InProofs,
            way(
                "wrong-etag",
                "mismatch",
                "was sent",
                Strike::WrongEtag.into(),
                "`mismatch`, critical; never VERIFIED while it lasts, not overwritten",
            ),
        ),
        only(
            Seen::InCopies,
            way(
                "truncated-head",
                "interrupted",
                "the connection broke",
                Rule::new(Strike::TruncatedAnswer).on("HEAD"),
                "`interrupted`; not VERIFIED before a whole answer, not sent twice",
            ),
        ),
        only(
            Seen::InWriting,
            way(
                "link-of-1-kb-s",
                "timeout",
                "no progress",
                Strike::Bandwidth(1024).into(),
                "`timeout` where nothing moves for `idle_timeout`; the other cloud goes on",
            ),
        ),
    ]
}

impl Way {
    fn faults(&self) -> Vec<Fault> {
        on_each(self.what, |name, clouds| {
            let (cause, words) = (self.cause, self.words);
            let mut fault = struck(name, self.outcome, clouds, &self.rule);
            fault = told::by_check_as_behind(fault, clouds, cause, words);
            fault = told::by_status(fault, clouds, cause);
            if matches!(self.seen, Seen::Everywhere | Seen::Throttled) {
                fault = told::by_check_itself(fault, clouds, cause, words);
            }
            if matches!(self.seen, Seen::Everywhere | Seen::InWriting) {
                fault = told::by_readyz(fault, clouds, cause);
            }
            if self.seen == Seen::InProofs {
                told::by_failed_copies(fault, clouds)
            } else {
                told::by_requests(fault, clouds, cause)
            }
        })
    }
}

/// Nothing fails, everything is late.
fn latency(name: &'static str, clouds: Clouds) -> Fault {
    let rule = Strike::Latency(Duration::from_secs(5)).into();
    let fault = struck(
        name,
        "no failure: it falls behind, the other cloud does not",
        clouds,
        &rule,
    )
    .built(|| {
        ["r2", "b2"].iter().fold(Stage::builder(), |builder, name| {
            builder.setting(&format!("repositories.{name}.idle_timeout"), "30s")
        })
    });
    told::by_slow_requests(told::by_due_copies(fault, clouds), clouds)
}

/// Segments come all the time, so that some come while it is down.
fn flapping(name: &'static str, clouds: Clouds) -> Fault {
    let phase = Duration::from_secs(2);
    let rule = Rule::new(Strike::Flapping {
        up: phase,
        down: phase,
    });
    let (cause, words) = ("interrupted", "the connection broke");
    let fault = Fault::new(name, "`interrupted` in turn; archived whenever it answers")
        .begin(move |stage| {
            stage.start_load();
            strike(stage, clouds, &rule);
        })
        .meanwhile(move |stage| others_go_on(stage, clouds))
        .end(move |stage| {
            pass(stage, clouds);
            stage.end_load();
        });
    let fault = told::by_check_itself(fault, clouds, cause, words);
    let fault = told::by_check_as_behind(fault, clouds, cause, words);
    told::by_requests(told::by_status(fault, clouds, cause), clouds, cause)
}

/// The cloud did what it was asked for and nobody heard. The next attempt looks first and is
/// done within a second or so: of what is over by then the metrics alone still tell.
fn response_lost(name: &'static str, clouds: Clouds) -> Fault {
    let rule = Rule::new(Strike::DropResponse)
        .on("PUT")
        .for_keys_with(".gz");
    let fault = struck(
        name,
        "`interrupted`; found by the next look and proven, no second object",
        clouds,
        &rule,
    )
    // B2 has no conditional PUT: the same bytes may be sent twice in a row.
    .allowed(Allowed {
        rewritten: clouds.contains(&"b2"),
        ..Allowed::default()
    });
    told::by_requests(fault, clouds, "interrupted")
}

/// A fault of the way to some clouds, through which the others go on.
fn struck(name: &'static str, outcome: &'static str, clouds: Clouds, rule: &Rule) -> Fault {
    let rule = rule.clone();
    Fault::new(name, outcome)
        .begin(move |stage| strike(stage, clouds, &rule))
        .meanwhile(move |stage| others_go_on(stage, clouds))
        .end(move |stage| pass(stage, clouds))
}

fn strike(stage: &Stage, clouds: Clouds, rule: &Rule) {
    for cloud in clouds {
        stage.world.cloud(cloud).proxy().fault(rule.clone());
    }
}

fn pass(stage: &Stage, clouds: Clouds) {
    for cloud in clouds {
        stage.world.cloud(cloud).proxy().pass();
    }
}

/// The clouds that are well get what is handed over now that the fault is known of, and have
/// everything that was handed over by the test so far.
fn others_go_on(stage: &mut Stage, struck: Clouds) {
    stage.hand_over(2);
    let names = stage.world.originals().names();
    for cloud in BOTH.iter().filter(|cloud| !struck.contains(cloud)) {
        eventually(&format!("{cloud} goes on"), || {
            let keys = stage.world.cloud(cloud).bucket().keys("wal/");
            let missing = names
                .iter()
                .filter(|name| !keys.contains(&format!("wal/{name}.gz")))
                .count();
            wait::is(
                missing == 0,
                format!("{missing} of {} are missing", names.len()),
            )
        });
    }
}
