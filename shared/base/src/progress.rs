//! How far a base has come.

use walferry_proof::RepositoryName;

/// What `take` has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tar archives that the server has sent.
    pub read: u64,
    /// What it thought that they would be, before it began. They may become more or fewer.
    pub estimated: Option<u64>,
    /// Slices cut so far.
    pub slices: u64,
    /// One for each repository, in the order in which they were given.
    pub repositories: Vec<RepositoryProgress>,
}

/// How far one repository has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryProgress {
    pub name: RepositoryName,
    pub state: RepositoryState,
    /// Slices verified there.
    pub slices: u64,
    /// Bytes of these, packed.
    pub stored: u64,
}

/// What has become of a base in one repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryState {
    UnderWay,
    Complete,
    Dropped,
}
