//! Reading what there is: the buckets first, the catalog beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::join_all;
use walferry_archive::copied::chain;
use walferry_backup::recorded;
use walferry_base::{BaseState, FoundBase, ListError};
use walferry_catalog::{
    Catalog, Conn, Prefix,
    bases::{self, BaseCopyState, BaseReach, BaseRow},
    clusters,
};
use walferry_config::Cluster;
use walferry_layout::base::{BaseLabel, CompleteBase};
use walferry_proof::{KeyPrefix, RepositoryName};
use walferry_store::Repository;

use super::{Base, Facts, Holding, Shown, State, Unreachable};

type Stores = [Arc<dyn Repository>];
type Found = BTreeMap<BaseLabel, FoundBase>;
type Reach = BTreeMap<(BaseLabel, RepositoryName), Wal>;

/// A base's WAL in a repository.
struct Wal {
    usable: bool,
    last: Option<String>,
    closed_at: Option<chrono::DateTime<chrono::Utc>>,
}

/// Adds the bases of every prefix that the cluster ever had, newest first.
pub(super) async fn cluster(
    shown: &mut Shown,
    cluster: &Cluster,
    stores: &Stores,
    catalog: Option<&Catalog>,
) -> anyhow::Result<()> {
    let mut conn = match catalog {
        Some(catalog) => Some(catalog.get().await?),
        None => None,
    };
    let mut prefixes: Vec<(KeyPrefix, Option<Prefix>)> = Vec::new();
    if let Some(conn) = &mut conn {
        let rows = clusters::clusters(conn).await?;
        if let Some(row) = rows.into_iter().find(|row| row.name == cluster.name) {
            let known = clusters::prefixes(conn, row.id).await?;
            prefixes = known
                .into_iter()
                .rev()
                .map(|prefix| (prefix.key_prefix.clone(), Some(prefix)))
                .collect();
        }
    }
    if prefixes.is_empty() {
        prefixes.push((cluster.prefix.clone(), None));
    }
    for (prefix, row) in prefixes {
        let conn = conn.as_deref_mut().zip(row.as_ref());
        let seen = Seen::look(shown, stores, &prefix, conn).await?;
        shown.bases.extend(seen.bases(&cluster.name, &prefix));
    }
    Ok(())
}

/// One prefix.
struct Seen {
    /// `None`: it does not answer.
    found: Vec<(RepositoryName, Option<Found>)>,
    rows: Vec<BaseRow>,
    reach: Reach,
}

impl Seen {
    async fn look(
        shown: &mut Shown,
        stores: &Stores,
        prefix: &KeyPrefix,
        conn: Option<(&mut Conn, &Prefix)>,
    ) -> anyhow::Result<Self> {
        let lists = stores
            .iter()
            .map(|store| walferry_base::list(&**store, prefix));
        let mut found = Vec::new();
        for (store, list) in stores.iter().zip(join_all(lists).await) {
            found.push((store.name().clone(), listed(shown, store.name(), list)));
        }
        let mut seen = Self {
            found,
            rows: Vec::new(),
            reach: Reach::new(),
        };
        match conn {
            Some((conn, row)) => {
                seen.rows = bases::list(conn, row.id).await?;
                seen.reach_by_catalog(conn, row).await?;
            }
            None => seen.reach_by_listing(shown, stores, prefix).await,
        }
        Ok(seen)
    }

    fn complete(&self) -> BTreeMap<BaseLabel, &CompleteBase> {
        let all = self.found.iter().filter_map(|(_, found)| found.as_ref());
        all.flat_map(BTreeMap::values)
            .filter_map(|one| match &one.state {
                BaseState::Complete(base) => Some((one.label, &**base)),
                BaseState::Begun(_) | BaseState::Unreadable(_) => None,
            })
            .collect()
    }

    async fn reach_by_catalog(&mut self, conn: &mut Conn, row: &Prefix) -> anyhow::Result<()> {
        let mut wanted: BTreeMap<BaseLabel, bases::Base> = self
            .rows
            .iter()
            .filter_map(|row| Some((row.base.label.parse().ok()?, row.base.clone())))
            .collect();
        for (label, base) in self.complete() {
            wanted.insert(label, recorded(base));
        }
        for (label, base) in wanted {
            for BaseReach {
                repository,
                usable,
                last,
                last_mtime,
            } in bases::reach(conn, row, &base).await?
            {
                let wal = Wal {
                    usable,
                    last: last.map(|name| name.to_string()),
                    closed_at: last_mtime,
                };
                self.reach.insert((label, repository), wal);
            }
        }
        Ok(())
    }

    async fn reach_by_listing(&mut self, shown: &mut Shown, stores: &Stores, prefix: &KeyPrefix) {
        let mut reach = Reach::new();
        for (store, (name, found)) in stores.iter().zip(&self.found) {
            let Some(found) = found else { continue };
            let complete: Vec<&CompleteBase> = found
                .values()
                .filter_map(|one| match &one.state {
                    BaseState::Complete(base) => Some(&**base),
                    BaseState::Begun(_) | BaseState::Unreadable(_) => None,
                })
                .collect();
            match walferry_backup::reach(&**store, prefix, &complete).await {
                Ok(reached) => {
                    for (base, wal) in complete.iter().zip(reached) {
                        let wal = Wal {
                            usable: wal.usable,
                            last: wal.last.map(|name| name.to_string()),
                            closed_at: wal.last_stored_at,
                        };
                        reach.insert((base.label, name.clone()), wal);
                    }
                }
                Err(error) => tell(shown, name, chain(&error)),
            }
        }
        self.reach = reach;
    }

