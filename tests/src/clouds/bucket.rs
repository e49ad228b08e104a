//! A bucket, seen past the proxy with a client of the tests' own.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Handle;

use crate::sigv4::Credentials;

/// A bucket of one S3 server.
#[derive(Debug, Clone)]
pub struct Bucket {
    address: SocketAddr,
    name: String,
    credentials: Credentials,
    runtime: Handle,
}

/// An entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its size.
    pub size: u64,
    /// When it was stored.
    pub last_modified: String,
}

/// One version of an object, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its key.
    pub key: String,
    /// The version's id.
    pub id: String,
    /// Whether it only says that the object was deleted.
    pub delete_marker: bool,
}

/// An S3 server's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }
}

impl Bucket {
    pub(super) fn new(
        address: SocketAddr,
        name: &str,
        credentials: Credentials,
        runtime: Handle,
    ) -> Bucket {
        Bucket {
            address,
            name: name.into(),
            credentials,
            runtime,
        }
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the server behind listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The access key and secret.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The same bucket, seen with other credentials or through a proxy.
    pub fn seen_by(&self, address: SocketAddr, credentials: Credentials) -> Bucket {
        Bucket::new(address, &self.name, credentials, self.runtime.clone())
    }

    /// Every object whose key starts with `prefix`.
    #[track_caller]
    pub fn list(&self, prefix: &str) -> Vec<Object> {
        let mut objects: Vec<Object> = Vec::new();
        loop {
            let mut query = format!("list-type=2&max-keys=1000&prefix={}", encode(prefix));
            if let Some(last) = objects.last() {
                query.push_str(&format!("&start-after={}", encode(&last.key)));
            }
            let page = self.ask("GET", "", &query, b"").text();
            let entries: Vec<Object> = elements(&page, "Contents")
                .map(|entry| Object {
                    key: element(entry, "Key"),
                    size: element(entry, "Size").parse().expect("a size"),
                    last_modified: element(entry, "LastModified"),
                })
                .collect();
            let more = element(&page, "IsTruncated") == "true" && !entries.is_empty();
            objects.extend(entries);
            if !more {
                return objects;
            }
        }
    }

    /// The keys that start with `prefix`.
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.list(prefix)
            .into_iter()
            .map(|object| object.key)
            .collect()
    }

    /// An object's bytes and headers; nothing when it is absent.
    #[track_caller]
    pub fn get(&self, key: &str) -> Option<Answer> {
        self.present("GET", key)
    }

    /// An object's headers; nothing when it is absent.
    #[track_caller]
    pub fn head(&self, key: &str) -> Option<Answer> {
        self.present("HEAD", key)
    }

    /// Stores an object, as somebody other than walferry would.
    #[track_caller]
    pub fn put(&self, key: &str, body: &[u8]) {
        self.ask("PUT", key, "", body);
    }

    /// Stores an object with metadata (`x-amz-meta-` is added).
    #[track_caller]
    pub fn put_with(&self, key: &str, body: &[u8], metadata: &[(&str, &str)]) {
        let headers: Vec<(String, String)> = metadata
            .iter()
            .map(|(name, value)| (format!("x-amz-meta-{name}"), (*value).to_owned()))
            .collect();
        let answer = self
            .send("PUT", key, "", body, &headers)
            .expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// Deletes an object by name.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.ask("DELETE", key, "", b"");
    }

    /// Deletes every version of an object.
    #[track_caller]
    pub fn delete_all_versions(&self, key: &str) {
        self.delete(key);
        for version in self.versions(key) {
            self.ask(
                "DELETE",
                key,
                &format!("versionId={}", encode(&version.id)),
                b"",
            );
        }
    }

