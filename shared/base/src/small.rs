//! The JSON objects of a base: small enough to be read whole.

use bytes::Bytes;
use walferry_pack::unpack::{self, UnpackError};
use walferry_proof::ObjectKey;
use walferry_store::{Metadata, PutNew, ReadRepository, Repository};

use crate::upload::UploadError;

/// `backup.json` has some 400 bytes for each slice; 100,000 slices of 32 MiB are 3 TiB.
pub(crate) const LARGEST: u64 = 256 << 20;

/// An object's bytes; `None` when it is not there.
pub(crate) async fn read<R: ReadRepository + ?Sized>(
    repository: &R,
    key: &ObjectKey,
) -> Result<Option<Bytes>, UploadError> {
    let Some(object) = repository.get(key).await? else {
        return Ok(None);
    };
    match unpack::collect(object.body, LARGEST).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(UnpackError::Store(error)) => Err(error.into()),
        Err(source) => Err(UploadError::ReadBack {
            repository: repository.name().clone(),
            key: key.clone(),
            source,
        }),
    }
}

/// Stores an object where none was and reads it back; false if another lies there.
pub(crate) async fn create(
    repository: &dyn Repository,
    key: &ObjectKey,
    body: &Bytes,
) -> Result<bool, UploadError> {
    let md5 = walferry_proof::md5(body);
    let none = Metadata::new();
    let put = repository.put_new(key, body.clone(), &none, &md5).await?;
    if put == PutNew::Exists {
        return Ok(false);
    }
    read_again(repository, key, body).await.map(|()| true)
}

/// Stores an object over whatever is there and reads it back.
pub(crate) async fn replace(
    repository: &dyn Repository,
    key: &ObjectKey,
    body: &Bytes,
) -> Result<(), UploadError> {
    let md5 = walferry_proof::md5(body);
    repository
        .put(key, body.clone(), &Metadata::new(), &md5)
        .await?;
    read_again(repository, key, body).await
}

async fn read_again(
    repository: &dyn Repository,
    key: &ObjectKey,
    body: &Bytes,
) -> Result<(), UploadError> {
    match read(repository, key).await? {
        Some(found) if found == *body => Ok(()),
        Some(_) => Err(UploadError::Differs {
            repository: repository.name().clone(),
            key: key.clone(),
        }),
        None => Err(UploadError::Vanished {
            repository: repository.name().clone(),
            key: key.clone(),
        }),
    }
}
