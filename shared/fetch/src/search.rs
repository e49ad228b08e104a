//! The search for one file in all repositories, until it is delivered, shown to be absent, or
//! time is up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use walferry_store::{ObjectStream, ReadRepository};

use crate::absence::{self, AbsentEverywhere, AbsentHere, NoSuchKey};
use crate::answers::Answers;
use crate::check::Compared;
use crate::download::{self, Into, Wanted};
use crate::parent::Parent;
use crate::place::{self, Delivered, PlaceError};
use crate::problem::Problem;
use crate::report::Report;
use crate::request::{Archive, Request};
use crate::temporary::Place;

/// Asks for one file.
pub struct Search<'a> {
    pub archive: &'a Archive,
    pub request: &'a Request,
    /// How long to go on before nothing is known; zero asks once.
    pub retry_for: Duration,
    /// Whose death ends it.
    pub parent: &'a Parent,
    /// Called when a repository was found to have the file, before it is downloaded.
    pub found: &'a mut dyn FnMut(),
}

/// How a search ended.
#[derive(Debug)]
pub enum Searched {
    Delivered(Delivered),
    Absent(AbsentEverywhere),
    /// Why is in the report.
    NotKnown,
}

/// Between two rounds: doubled from the first to the last of these.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

enum Round {
    Done(Searched),
    /// Nothing is known; more may be later.
    Again,
    /// This machine's fault.
    Local(PlaceError),
}

impl Search<'_> {
    /// Searches, and places what was found.
    ///
    /// A gap is asked for again like a cloud that is down: workers archive several segments at
    /// once, so the newest may lie there before the one in front of it, and waiting is safe.
    pub async fn run(mut self, report: &mut Report) -> Searched {
        let began = Instant::now();
        let mut pause = PAUSES.0;
        loop {
            match self.round(report).await {
                Round::Done(searched) => return searched,
                Round::Local(error) => {
                    report.say(&crate::report::line(&error));
                    // Nobody waits for an orphan.
                    if matches!(error, PlaceError::Orphaned) {
                        return Searched::NotKnown;
                    }
                }
                Round::Again => {}
            }
            let left = self.retry_for.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Searched::NotKnown;
            }
            tokio::time::sleep(pause.min(left)).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn round(&mut self, report: &mut Report) -> Round {
        let destination = &self.request.destination;
        let folder = destination.parent().unwrap_or(destination);
        let place = match clean_place(folder.to_owned()).await {
            Ok(place) => place,
            Err(error) => return Round::Local(error),
        };
        let mut missing = Vec::new();
        let mut known = true;
        let mut answers = Answers::new(self.archive, &self.request.file);
        while let Some((repository, answer)) = answers.next().await {
            let problem = match (NoSuchKey::of_answer(&answer), answer) {
                (Some(absent), _) => {
                    missing.push((repository, absent));
                    continue;
                }
                (None, Ok(Some(stream))) => {
                    (self.found)();
                    match self
                        .deliver(repository.as_ref(), stream, &place, report)
                        .await
                    {
                        Ok(delivered) => return Round::Done(Searched::Delivered(delivered)),
                        Err(Problem::Place(error)) => return Round::Local(error),
                        Err(problem) => problem,
                    }
                }
                (None, Ok(None)) => unreachable!("that is the absent key"),
                (None, Err(error)) => Problem::Store(error),
            };
            known = false;
            report.say(&problem.line());
        }
        if known {
            self.prove(missing, report).await
        } else {
            Round::Again
        }
    }

    async fn deliver(
        &self,
        repository: &dyn ReadRepository,
        stream: ObjectStream,
        place: &Place,
        report: &mut Report,
    ) -> Result<Delivered, Problem> {
        let wanted = self.wanted(repository).await?;
        let prefix = &self.archive.prefix;
        let name = repository.name();
        let checked = download::download(&wanted, prefix, name, stream, Into::Any(place)).await?;
        if checked.compared == Compared::WithoutHash {
            report.say(&format!(
                "the copy in `{name}` says no SHA-256, as another system put it there: checked by gzip's CRC-32, size and header"
            ));
        }
        let (destination, parent) = (self.request.destination.clone(), self.parent.clone());
        let place = move || place::place(checked, &destination, &parent);
        let placed = tokio::task::spawn_blocking(place).await;
        Ok(placed.expect("placing does not panic")?)
    }

    /// Whose file it has to be: the data directory's, else the prefix's.
    async fn wanted(&self, repository: &dyn ReadRepository) -> Result<Wanted, Problem> {
        let system = match self.request.system {
            Some(system) => system,
            None => {
                let mark = absence::owner(repository, &self.archive.prefix).await?;
                mark.system_id
            }
        };
        Ok(Wanted {
            file: self.request.file,
            system,
        })
    }

    /// Everybody said that the key is not there: does that mean the file?
    async fn prove(
        &self,
        missing: Vec<(Arc<dyn ReadRepository>, NoSuchKey)>,
        report: &mut Report,
    ) -> Round {
        let proofs = missing.iter().map(|(repository, absent)| {
            AbsentHere::prove(
                absent,
                repository.as_ref(),
                &self.archive.prefix,
                self.request,
            )
        });
        let said = futures::future::join_all(proofs).await;
        match absence::everywhere(self.archive, said) {
            Ok(proof) => Round::Done(Searched::Absent(proof)),
            Err(problems) => {
                for problem in problems {
                    report.say(&problem.line());
                }
                Round::Again
            }
        }
    }
}

/// The directory of the destination, without what dead fetches left there.
async fn clean_place(folder: PathBuf) -> Result<Place, PlaceError> {
    let open = move || match Place::open(&folder) {
        Ok(place) => {
            place.clean();
            Ok(place)
        }
        Err(source) => Err(PlaceError::Directory {
            path: folder,
            source,
        }),
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.expect("opening a directory does not panic")
}
