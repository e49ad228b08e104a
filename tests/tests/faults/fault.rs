//! A fault: how it begins and ends, who tells of it, and what holds meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use walferry_tests::{WorldBuilder, eventually, wait};

use crate::cell::Cell;
use crate::invariants::{self, Allowed};
use crate::stage::{BOUND, Stage};

type Step = Arc<dyn Fn(&mut Stage) + Send + Sync>;
type Look = Arc<dyn Fn(&Stage) -> Result<(), String> + Send + Sync>;

/// Whether anything else goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    AtRest,
    /// Ten segments a second arrive all the time.
    UnderLoad,
}

/// One thing that goes wrong. Made with [`Fault::new`] and narrowed by the methods.
#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    outcome: &'static str,
    build: fn() -> WorldBuilder,
    workers: usize,
    from_the_start: bool,
    before: Step,
    begin: Step,
    told: Vec<(String, Look)>,
    meanwhile: Step,
    end: Step,
    after: Step,
    takes_files: bool,
    allowed: Allowed,
}

impl Fault {
    /// `name` is `group.what`, `outcome` what a person sees, for `docs/faults.md`.
    pub(crate) fn new(name: &'static str, outcome: &'static str) -> Fault {
        let nothing: Step = Arc::new(|_| {});
        Fault {
            name,
            outcome,
            build: Stage::builder,
            workers: 1,
            from_the_start: false,
            before: Arc::clone(&nothing),
            begin: Arc::clone(&nothing),
            told: Vec::new(),
            meanwhile: Arc::clone(&nothing),
            end: Arc::clone(&nothing),
            after: nothing,
            takes_files: true,
            allowed: Allowed::default(),
        }
    }

    /// Another world than [`Stage::builder`]'s.
    pub(crate) fn built(self, build: fn() -> WorldBuilder) -> Fault {
        Fault { build, ..self }
    }

    /// So many workers instead of one; none when the fault starts its own.
    pub(crate) fn workers(self, workers: usize) -> Fault {
        Fault { workers, ..self }
    }

    /// Before any program starts: what is down "at start". Nothing is archived beforehand then.
    pub(crate) fn before(self, step: impl Fn(&mut Stage) + Send + Sync + 'static) -> Fault {
        Fault {
            before: Arc::new(step),
            from_the_start: true,
            ..self
        }
    }

    /// The fault itself.
    pub(crate) fn begin(self, step: impl Fn(&mut Stage) + Send + Sync + 'static) -> Fault {
        Fault {
            begin: Arc::new(step),
            ..self
        }
    }

    /// Somebody who must tell of it while it lasts; `what` names the surface and the cause.
    pub(crate) fn told(
        mut self,
        what: impl Into<String>,
        look: impl Fn(&Stage) -> Result<(), String> + Send + Sync + 'static,
    ) -> Fault {
        self.told.push((what.into(), Arc::new(look)));
        self
    }

    /// `walferry check` has a finding of this code and level whose text contains `cause`.
    pub(crate) fn told_by_check(
        self,
        code: &'static str,
        level: &'static str,
        cause: &'static str,
    ) -> Fault {
        self.told(
            format!("check says {level} {code}: {cause}"),
            move |stage| {
                let findings = stage.findings();
                let found = findings.iter().any(|finding| {
                    finding["code"] == code
                        && finding["level"] == level
                        && finding.to_string().contains(cause)
                });
                let bad: Vec<String> = findings
                    .iter()
                    .filter(|finding| finding["level"] != "ok")
                    .map(|finding| {
                        format!(
                            "{} {}: {}",
                            finding["level"], finding["code"], finding["message"]
                        )
                    })
                    .collect();
                wait::is(found, bad.join(" | "))
            },
        )
    }

    /// `walferry status` shows `text`.
    pub(crate) fn told_by_status(self, text: &'static str) -> Fault {
        self.told(format!("status shows {text}"), move |stage| {
            let shown = stage.world.cli(&["status"]);
            let all = format!("{}{}", shown.stdout, shown.stderr);
            wait::is(all.contains(text), all)
        })
    }

    /// `/readyz` of the first worker that runs is 503 and its text contains `cause`.
    pub(crate) fn told_by_readyz(self, cause: &'static str) -> Fault {
        self.told(format!("/readyz names {cause}"), move |stage| {
            let (status, body) = stage.running_worker().http("/readyz")?;
            wait::is(
                status == 503 && body.contains(cause),
                format!("{status}: {body}"),
            )
        })
    }

    /// A metric of the first worker that runs is no longer 0 (or, for a state, is 1).
    pub(crate) fn told_by_metric(self, series: &'static str) -> Fault {
        self.told(format!("the metric {series} is above 0"), move |stage| {
            let value = stage.running_worker().metric(series);
            wait::is(value.is_some_and(|value| value > 0.0), format!("{value:?}"))
        })
    }

    /// What must happen all the same while it lasts, after everybody has told of it.
    pub(crate) fn meanwhile(self, step: impl Fn(&mut Stage) + Send + Sync + 'static) -> Fault {
        Fault {
            meanwhile: Arc::new(step),
            ..self
        }
    }

    /// The fault is over.
    pub(crate) fn end(self, step: impl Fn(&mut Stage) + Send + Sync + 'static) -> Fault {
        Fault {
            end: Arc::new(step),
            ..self
        }
    }

    /// What must be seen once everything is VERIFIED again.
    pub(crate) fn after(self, step: impl Fn(&mut Stage) + Send + Sync + 'static) -> Fault {
        Fault {
            after: Arc::new(step),
            ..self
        }
    }

    /// Nothing can be handed over while it lasts.
    pub(crate) fn takes_no_files(self) -> Fault {
        Fault {
            takes_files: false,
            ..self
        }
    }

    /// See [`Allowed`].
    pub(crate) fn allowed(self, allowed: Allowed) -> Fault {
        Fault { allowed, ..self }
    }
}

/// Runs one cell.
pub(crate) fn run(fault: &Fault, mode: Mode) {
    let mut stage = Stage::new((fault.build)());
    (fault.before)(&mut stage);
    stage.start(fault.workers);
    if fault.workers > 0 && !fault.from_the_start {
        stage.hand_over(2);
        stage.world.await_archived();
    }
    if mode == Mode::UnderLoad {
        stage.start_load();
    }
    (fault.begin)(&mut stage);
    if fault.takes_files {
        stage.hand_over(3);
    }
    for (what, look) in &fault.told {
        eventually(what, || look(&stage));
    }
    invariants::hold(&stage.world, fault.allowed);
    (fault.meanwhile)(&mut stage);
    (fault.end)(&mut stage);
    let over = Instant::now();
    stage.hand_over(1);
    if mode == Mode::UnderLoad {
        // Some of it after the fault.
        std::thread::sleep(Duration::from_secs(1));
        stage.end_load();
    }
    stage.world.await_archived_within(BOUND);
    let recovered = over.elapsed();
    stage.await_nothing_claimed();
    (fault.after)(&mut stage);
    invariants::hold(&stage.world, fault.allowed);
    invariants::archived_once(&stage.logs());
    let mode = match mode {
        Mode::AtRest => "at rest",
        Mode::UnderLoad => "under load",
    };
    Cell {
        name: fault.name,
        mode,
        outcome: fault.outcome,
        recovered,
    }
    .record();
}
