//! Proofs that a file does not exist.

use walferry_layout::{OwnerMark, owner_key};
use walferry_pack::unpack::{UnpackError, collect};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_store::ReadRepository;
use walferry_wal::SystemId;

use crate::evidence::evidence;
use crate::last::{Reach, reach};
use crate::problem::{MarkError, Problem};
use crate::request::{Archive, Request};

/// Every repository that was to be asked has shown that the file is not there.
///
/// Made by `everywhere` only, out of one `AbsentHere` of each.
#[derive(Debug)]
pub struct AbsentEverywhere(());

/// One repository has shown it: the key is absent, the prefix is the right one, and nothing
/// in it tells that the file existed.
#[derive(Debug)]
pub(crate) struct AbsentHere {
    repository: RepositoryName,
    system: SystemId,
}

/// That a repository answered "no such key" to the request for the file itself.
#[derive(Debug)]
pub(crate) struct NoSuchKey(());

impl NoSuchKey {
    /// From the answer of a `get`.
    pub(crate) fn of<T>(answer: &Option<T>) -> Option<Self> {
        answer.is_none().then_some(Self(()))
    }
}

impl AbsentHere {
    /// Makes it certain that the key which is not there is the file that is not there.
    pub(crate) async fn prove(
        _: &NoSuchKey,
        repository: &dyn ReadRepository,
        prefix: &KeyPrefix,
        request: &Request,
    ) -> Result<Self, Problem> {
        let mark = owner(repository, prefix).await?;
        same_system(repository.name(), request.system, &mark)?;
        let reach = request.last.map(|last| (last, reach(&last, &request.file)));
        match reach {
            Some((last, Reach::Needed)) => {
                return Err(Problem::Needed {
                    file: request.file,
                    last,
                });
            }
            // The plan was made by somebody who knew what lies there.
            Some((_, Reach::Beyond)) => {}
            Some((_, Reach::Open)) | None => {
                if let Some(evidence) = evidence(repository, prefix, &request.file, &mark).await? {
                    return Err(Problem::Gap {
                        file: request.file,
                        repository: repository.name().clone(),
                        evidence,
                    });
                }
            }
        }
        Ok(Self {
            repository: repository.name().clone(),
            system: mark.system_id,
        })
    }
}

/// The proof of everybody, out of what each of them said.
///
/// # Errors
/// What stands against it: somebody's doubt, or that two of them are about different systems.
/// Nothing, when somebody was not heard.
pub(crate) fn everywhere(
    archive: &Archive,
    said: Vec<Result<AbsentHere, Problem>>,
) -> Result<AbsentEverywhere, Vec<Problem>> {
    let mut proofs = Vec::new();
    let mut doubts = Vec::new();
    for one in said {
        match one {
            Ok(proof) => proofs.push(proof),
            Err(problem) => doubts.push(problem),
        }
    }
    if !doubts.is_empty() {
        return Err(doubts);
    }
    let mut system = None;
    for repository in &archive.repositories {
        let heard = proofs
            .iter()
            .find(|proof| proof.repository == *repository.name());
        let proof = heard.ok_or_else(Vec::new)?;
        let expected = *system.get_or_insert(proof.system);
        if proof.system != expected {
            return Err(vec![Problem::OtherSystem {
                repository: proof.repository.clone(),
                expected,
                found: proof.system,
            }]);
        }
    }
    // Nobody asked has said nothing.
    system.map(|_| AbsentEverywhere(())).ok_or_else(Vec::new)
}

/// Reads the owner mark, which shows that bucket and prefix are those of a cluster.
pub(crate) async fn owner(
    repository: &dyn ReadRepository,
    prefix: &KeyPrefix,
) -> Result<OwnerMark, Problem> {
    let key = owner_key(prefix);
    let bad = |source: MarkError| Problem::BadMark {
        repository: repository.name().clone(),
        key: key.clone(),
        source,
    };
    let Some(stream) = repository.get(&key).await.map_err(Problem::Store)? else {
        return Err(Problem::NoMark {
            repository: repository.name().clone(),
            key,
        });
    };
    match collect(stream.body, 1 << 20).await {
        Ok(bytes) => OwnerMark::parse(&bytes).map_err(|error| bad(error.into())),
        Err(UnpackError::Store(error)) => Err(Problem::Store(error)),
        Err(error) => Err(bad(error.into())),
    }
}

/// Whether the prefix is that of the system whose data directory asks.
pub(crate) fn same_system(
    repository: &RepositoryName,
    expected: Option<SystemId>,
    mark: &OwnerMark,
) -> Result<SystemId, Problem> {
    match expected {
        Some(expected) if expected != mark.system_id => Err(Problem::OtherSystem {
            repository: repository.clone(),
            expected,
            found: mark.system_id,
        }),
        _ => Ok(mark.system_id),
    }
}
