//! ListObjectsV2. Our own and not `object_store`'s, which gives up on a whole listing when
//! one key in it is not to its taste, and a bucket may hold what others put there.

use http::Method;
use walferry_proof::{KeyPrefix, ObjectKey};

use super::{S3, unquote};
use crate::answers::Listing;
use crate::{Listed, Page, StoreError};

/// Most that S3 returns at once.
const MOST: usize = 1000;

pub(super) async fn list(
    s3: &S3,
    prefix: &KeyPrefix,
    after: Option<&ObjectKey>,
    limit: usize,
) -> Result<Page, StoreError> {
    let mut page = Page {
        more: true,
        ..Page::default()
    };
    let mut token: Option<String> = None;
    // Several rounds only if the limit is above S3's own, or keys were skipped.
    while page.more && page.objects.len() < limit {
        let most = (limit - page.objects.len()).min(MOST).to_string();
        let mut query = vec![
            ("list-type", "2"),
            ("max-keys", &most),
            ("prefix", prefix.as_str()),
        ];
        match (&token, after) {
            (Some(token), _) => query.push(("continuation-token", token)),
            (None, Some(after)) => query.push(("start-after", after.as_str())),
            (None, None) => {}
        }
        let answer = ask(s3, "list", &query).await?;
        for object in answer.contents {
            match object.key.parse::<ObjectKey>() {
                // Some servers return the key that they were told to start after.
                Ok(key) if after.is_some_and(|after| key <= *after) => {}
                Ok(key) => page.objects.push(Listed {
                    key,
                    size: object.size,
                    last_modified: object.last_modified,
                    etag: object.etag.as_deref().map(unquote),
                }),
                Err(_) => page.skipped += 1,
            }
        }
        page.more = answer.is_truncated;
        if page.more && (answer.next_token.is_none() || answer.next_token == token) {
            return Err(StoreError::Protocol {
                at: s3.at("list", None),
                problem: "a listing that goes on does not say where".to_owned(),
                source: None,
            });
        }
        token = answer.next_token;
    }
    Ok(page)
}

/// The cheapest request that shows that bucket, key and permission are right.
pub(super) async fn probe(s3: &S3) -> Result<(), StoreError> {
    let query = [("list-type", "2"), ("max-keys", "1")];
    ask(s3, "probe", &query).await.map(|_| ())
}

async fn ask(
    s3: &S3,
    operation: &'static str,
    query: &[(&str, &str)],
) -> Result<Listing, StoreError> {
    let at = s3.at(operation, None);
    let url = with_query(&s3.bucket_url, query);
    let answered = match s3.transport.request(Method::GET, &url).await {
        Ok(answered) => answered,
        Err(failure) => return Err(failure.at(at)),
    };
    Listing::parse(&answered.body).map_err(|source| StoreError::Protocol {
        at,
        problem: "not a listing".to_owned(),
        source: Some(Box::new(source)),
    })
}

/// The URL as it is signed: everything but the unreserved characters is escaped.
pub(super) fn with_query(url: &str, query: &[(&str, &str)]) -> String {
    let mut text = url.to_owned();
    for (index, (name, value)) in query.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&escape(value, false));
    }
    text
}

/// Percent-encoding as SigV4 wants it.
pub(super) fn escape(text: &str, keep_slash: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(byte.into());
            }
            b'/' if keep_slash => escaped.push('/'),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_unreserved_characters_is_escaped() {
        assert_eq!(escape("a-._~Z9", false), "a-._~Z9");
        assert_eq!(escape("wal/a b+c&%", true), "wal/a%20b%2Bc%26%25");
        assert_eq!(escape("wal/", false), "wal%2F");
        assert_eq!(
            with_query("http://h/b", &[("versions", ""), ("prefix", "a/b")]),
            "http://h/b?versions=&prefix=a%2Fb"
        );
    }
}
