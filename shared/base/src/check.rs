//! Whether every object of a base is where it should be, and what it should be.

use std::fmt;

use walferry_layout::base::{BaseLabel, BaseObject, CompleteBase, Slice, base_folder, base_key};
use walferry_pack::pool::PackPool;
use walferry_pack::unpack::{self, Contents, UnpackError};
use walferry_proof::{KeyPrefix, Md5, Mismatch, ObjectKey};
use walferry_store::{Listed, ReadRepository};

use crate::folders;
use crate::packing::expected;
use crate::small;
use crate::upload::{UploadError, verify};

/// An object that is not what `backup.json` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: ObjectKey,
    pub kind: FaultKind,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Missing,
    /// Its bytes in the repository.
    Size {
        expected: u64,
        found: u64,
    },
    /// The size is right and the content is not.
    Content,
    /// It does not unpack, and why.
    Damaged(String),
}

/// A base could not be checked.
#[derive(Debug, thiserror::Error)]
#[error("check base backup {label}")]
pub struct CheckError {
    label: BaseLabel,
    #[source]
    source: Box<UploadError>,
}

/// Compares what `repository` holds of `base` with what it should hold; nothing is returned
/// where all is right.
///
/// Slices are compared by the size and the ETag that the listing reports (one request for a
/// thousand); read are `backup.json`, the manifest, and slices whose ETag is no MD5. A byte that
/// flipped in the cloud after that is not seen.
///
/// # Errors
/// [`CheckError`] when the repository does not answer.
pub async fn check(
    base: &CompleteBase,
    prefix: &KeyPrefix,
    repository: &dyn ReadRepository,
    pool: &PackPool,
) -> Result<Vec<Fault>, CheckError> {
    let label = base.label;
    let failed = |source| CheckError {
        label,
        source: Box::new(source),
    };
    let mut faults = slices(base, prefix, repository, pool)
        .await
        .map_err(failed)?;
    let manifest = base_key(prefix, label, &BaseObject::Manifest);
    let found = manifest_fault(base, &manifest, repository, pool)
        .await
        .map_err(failed)?;
    faults.extend(found.map(|kind| Fault {
        key: manifest,
        kind,
    }));
    let complete = base_key(prefix, label, &BaseObject::Complete);
    let found = match small::read(repository, &complete).await {
        Ok(Some(bytes)) => match CompleteBase::parse(&bytes) {
            Ok(found) => (found != *base).then_some(FaultKind::Content),
            Err(error) => Some(FaultKind::Damaged(error.to_string())),
        },
        Ok(None) => Some(FaultKind::Missing),
        Err(error) => return Err(failed(error)),
    };
    faults.extend(found.map(|kind| Fault {
        key: complete,
        kind,
    }));
    Ok(faults)
}

/// What is wrong with the slices.
pub(crate) async fn slices<R: ReadRepository + ?Sized>(
    base: &CompleteBase,
    prefix: &KeyPrefix,
    repository: &R,
    pool: &PackPool,
) -> Result<Vec<Fault>, UploadError> {
    let folder = folders::walk(repository, prefix, &base_folder(prefix, base.label))
        .await?
        .remove(&base.label)
        .unwrap_or_default();
    let mut faults = Vec::new();
    for slice in &base.slices {
        let object = BaseObject::Slice(slice.archive, slice.number);
        let key = base_key(prefix, base.label, &object);
        let kind = match folder.objects.get(&object) {
            None => Some(FaultKind::Missing),
            Some(listed) => match listed_fault(slice, listed) {
                Listing::Right => None,
                Listing::Wrong(kind) => Some(kind),
                Listing::Silent => asked_fault(slice, &key, repository, pool).await?,
            },
        };
        faults.extend(kind.map(|kind| Fault { key, kind }));
    }
    Ok(faults)
}

enum Listing {
    Right,
    Wrong(FaultKind),
    /// The ETag says nothing about the content.
    Silent,
}

fn listed_fault(slice: &Slice, listed: &Listed) -> Listing {
    if listed.size != slice.stored_size {
        return Listing::Wrong(FaultKind::Size {
            expected: slice.stored_size,
            found: listed.size,
        });
    }
    match listed
        .etag
        .as_deref()
        .and_then(|etag| etag.parse::<Md5>().ok())
    {
        Some(md5) if md5 == slice.stored_md5 => Listing::Right,
        Some(_) => Listing::Wrong(FaultKind::Content),
        None => Listing::Silent,
    }
}

async fn asked_fault<R: ReadRepository + ?Sized>(
    slice: &Slice,
    key: &ObjectKey,
    repository: &R,
    pool: &PackPool,
) -> Result<Option<FaultKind>, UploadError> {
    match verify(repository, key, &expected(slice), pool).await {
        Ok(_) => Ok(None),
        Err(UploadError::Vanished { .. }) => Ok(Some(FaultKind::Missing)),
        Err(UploadError::Mismatch(Mismatch::Size {
            expected, reported, ..
        })) => Ok(Some(FaultKind::Size {
            expected,
            found: reported,
        })),
        Err(UploadError::Mismatch(_)) => Ok(Some(FaultKind::Content)),
        Err(UploadError::ReadBack {
            source: UnpackError::Damaged(error),
            ..
        }) => Ok(Some(FaultKind::Damaged(error.to_string()))),
        Err(error) => Err(error),
    }
}

async fn manifest_fault(
    base: &CompleteBase,
    key: &ObjectKey,
    repository: &dyn ReadRepository,
    pool: &PackPool,
) -> Result<Option<FaultKind>, UploadError> {
    match contents(repository, key, pool).await {
        Ok(Some(found)) if found.plain_sha256 == base.manifest_sha256 => Ok(None),
        Ok(Some(_)) => Ok(Some(FaultKind::Content)),
        Ok(None) => Ok(Some(FaultKind::Missing)),
        Err(UploadError::ReadBack {
            source: UnpackError::Damaged(error),
            ..
        }) => Ok(Some(FaultKind::Damaged(error.to_string()))),
        Err(error) => Err(error),
    }
}

/// What an object really holds.
pub(crate) async fn contents<R: ReadRepository + ?Sized>(
    repository: &R,
    key: &ObjectKey,
    pool: &PackPool,
) -> Result<Option<Contents>, UploadError> {
    let Some(object) = repository.get(key).await? else {
        return Ok(None);
    };
    match unpack::contents(pool, object.body).await {
        Ok(contents) => Ok(Some(contents)),
        Err(UnpackError::Store(error)) => Err(UploadError::Store(error)),
        Err(source) => Err(UploadError::ReadBack {
            repository: repository.name().clone(),
            key: key.clone(),
            source,
        }),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.kind {
            FaultKind::Missing => write!(f, "`{key}` is missing"),
            FaultKind::Size { expected, found } => {
                write!(f, "`{key}` has {found} bytes, not {expected}")
            }
            FaultKind::Content => write!(f, "`{key}` holds other content"),
            FaultKind::Damaged(why) => write!(f, "`{key}` is damaged: {why}"),
        }
    }
}