    fn bases(&self, cluster: &str, prefix: &KeyPrefix) -> Vec<Base> {
        let complete = self.complete();
        let listed = self.found.iter().filter_map(|(_, found)| found.as_ref());
        let labels: BTreeSet<BaseLabel> = listed
            .flat_map(|found| found.keys().copied())
            .chain(
                self.rows
                    .iter()
                    .filter(|row| self.lives(row))
                    .filter_map(label),
            )
            .collect();
        labels
            .into_iter()
            .rev()
            .map(|one| {
                let row = self.rows.iter().find(|row| label(row) == Some(one));
                let base = match (complete.get(&one), row) {
                    (Some(base), _) => Some(recorded(base)),
                    (None, row) => row.map(|row| row.base.clone()),
                };
                let (keep, keep_until) = self.keep(one, row);
                Base {
                    cluster: cluster.to_owned(),
                    prefix: prefix.to_string(),
                    label: one.to_string(),
                    facts: base.map(|base| facts(&base)),
                    keep,
                    keep_until,
                    repositories: self
                        .found
                        .iter()
                        .map(|(name, found)| self.holding(one, name, found.as_ref(), row))
                        .collect(),
                }
            })
            .collect()
    }

    /// Whether a base that no bucket showed may be in one that did not answer.
    fn lives(&self, row: &BaseRow) -> bool {
        row.copies.iter().any(|copy| {
            let silent = self
                .found
                .iter()
                .any(|(name, found)| *name == copy.repository && found.is_none());
            silent && copy.state == BaseCopyState::Complete
        })
    }

    /// A mark in any bucket counts, for the longest time; the catalog's where none was asked.
    fn keep(
        &self,
        label: BaseLabel,
        row: Option<&BaseRow>,
    ) -> (bool, Option<chrono::DateTime<chrono::Utc>>) {
        let marks = self.found.iter().filter_map(|(_, found)| {
            let mark = found.as_ref()?.get(&label)?.keep.as_ref()?;
            Some(mark.until)
        });
        let silent = self.found.iter().any(|(_, found)| found.is_none());
        let known = row.filter(|_| silent).and_then(|row| row.keep);
        let marks = marks.chain(known.map(|keep| keep.until));
        // `None` is for ever.
        let longest = marks.reduce(|one, other| Some(one?.max(other?)));
        (longest.is_some(), longest.flatten())
    }

    fn holding(
        &self,
        label: BaseLabel,
        name: &RepositoryName,
        found: Option<&Found>,
        row: Option<&BaseRow>,
    ) -> Holding {
        let copy = row.and_then(|row| row.copies.iter().find(|copy| copy.repository == *name));
        let (state, reason) = match (found, found.and_then(|found| found.get(&label))) {
            (Some(_), Some(one)) => match &one.state {
                BaseState::Complete(_) => (State::Complete, None),
                BaseState::Unreadable(reason) => (State::Unreadable, Some(reason.clone())),
                BaseState::Begun(_) => match copy {
                    Some(copy) if copy.state == BaseCopyState::Dropped => {
                        (State::Dropped, copy.reason.clone())
                    }
                    _ => (State::Begun, None),
                },
            },
            (Some(_), None) => match copy.map(|copy| (copy.state, copy.reason.clone())) {
                Some((BaseCopyState::Dropped, reason)) => (State::Dropped, reason),
                Some((BaseCopyState::Removed, reason)) => (State::Removed, reason),
                // The bucket is the truth.
                Some((BaseCopyState::Complete, _)) | None => (State::Absent, None),
            },
            (None, _) => match copy.map(|copy| (copy.state, copy.reason.clone())) {
                Some((BaseCopyState::Complete, _)) => (State::Complete, None),
                Some((BaseCopyState::Dropped, reason)) => (State::Dropped, reason),
                Some((BaseCopyState::Removed, reason)) => (State::Removed, reason),
                None => (State::Unknown, None),
            },
        };
        let wal = self.reach.get(&(label, name.clone()));
        Holding {
            repository: name.to_string(),
            state,
            reason,
            usable: match (state, wal) {
                (State::Complete, wal) => wal.map(|wal| wal.usable),
                (State::Unknown, _) => None,
                _ => Some(false),
            },
            last_segment: wal.and_then(|wal| wal.last.clone()),
            last_closed_at: wal.and_then(|wal| wal.closed_at),
        }
    }
}

fn label(row: &BaseRow) -> Option<BaseLabel> {
    row.base.label.parse().ok()
}

fn listed(
    shown: &mut Shown,
    repository: &RepositoryName,
    list: Result<Vec<FoundBase>, ListError>,
) -> Option<Found> {
    match list {
        Ok(found) => Some(found.into_iter().map(|one| (one.label, one)).collect()),
        Err(error) => {
            tell(shown, repository, chain(&error));
            None
        }
    }
}

/// Once for each repository, however many prefixes there are.
fn tell(shown: &mut Shown, repository: &RepositoryName, error: String) {
    let repository = repository.to_string();
    if shown
        .unreachable
        .iter()
        .all(|one| one.repository != repository)
    {
        shown.unreachable.push(Unreachable { repository, error });
    }
}

fn facts(base: &bases::Base) -> Facts {
    let took = base.stopped_at - base.started_at;
    Facts {
        system_id: base.system_id.to_string(),
        server_version: base.server_version,
        from_standby: base.from_standby,
        started_at: base.started_at,
        stopped_at: base.stopped_at,
        seconds: u64::try_from(took.num_seconds()).unwrap_or(0),
        size: base.size,
        stored_size: base.stored_size,
        start_lsn: base.start_lsn.to_string(),
        stop_lsn: base.stop_lsn.to_string(),
        timeline: base.start_timeline.get(),
        tablespaces: base.tablespaces,
    }
}
