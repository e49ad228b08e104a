//! The process that fetches ahead.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::FuturesUnordered;
use walferry_killpoint::kill_point;
use walferry_proof::RepositoryName;
use walferry_store::ReadRepository;
use walferry_wal::{SegmentName, SegmentSize, SystemId, TimelineId, WalFile};

use super::space::{Entry, Space};
use super::timelines::Timelines;
use crate::absence;
use crate::answers::Answers;
use crate::download::{self, Into, Wanted};
use crate::evidence;
use crate::place::PlaceError;
use crate::problem::Problem;
use crate::request::Archive;

/// Fetches ahead for one cluster.
pub struct Ahead {
    pub archive: Archive,
    pub system: SystemId,
    pub space: Space,
    /// Bytes that may lie in the space.
    pub limit: u64,
    /// Segments at the same time; memory is about 1 MiB for each.
    pub parallel: usize,
    /// Ends when recovery has not moved for so long.
    pub idle: Duration,
}

/// Fetching ahead ended early; segments are fetched one by one.
#[derive(Debug, thiserror::Error)]
pub enum AheadError {
    #[error("the space cannot be used")]
    Space(#[from] io::Error),
    #[error("what was fetched ahead cannot be written")]
    Write(#[from] PlaceError),
    #[error("no repository has an owner mark that says how large segments are: {0}")]
    NoMark(String),
    #[error("{limit} bytes (fetch.prefetch) hold no segment of {size}")]
    TooSmall { limit: u64, size: SegmentSize },
}

/// How often it looks where recovery is.
const LOOK: Duration = Duration::from_millis(10);

/// A segment that could not be fetched is tried again after this.
const PAUSE: Duration = Duration::from_secs(2);

/// A repository that failed is asked last for so long.
const BLAME: Duration = Duration::from_secs(30);

type Ended = (SegmentName, Result<Fetched, Abandoned>);

/// What came of one segment.
enum Fetched {
    Ready,
    /// Not in any repository, or in one that failed.
    NotThere {
        blamed: Vec<RepositoryName>,
    },
    /// The disk's fault.
    Local(PlaceError),
}

/// Recovery is elsewhere by now.
struct Abandoned;

struct State {
    timelines: Timelines,
    position: Option<SegmentName>,
    moved: Instant,
    running: HashMap<SegmentName, AbortHandle>,
    tasks: FuturesUnordered<BoxFuture<'static, Ended>>,
    /// Whole, in the space.
    ready: HashSet<SegmentName>,
    /// Left alone until then, or until recovery moves: `None` where everybody said that it is
    /// not there, so that the end of WAL is not asked for again and again.
    rests: HashMap<SegmentName, Option<Instant>>,
    blamed: HashMap<RepositoryName, Instant>,
}

impl Ahead {
    /// Runs until recovery stands still. Another process that serves the space ends it at once.
    ///
    /// # Errors
    /// [`AheadError`]; it is noted in the space, for the next `fetch` to say.
    pub async fn run(self) -> Result<(), AheadError> {
        let Some(_served) = self.space.serve()? else {
            return Ok(());
        };
        self.space.forget_failure();
        let ended = self.serve().await;
        self.clear();
        if let Err(error) = &ended {
            self.space.note_failure(&crate::report::line(error));
        }
        ended
    }

    async fn serve(&self) -> Result<(), AheadError> {
        let size = self.segment_size().await?;
        let window = self.limit / size.bytes();
        if window == 0 {
            let limit = self.limit;
            return Err(AheadError::TooSmall { limit, size });
        }
        let mut state = State::new(size);
        state.ready = self.inherit()?;
        loop {
            self.look(&mut state).await;
            if state.moved.elapsed() > self.idle {
                return Ok(());
            }
            self.adjust(&mut state, window)?;
            tokio::select! {
                Some((segment, ended)) = state.tasks.next(), if !state.tasks.is_empty() => {
                    state.running.remove(&segment);
                    match ended {
                        Ok(Fetched::Ready) => drop(state.ready.insert(segment)),
                        Ok(Fetched::NotThere { blamed }) => state.rest(segment, blamed),
                        Ok(Fetched::Local(error)) => return Err(error.into()),
                        Err(Abandoned) => {}
                    }
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Where recovery is, and along which timelines.
    async fn look(&self, state: &mut State) {
        let position = self.space.position();
        if position == state.position {
            return;
        }
        state.position = position;
        state.moved = Instant::now();
        state.rests.retain(|_, until| until.is_some());
        let followed = self.space.followed();
        if followed != state.timelines.timeline()
            && let Some(timeline) = followed
            && let Some(timelines) = self.timelines(timeline, state.timelines.size()).await
        {
            state.timelines = timelines;
        }
    }

    /// The history of a timeline, from whichever repository has it.
    async fn timelines(&self, timeline: TimelineId, size: SegmentSize) -> Option<Timelines> {
        for repository in &self.archive.repositories {
            let prefix = &self.archive.prefix;
            match evidence::history(repository.as_ref(), prefix, timeline).await {
                Ok(Some(history)) => return Some(Timelines::of(size, history)),
                Ok(None) => {}
                Err(problem) => say(&problem.line()),
            }
        }
        None
    }

    /// Begins what is needed, ends what is not, and unlinks what lies behind recovery.
    fn adjust(&self, state: &mut State, window: u64) -> Result<(), AheadError> {
        let Some(position) = state.position else {
            return Ok(());
        };
        let (next, fits) = state.timelines.next(&position, window);
        if !fits {
            // Of an earlier recovery, or not followed after all.
            self.space.forget_timeline();
            state.timelines = Timelines::of_one(state.timelines.size());
        }
        for (segment, handle) in &state.running {
            if !next.contains(segment) {
                handle.abort();
            }
        }
        // The position itself may be about to be taken.
        let kept = |segment: &SegmentName| next.contains(segment) || *segment == position;
        if !state.ready.iter().all(kept) || state.ready.contains(&position) {
            let found = self.ready()?;
            for (name, segment) in &found {
                if !kept(segment) {
                    self.space.unlink(name.as_os_str());
                }
            }
            state.ready = found.into_iter().map(|(_, s)| s).filter(kept).collect();
        }
        let now = Instant::now();
        state
            .rests
            .retain(|_, until| until.is_none_or(|until| until > now));
        for segment in next {
            // An absent segment is where WAL ends: what is behind it is not asked for either.
            if state.rests.contains_key(&segment) {
                break;
            }
            if state.running.len() >= self.parallel {
                break;
            }
            if !state.ready.contains(&segment) && !state.running.contains_key(&segment) {
                self.begin(state, segment)?;
            }
        }
        Ok(())
    }

    fn begin(&self, state: &mut State, segment: SegmentName) -> Result<(), AheadError> {
        let (handle, registration) = AbortHandle::new_pair();
        let task = fetch_one(
            self.in_order(state),
            self.space.try_clone()?,
            Wanted {
                file: WalFile::Segment(segment),
                system: self.system,
            },
            segment,
        );
        let task = Abortable::new(task, registration);
        state.running.insert(segment, handle);
        state.tasks.push(Box::pin(async move {
            (segment, task.await.map_err(|_| Abandoned))
        }));
        Ok(())
    }

    /// The repositories, those that failed lately last.
    fn in_order(&self, state: &State) -> Archive {
        let mut archive = self.archive.clone();
        let failed = |repository: &Arc<dyn ReadRepository>| {
            let at = state.blamed.get(repository.name());
            at.is_some_and(|at| at.elapsed() < BLAME)
        };
        archive.repositories.sort_by_key(failed);
        archive
    }

    async fn segment_size(&self) -> Result<SegmentSize, AheadError> {
        let mut problems = Vec::new();
        let prefix = &self.archive.prefix;
        let mut asked: FuturesUnordered<_> = self
            .archive
            .repositories
            .iter()
            .map(|repository| async move {
                let mark = absence::owner(repository.as_ref(), prefix).await?;
                absence::same_system(repository.name(), Some(self.system), &mark)?;
                Ok::<_, Problem>(mark.segment_size)
            })
            .collect();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(size) => return Ok(size),
                Err(problem) => problems.push(problem.line()),
            }
        }
        Err(AheadError::NoMark(problems.join("; ")))
    }

    /// What an earlier process left: whole segments are as good as ours, parts are of no use.
    fn inherit(&self) -> io::Result<HashSet<SegmentName>> {
        for (name, entry) in self.space.entries()? {
            if let Entry::Part(_) = entry {
                self.space.unlink(name.as_os_str());
            }
        }
        self.space.place().clean();
        Ok(self.ready()?.into_iter().map(|(_, name)| name).collect())
    }

    fn ready(&self) -> io::Result<Vec<(std::ffi::OsString, SegmentName)>> {
        let entries = self.space.entries()?.into_iter();
        let ready = entries.filter_map(|(name, entry)| match entry {
            Entry::Ready { segment, .. } => Some((name, segment)),
            Entry::Part(_) | Entry::Other => None,
        });
        Ok(ready.collect())
    }

    /// Nobody will ask for what is left: a recovery that goes on later has it fetched again.
    fn clear(&self) {
        for (name, entry) in self.space.entries().unwrap_or_default() {
            if entry != Entry::Other {
                self.space.unlink(name.as_os_str());
            }
        }
    }
}

impl State {
    fn new(size: SegmentSize) -> Self {
        Self {
            timelines: Timelines::of_one(size),
            position: None,
            moved: Instant::now(),
            running: HashMap::new(),
            tasks: FuturesUnordered::new(),
            ready: HashSet::new(),
            rests: HashMap::new(),
            blamed: HashMap::new(),
        }
    }

    fn rest(&mut self, segment: SegmentName, blamed: Vec<RepositoryName>) {
        let now = Instant::now();
        let until = (!blamed.is_empty()).then_some(now + PAUSE);
        self.rests.insert(segment, until);
        self.blamed
            .extend(blamed.into_iter().map(|name| (name, now)));
    }
}

/// One segment, from the first repository that has a good copy.
async fn fetch_one(
    archive: Archive,
    space: Space,
    wanted: Wanted,
    segment: SegmentName,
) -> Fetched {
    let mut blamed = Vec::new();
    let mut answers = Answers::new(&archive, &wanted.file);
    while let Some((repository, answer)) = answers.next().await {
        let stream = match answer {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => {
                blamed.push(repository.name().clone());
                say(&error.report());
                continue;
            }
        };
        let part = Entry::part(&segment);
        let into = Into::Named(space.place(), &part);
        let (prefix, name) = (&archive.prefix, repository.name());
        match download::download(&wanted, prefix, name, stream, into).await {
            Ok(checked) => {
                // Not synced: see the space. A crash right here leaves a part.
                kill_point!("fetch-ahead.rename.before");
                let ready = Entry::ready(&segment, checked.crc32c);
                if let Err(source) = checked.temporary.rename(&ready) {
                    return Fetched::Local(PlaceError::Rename {
                        path: space.path().join(ready),
                        source,
                    });
                }
                kill_point!("fetch-ahead.rename.after");
                return Fetched::Ready;
            }
            Err(Problem::Place(error)) => return Fetched::Local(error),
            Err(problem) => {
                blamed.push(repository.name().clone());
                say(&problem.line());
            }
        }
    }
    Fetched::NotThere { blamed }
}

/// Into the space's log.
fn say(line: &str) {
    let _ = io::Write::write_fmt(
        &mut io::stderr(),
        format_args!("walferry fetch-ahead: {line}\n"),
    );
}
