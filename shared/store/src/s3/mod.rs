//! A repository in an S3 bucket, over `object_store`.

mod connect;
mod failure;
mod idle;
mod listing;
mod parts;
mod transport;
mod versions;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{Method, StatusCode};
use object_store::aws::AmazonS3;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, GetResult, ObjectStore, PutMode, PutOptions, PutPayload,
};
use walferry_killpoint::kill_point;
use walferry_proof::{KeyPrefix, Md5, ObjectKey, RepositoryName, md5};

use self::failure::{Answer, Failure, date};
use self::transport::{CONTENT_MD5, Transport};
use crate::{
    At, Deleted, Metadata, ObjectFacts, ObjectStream, Page, PutNew, ReadRepository, Repository,
    StoreError,
};

pub use self::connect::s3;

struct S3 {
    name: RepositoryName,
    store: AmazonS3,
    transport: Transport,
    /// Scheme, host and, path-style, bucket; no slash at the end.
    bucket_url: String,
    conditional_put: bool,
}

#[async_trait]
impl ReadRepository for S3 {
    fn name(&self) -> &RepositoryName {
        &self.name
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectFacts>, StoreError> {
        let at = self.at("head", Some(key));
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let path = self.path(&at, key)?;
        match self.store.get_opts(&path, options).await {
            Ok(result) => Ok(Some(facts(&result))),
            // The answer to a HEAD has no body, so a 404 does not tell whether the key is
            // missing or the whole bucket, nor a 403 why. A GET does.
            Err(error) if is_wordless(&error) => {
                Ok(self.open(at, key).await?.map(|stream| stream.facts))
            }
            Err(error) => Err(tell(at, error)),
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        self.open(self.at("get", Some(key)), key).await
    }

    async fn list(
        &self,
        prefix: &KeyPrefix,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        listing::list(self, prefix, after, limit).await
    }

    async fn clock(&self) -> Result<DateTime<Utc>, StoreError> {
        let at = self.at("clock", None);
        let headers = match self.transport.request(Method::HEAD, &self.bucket_url).await {
            Ok(answered) => date(&answered.headers),
            // A refusal, above all one for a wrong clock, tells the time as well.
            Err(Failure::Answer(answer)) if !answer.status.is_server_error() => answer.date,
            Err(failure) => return Err(failure.at(at)),
        };
        headers.ok_or_else(|| StoreError::Protocol {
            at,
            problem: "no Date header".to_owned(),
            source: None,
        })
    }

    async fn probe(&self) -> Result<(), StoreError> {
        listing::probe(self).await
    }
}

#[async_trait]
impl Repository for S3 {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: &Md5,
    ) -> Result<(), StoreError> {
        let at = self.at("put", Some(key));
        self.send(&at, key, body, metadata, *md5, PutMode::Overwrite)
            .await
            .map_err(|error| tell(at, error))
    }

    async fn put_new(
        &self,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        sum: &Md5,
    ) -> Result<PutNew, StoreError> {
        let at = self.at("put-new", Some(key));
        if self.conditional_put {
            let mode = PutMode::Create;
            let sent = self
                .send(&at, key, body.clone(), metadata, *sum, mode)
                .await;
            return match sent {
                Ok(()) => Ok(PutNew::Created(None)),
                // The holder may be ourselves: a first attempt whose answer was lost.
                Err(error) if is_taken(&error) => match self.holds(&at, key, &body).await? {
                    Some(outcome) => Ok(outcome),
                    None => Err(tell(at, error)),
                },
                Err(error) => Err(tell(at, error)),
            };
        }
        if let Some(outcome) = self.holds(&at, key, &body).await? {
            return Ok(outcome);
        }
        kill_point!("archive.look.after");
        self.send(&at, key, body.clone(), metadata, *sum, PutMode::Overwrite)
            .await
            .map_err(|error| tell(at.clone(), error))?;
        kill_point!("archive.unconditional-put.after");
        // Somebody may have written between our look and our PUT; the last one wins. What the
        // cloud reports of it is enough here, where its ETag is an MD5 (B2's is): to download
        // every object once more would double the traffic.
        let outcome = match self.head(key).await? {
            Some(facts) if facts.etag.as_deref() == Some(&sum.to_string()) => {
                Some(PutNew::Created(Some(facts)))
            }
            Some(_) => self.holds(&at, key, &body).await?,
            None => None,
        };
        outcome.ok_or_else(|| StoreError::Protocol {
            at,
            problem: "the object is gone right after it was stored".to_owned(),
            source: None,
        })
    }

    async fn put_parts(
        &self,
        key: &ObjectKey,
        parts: BoxStream<'_, Result<Bytes, StoreError>>,
        metadata: &Metadata,
    ) -> Result<String, StoreError> {
        parts::put(self, key, parts, metadata).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<Deleted, StoreError> {
        versions::delete(self, key).await
    }
}

impl S3 {
    fn at(&self, operation: &'static str, key: Option<&ObjectKey>) -> At {
        At::new(&self.name, operation, key)
    }

    /// `object_store` drops slashes at the ends of a key; such a key must not quietly
    /// become another one.
    fn path(&self, at: &At, key: &ObjectKey) -> Result<Path, StoreError> {
        match Path::parse(key.as_str()) {
            Ok(path) if path.as_ref() == key.as_str() => Ok(path),
            _ => Err(StoreError::Configuration {
                at: at.clone(),
                problem: "a key with an empty or dotted folder cannot be addressed".to_owned(),
                source: None,
            }),
        }
    }

    async fn send(
        &self,
        at: &At,
        key: &ObjectKey,
        body: Bytes,
        metadata: &Metadata,
        md5: Md5,
        mode: PutMode,
    ) -> Result<(), Told> {
        let path = self.path(at, key)?;
        let options = PutOptions {
            mode,
            attributes: attributes(metadata),
            ..PutOptions::default()
        };
        let payload = PutPayload::from_bytes(body);
        let put = self.store.put_opts(&path, payload, options);
        CONTENT_MD5.scope(md5, put).await?;
        Ok(())
    }

    async fn open(&self, at: At, key: &ObjectKey) -> Result<Option<ObjectStream>, StoreError> {
        let path = self.path(&at, key)?;
        let result = match self.store.get_opts(&path, GetOptions::default()).await {
            Ok(result) => result,
            Err(error) => {
                return match Failure::inside(&error) {
                    Some(Failure::Answer(answer)) if answer.is_no_such_key() => Ok(None),
                    _ => Err(tell(at, error)),
                };
            }
        };
        let facts = facts(&result);
        let idle = self.transport.idle_timeout();
        let body = result.into_stream();
        Ok(Some(ObjectStream {
            body: complete(at, facts.size, idle, body).boxed(),
            facts,
        }))
    }

    /// Whether the key holds exactly these bytes; `None` if it holds nothing.
    async fn holds(
        &self,
        at: &At,
        key: &ObjectKey,
        bytes: &Bytes,
    ) -> Result<Option<PutNew>, StoreError> {
        let Some(mut stream) = self.open(at.clone(), key).await? else {
            return Ok(None);
        };
        if stream.facts.size != bytes.len() as u64 {
            return Ok(Some(PutNew::Exists));
        }
        let mut rest = &bytes[..];
        while let Some(chunk) = stream.body.try_next().await? {
            match rest.strip_prefix(&chunk[..]) {
                Some(behind) => rest = behind,
                None => return Ok(Some(PutNew::Exists)),
            }
        }
        Ok(Some(PutNew::Created(None)))
    }
}

/// MD5 of a part, computed where it does not hold up the async runtime: 8 MiB take a
/// sixtieth of a second.
async fn md5_of(at: &At, body: Bytes) -> Result<Md5, StoreError> {
    tokio::task::spawn_blocking(move || md5(&body))
        .await
        .map_err(|error| StoreError::Upload {
            at: at.clone(),
            source: error.into(),
        })
}

/// The stream, with its silence bounded and its end checked.
fn complete(
    at: At,
    size: u64,
    idle: std::time::Duration,
    body: BoxStream<'static, object_store::Result<Bytes>>,
) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send {
    futures::stream::try_unfold((body, size, at), move |(mut body, left, at)| async move {
        let Ok(next) = tokio::time::timeout(idle, body.next()).await else {
            return Err(StoreError::Timeout { at, idle });
        };
        match next {
            None if left == 0 => Ok(None),
            Some(Ok(chunk)) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Ok(Some((chunk, (body, left, at))))
            }
            Some(Err(error)) => Err(tell(at, error)),
            None | Some(Ok(_)) => Err(StoreError::Protocol {
                at,
                problem: format!("the body is not of the {size} bytes announced"),
                source: None,
            }),
        }
    })
}

fn facts(result: &GetResult) -> ObjectFacts {
    let metadata = result
        .attributes
        .iter()
        .filter_map(|(name, value)| match name {
            Attribute::Metadata(name) => Some((name.to_string(), value.to_string())),
            _ => None,
        })
        .collect();
    ObjectFacts {
        size: result.meta.size,
        etag: result.meta.e_tag.as_deref().map(unquote),
        last_modified: result.meta.last_modified,
        metadata,
    }
}

fn attributes(metadata: &Metadata) -> Attributes {
    metadata
        .iter()
        .map(|(name, value)| {
            let name = Attribute::Metadata(name.clone().into());
            (name, value.clone())
        })
        .collect()
}

fn unquote(etag: &str) -> String {
    etag.trim_start_matches("W/").trim_matches('"').to_owned()
}

/// An error of `object_store` or one of ours.
enum Told {
    Store(Box<object_store::Error>),
    Ours(StoreError),
}

impl From<object_store::Error> for Told {
    fn from(error: object_store::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<StoreError> for Told {
    fn from(error: StoreError) -> Self {
        Self::Ours(error)
    }
}

/// Tells an error in the operator's terms.
fn tell(at: At, error: impl Into<Told>) -> StoreError {
    match error.into() {
        Told::Ours(error) => error,
        Told::Store(error) => match Failure::inside(&error) {
            Some(failure) => failure.clone().at(at),
            None => StoreError::Protocol {
                at,
                problem: "not what S3 answers here".to_owned(),
                source: Some(error),
            },
        },
    }
}

/// A refused HEAD: the status is all there is.
fn is_wordless(error: &object_store::Error) -> bool {
    matches!(
        Failure::inside(error),
        Some(Failure::Answer(Answer { status, code, .. }))
            if status.is_client_error() && *status != StatusCode::TOO_MANY_REQUESTS && code.is_empty()
    )
}

/// `If-None-Match: *` found the key in use, or just being written.
fn is_taken(error: &Told) -> bool {
    let Told::Store(error) = error else {
        return false;
    };
    matches!(
        Failure::inside(error),
        Some(Failure::Answer(Answer { status, .. }))
            if matches!(
                *status,
                StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT | StatusCode::NOT_MODIFIED
            )
    )
}
