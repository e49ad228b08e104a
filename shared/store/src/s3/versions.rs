//! Deleting all of a key. In a versioned bucket (B2's always are) a plain DELETE only adds
//! a marker: every version stays, and is paid for.

use http::Method;
use walferry_killpoint::kill_point;
use walferry_proof::ObjectKey;

use super::failure::Failure;
use super::listing::{escape, with_query};
use super::{S3, StoreError};
use crate::answers::{Version, Versions};
use crate::{At, Deleted, ReadRepository};

pub(super) async fn delete(s3: &S3, key: &ObjectKey) -> Result<Deleted, StoreError> {
    let at = s3.at("delete", Some(key));
    s3.path(&at, key)?;
    let url = format!("{}/{}", s3.bucket_url, escape(key.as_str(), true));
    let Some(versions) = versions(s3, &at, key).await? else {
        return delete_unversioned(s3, at, &url, key).await;
    };
    let mut deleted = Deleted::default();
    for version in versions {
        let url = with_query(&url, &[("versionId", &version)]);
        remove(s3, &at, &url).await?;
        deleted.versions += 1;
    }
    Ok(deleted)
}

/// R2 has no versions and no request to list them.
async fn delete_unversioned(
    s3: &S3,
    at: At,
    url: &str,
    key: &ObjectKey,
) -> Result<Deleted, StoreError> {
    if s3.head(key).await?.is_none() {
        return Ok(Deleted::default());
    }
    remove(s3, &at, url).await?;
    Ok(Deleted { versions: 1 })
}

async fn remove(s3: &S3, at: &At, url: &str) -> Result<(), StoreError> {
    kill_point!("retain.delete.before");
    match s3.transport.request(Method::DELETE, url).await {
        Ok(_) => {
            kill_point!("retain.delete.after");
            Ok(())
        }
        // Somebody else was faster.
        Err(Failure::Answer(answer))
            if answer.is_no_such_key() || answer.code == "NoSuchVersion" =>
        {
            Ok(())
        }
        Err(failure) => Err(failure.at(at.clone())),
    }
}

/// Versions and delete markers of exactly this key, the current one last: a crash on the
/// way then never brings an older version back to light. `None` if the server lacks the
/// request.
async fn versions(s3: &S3, at: &At, key: &ObjectKey) -> Result<Option<Vec<String>>, StoreError> {
    let mut found: Vec<Version> = Vec::new();
    let mut marker: Option<(String, String)> = None;
    loop {
        let mut query = vec![
            ("versions", ""),
            ("max-keys", "1000"),
            ("prefix", key.as_str()),
        ];
        if let Some((key, version)) = &marker {
            query.push(("key-marker", key));
            if !version.is_empty() {
                query.push(("version-id-marker", version));
            }
        }
        let url = with_query(&s3.bucket_url, &query);
        let answered = match s3.transport.request(Method::GET, &url).await {
            Ok(answered) => answered,
            Err(Failure::Answer(answer)) if answer.is_unsupported() => return Ok(None),
            Err(failure) => return Err(failure.at(at.clone())),
        };
        let page = Versions::parse(&answered.body).map_err(|source| StoreError::Protocol {
            at: at.clone(),
            problem: "not a list of versions".to_owned(),
            source: Some(Box::new(source)),
        })?;
        // A prefix is not a key: `…01.gz` also lists `…01.gz.bak`, and deleting that would
        // be deleting what nobody asked for.
        let beyond = page.others(key.as_str());
        found.extend(page.exactly(key.as_str()));
        let next = page
            .next_key
            .map(|key| (key, page.next_version.unwrap_or_default()));
        if !page.is_truncated || beyond {
            break;
        }
        if next.is_none() || next == marker {
            return Err(StoreError::Protocol {
                at: at.clone(),
                problem: "a list of versions that goes on does not say where".to_owned(),
                source: None,
            });
        }
        marker = next;
    }
    found.reverse();
    found.sort_by_key(|entry| entry.is_latest);
    Ok(Some(
        found.into_iter().map(|entry| entry.version_id).collect(),
    ))
}