    /// Versions and delete markers of keys that start with `prefix`; none on a
    /// server that knows no versions.
    #[track_caller]
    pub fn versions(&self, prefix: &str) -> Vec<Version> {
        let query = format!("versions=&prefix={}", encode(prefix));
        let answer = self.request("GET", "", &query, b"").expect("an answer");
        if answer.status != 200 {
            return Vec::new();
        }
        let page = answer.text();
        let of = |tag: &'static str| {
            elements(&page, tag).map(move |entry| Version {
                key: element(entry, "Key"),
                id: element(entry, "VersionId"),
                delete_marker: tag == "DeleteMarker",
            })
        };
        of("Version").chain(of("DeleteMarker")).collect()
    }

    /// Another bucket of the same server.
    pub fn sibling(&self, name: &str) -> Bucket {
        Bucket {
            name: name.into(),
            ..self.clone()
        }
    }

    /// From now on every PUT and every delete makes a version, as B2 does always.
    #[track_caller]
    pub fn make_versioned(&self) {
        let body = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Status>Enabled</Status></VersioningConfiguration>";
        self.ask("PUT", "", "versioning=", body);
    }

    /// Removes the bucket; it must be empty.
    #[track_caller]
    pub fn remove(&self) {
        self.ask("DELETE", "", "", b"");
    }

    /// Makes the bucket; that it exists is fine.
    pub fn create(&self) -> Result<(), String> {
        let answer = self.request("PUT", "", "", b"")?;
        match answer.status {
            200 | 409 => Ok(()),
            status => Err(format!("{status}: {}", answer.text())),
        }
    }

    /// Sends one signed request and returns whatever the answer is.
    pub fn request(
        &self,
        method: &str,
        key: &str,
        query: &str,
        body: &[u8],
    ) -> Result<Answer, String> {
        self.send(method, key, query, body, &[])
    }

    #[track_caller]
    fn ask(&self, method: &str, key: &str, query: &str, body: &[u8]) -> Answer {
        let answer = self
            .request(method, key, query, body)
            .unwrap_or_else(|error| panic!("{method} {key}?{query}: {error}"));
        assert!(
            (200..300).contains(&answer.status),
            "{method} {key}?{query}: {} {}",
            answer.status,
            answer.text()
        );
        answer
    }

    #[track_caller]
    fn present(&self, method: &str, key: &str) -> Option<Answer> {
        let answer = self
            .request(method, key, "", b"")
            .unwrap_or_else(|error| panic!("{method} {key}: {error}"));
        match answer.status {
            200 => Some(answer),
            404 => None,
            status => panic!("{method} {key}: {status} {}", answer.text()),
        }
    }

    fn send(
        &self,
        method: &str,
        key: &str,
        query: &str,
        body: &[u8],
        extra: &[(String, String)],
    ) -> Result<Answer, String> {
        let method: Method = method.parse().expect("an HTTP method");
        let path = match key {
            "" => format!("/{}", self.name),
            key => format!(
                "/{}/{}",
                self.name,
                key.split('/').map(encode).collect::<Vec<_>>().join("/")
            ),
        };
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(&self.address.to_string()).expect("an address");
        headers.insert("host", host);
        for (name, value) in extra {
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("a header's name"),
                HeaderValue::from_str(value).expect("a header's value"),
            );
        }
        self.credentials
            .sign(&method, &path, query, &mut headers, body, Utc::now());
        let question = if query.is_empty() { "" } else { "?" };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}{question}{query}", self.address))
            .body(Full::new(Bytes::copy_from_slice(body)))
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = headers;
        let work = async {
            let client = Client::builder(TokioExecutor::new())
                .set_host(false)
                .build_http();
            let answer = client
                .request(request)
                .await
                .map_err(|error| format!("{error:?}"))?;
            let (head, body) = answer.into_parts();
            let body = body
                .collect()
                .await
                .map_err(|error| format!("{error:?}"))?
                .to_bytes();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                body,
            })
        };
        self.runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await })
            .map_err(|_| "no answer within 60 s".to_owned())?
    }
}

impl Object {
    /// When it was stored, as a moment.
    pub fn stored_at(&self) -> DateTime<Utc> {
        self.last_modified.parse().expect("an ISO 8601 moment")
    }
}

/// Percent-encodes everything but what SigV4 leaves as it is.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn elements<'a>(xml: &'a str, tag: &str) -> impl Iterator<Item = &'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inside, after) = after.split_once(&close)?;
        rest = after;
        Some(inside)
    })
}

fn element(xml: &str, tag: &str) -> String {
    let inside = elements(xml, tag).next().unwrap_or_default();
    inside
        .replace("&quot;", "\"")
        .replace("&#34;", "\"")
        .replace("&amp;", "&")
}
