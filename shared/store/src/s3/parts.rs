//! Multipart upload in equal parts: R2 accepts no others.

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, PutMultipartOptions, PutPayload};
use tokio::runtime::Handle;
use walferry_killpoint::kill_point;
use walferry_proof::{Md5, Md5Hasher, ObjectKey};

use super::transport::CONTENT_MD5;
use super::{S3, attributes, md5_of, tell};
use crate::{At, Metadata, StoreError};

/// Size of every part but the last. 10,000 of them are allowed: 80 GB.
const PART: usize = 8 * 1024 * 1024;

/// Parts on the wire at once. A third only costs memory.
const IN_FLIGHT: usize = 2;

pub(super) async fn put(
    s3: &S3,
    key: &ObjectKey,
    parts: BoxStream<'_, Result<Bytes, StoreError>>,
    metadata: &Metadata,
) -> Result<String, StoreError> {
    let at = s3.at("put-parts", Some(key));
    let path = s3.path(&at, key)?;
    let options = PutMultipartOptions {
        attributes: attributes(metadata),
        ..PutMultipartOptions::default()
    };
    let id = s3
        .store
        .create_multipart_opts(&path, options)
        .await
        .map_err(|error| tell(at.clone(), error))?;
    kill_point!("stream.multipart.created");
    let mut upload = Upload {
        store: s3.store.clone(),
        path,
        id,
        settled: false,
    };
    match upload.run(&at, parts).await {
        Ok(etag) => {
            upload.settled = true;
            Ok(etag)
        }
        Err(error) => {
            upload.settled = true;
            // What this leaves behind if it fails too is the bucket's lifecycle rule's.
            if let Err(abort) = upload.store.abort_multipart(&upload.path, &upload.id).await {
                let abort = tell(at, abort).report();
                tracing::warn!(
                    repository.name = %s3.name,
                    object.key = %key,
                    error = abort,
                    "unfinished multipart upload could not be aborted"
                );
            }
            Err(error)
        }
    }
}

struct Upload {
    store: AmazonS3,
    path: Path,
    id: MultipartId,
    settled: bool,
}

impl Upload {
    async fn run(
        &self,
        at: &At,
        parts: BoxStream<'_, Result<Bytes, StoreError>>,
    ) -> Result<String, StoreError> {
        let sent: Vec<(PartId, Md5)> = equal(parts)
            .enumerate()
            .map(|(index, part)| async move {
                let part = part.map_err(|error| source_failed(at, error))?;
                let sum = md5_of(at, part.clone()).await?;
                let payload = PutPayload::from_bytes(part);
                let put = self.store.put_part(&self.path, &self.id, index, payload);
                match CONTENT_MD5.scope(sum, put).await {
                    Ok(id) => {
                        kill_point!("stream.part.after");
                        Ok((id, sum))
                    }
                    Err(error) => Err(tell(at.clone(), error)),
                }
            })
            .buffered(IN_FLIGHT)
            .try_collect()
            .await?;
        let (ids, sums): (Vec<PartId>, Vec<Md5>) = sent.into_iter().unzip();
        kill_point!("stream.multipart.complete.before");
        self.store
            .complete_multipart(&self.path, &self.id, ids)
            .await
            .map_err(|error| tell(at.clone(), error))?;
        Ok(multipart_etag(&sums))
    }
}

impl Drop for Upload {
    /// The caller went away in the middle. What is left would be paid for until somebody
    /// looks, so it is aborted behind the caller's back.
    fn drop(&mut self) {
        let (false, Ok(runtime)) = (self.settled, Handle::try_current()) else {
            return;
        };
        let (store, path, id) = (self.store.clone(), self.path.clone(), self.id.clone());
        runtime.spawn(async move {
            if let Err(error) = store.abort_multipart(&path, &id).await {
                tracing::debug!(%error, "dropped multipart upload could not be aborted");
            }
        });
    }
}

/// The bytes of `pieces` in parts of `PART`; the last is shorter, and the only one may be
/// empty, because an upload needs a part.
fn equal(
    pieces: BoxStream<'_, Result<Bytes, StoreError>>,
) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send {
    // The last, shorter part is made at the end of `pieces`, and then the end is asked for
    // once more: a stream that is not fused panics there.
    let start = (pieces.fuse(), BytesMut::new(), Bytes::new(), 0_usize);
    futures::stream::try_unfold(start, |(mut pieces, mut part, mut rest, made)| async move {
        loop {
            let taken = rest.split_to(rest.len().min(PART - part.len()));
            if part.capacity() == 0 && !taken.is_empty() {
                part.reserve(PART);
            }
            part.extend_from_slice(&taken);
            if part.len() == PART {
                let full = std::mem::take(&mut part).freeze();
                return Ok(Some((full, (pieces, part, rest, made + 1))));
            }
            match pieces.try_next().await? {
                Some(piece) => rest = piece,
                None if part.is_empty() && made > 0 => return Ok(None),
                None => {
                    let last = std::mem::take(&mut part).freeze();
                    return Ok(Some((last, (pieces, part, rest, made + 1))));
                }
            }
        }
    })
}

/// The source may be another cloud, whose faults must not be held against this one.
fn source_failed(at: &At, error: StoreError) -> StoreError {
    match error {
        StoreError::Upload { .. } => error,
        other => StoreError::Upload {
            at: at.clone(),
            source: Box::new(other),
        },
    }
}

/// MD5 of the parts' MD5s, `-`, number of parts: what S3 reports for a multipart object.
fn multipart_etag(parts: &[Md5]) -> String {
    let mut hasher = Md5Hasher::new();
    for part in parts {
        hasher.update(&part.to_bytes());
    }
    format!("{}-{}", hasher.finish(), parts.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use walferry_proof::md5;

    fn check(pieces: &[usize], parts: &[usize]) {
        let stream = futures::stream::iter(pieces.to_vec())
            .map(|size| Ok(Bytes::from(vec![size as u8; size])))
            .boxed();
        let made: Vec<Bytes> = block_on(equal(stream).try_collect()).expect("no piece failed");
        let sizes: Vec<usize> = made.iter().map(Bytes::len).collect();
        assert_eq!(sizes, parts);
        let sent: Vec<u8> = pieces.iter().flat_map(|s| vec![*s as u8; *s]).collect();
        assert!(made.concat() == sent, "bytes changed");
    }

    #[test]
    fn parts_are_equal_however_the_pieces_come() {
        check(&[], &[0]);
        check(&[0, 0], &[0]);
        check(&[5], &[5]);
        check(&[PART], &[PART]);
        check(&[PART - 1, 3], &[PART, 2]);
        check(&[2 * PART + 7], &[PART, PART, 7]);
        check(&[1, PART, 0, PART - 1], &[PART, PART]);
    }

    #[test]
    fn an_empty_end_makes_no_part_after_a_full_one() {
        check(&[PART, 0], &[PART]);
    }

    #[test]
    fn the_multipart_etag_is_the_one_s3_computes() {
        // `printf abc | md5sum` twice, unhexed, `md5sum`.
        let part = md5(b"abc");
        let mut both = part.to_bytes().to_vec();
        both.extend(part.to_bytes());
        assert_eq!(multipart_etag(&[part, part]), format!("{}-2", md5(&both)));
    }
}
