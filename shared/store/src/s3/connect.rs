//! From settings to a client: which URL, which TLS roots, which limits. Connects to nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential, S3ConditionalPut};
use object_store::{BackoffConfig, RetryConfig};
use secrecy::ExposeSecret;
use url::{Host, Url};

use super::S3;
use super::failure::RootCause;
use super::transport::Transport;
use crate::{At, BoxError, Repository, S3Settings, StoreError};

/// Servers close idle connections after a minute or less; ours are dropped before.
const POOL_IDLE: Duration = Duration::from_secs(20);

/// A repository in an S3 bucket. Does not connect: a cloud that is down at the start is
/// no error here.
///
/// # Errors
/// Settings that cannot work together, or a CA file that cannot be read.
pub fn s3(settings: &S3Settings) -> Result<Arc<dyn Repository>, StoreError> {
    let at = At::new(&settings.name, "configure", None);
    let loopback = is_loopback(&settings.endpoint);
    check(settings, loopback).map_err(|problem| configuration(&at, problem, None))?;
    let client = client(settings, loopback)
        .map_err(|(problem, source)| configuration(&at, problem, Some(source)))?;
    let transport = Transport::new(
        client,
        AwsCredential {
            key_id: settings.access_key_id.expose_secret().to_owned(),
            secret_key: settings.secret_access_key.expose_secret().to_owned(),
            token: None,
        },
        settings.region.clone(),
        settings.idle_timeout,
        settings.connect_timeout,
    );
    let store = store(settings, transport.clone())
        .map_err(|source| configuration(&at, "cannot use these settings".into(), Some(source)))?;
    Ok(Arc::new(S3 {
        name: settings.name.clone(),
        store,
        transport,
        bucket_url: bucket_url(settings),
        conditional_put: settings.conditional_put,
    }))
}

fn check(settings: &S3Settings, loopback: bool) -> Result<(), String> {
    let endpoint = &settings.endpoint;
    match endpoint.scheme() {
        "https" => {}
        "http" if settings.allow_http || loopback => {}
        "http" => {
            return Err(format!(
                "endpoint `{}` is plain HTTP. HINT: use https, or allow plain HTTP for this repository",
                shown(endpoint)
            ));
        }
        other => return Err(format!("endpoint has scheme `{other}`, not https")),
    }
    if endpoint.host().is_none() {
        return Err(format!("endpoint `{}` names no host", shown(endpoint)));
    }
    if !endpoint.username().is_empty() || endpoint.password().is_some() {
        return Err("endpoint holds credentials. HINT: give them as key id and secret".into());
    }
    if endpoint.path() != "/" || endpoint.query().is_some() || endpoint.fragment().is_some() {
        return Err(format!(
            "endpoint `{}` has a path. HINT: the bucket is a setting of its own",
            shown(endpoint)
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if settings.bucket.is_empty() || !settings.bucket.chars().all(plain) {
        return Err(format!("`{}` is not a bucket name", settings.bucket));
    }
    // They end up in a header, where a line break from a secret file would be fatal.
    for (what, value) in [
        ("region", settings.region.as_str()),
        ("key id", settings.access_key_id.expose_secret()),
        ("secret", settings.secret_access_key.expose_secret()),
    ] {
        if value.is_empty() || !value.chars().all(|c| c.is_ascii_graphic()) {
            return Err(format!(
                "the {what} is empty or has characters that no {what} has"
            ));
        }
    }
    if settings.idle_timeout.is_zero() || settings.connect_timeout.is_zero() {
        return Err("a timeout of 0 fails every request".into());
    }
    Ok(())
}

fn client(settings: &S3Settings, loopback: bool) -> Result<reqwest::Client, (String, BoxError)> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("walferry/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        // A redirect means a wrong region or endpoint; followed, it hides that.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(POOL_IDLE)
        .tcp_nodelay(true)
        .https_only(settings.endpoint.scheme() == "https");
    if loopback {
        builder = builder.no_proxy();
    }
    if settings.endpoint.scheme() == "http" {
        // A machine without any CA file can still use a server on loopback.
        builder = builder.tls_certs_only([]);
    } else if let Some(path) = &settings.ca_certificates {
        builder = builder.tls_certs_merge(certificates(path)?);
    }
    builder.build().map_err(|error| {
        (
            "cannot set up TLS. HINT: install CA certificates or name a CA file".to_owned(),
            RootCause::of(&error).into(),
        )
    })
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, (String, BoxError)> {
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|error| (format!("cannot read CA file `{shown}`"), error.into()))?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| {
        let cause = RootCause::of(&error);
        (format!("CA file `{shown}` is not PEM"), cause.into())
    })?;
    if certificates.is_empty() {
        let cause = RootCause::text("no BEGIN CERTIFICATE in it");
        return Err((
            format!("CA file `{shown}` holds no certificate"),
            cause.into(),
        ));
    }
    Ok(certificates)
}

fn store(settings: &S3Settings, transport: Transport) -> Result<AmazonS3, BoxError> {
    let path_style = path_style(settings);
    let endpoint = if path_style {
        origin(&settings.endpoint)
    } else {
        bucket_url(settings)
    };
    let conditional = if settings.conditional_put {
        S3ConditionalPut::ETagMatch
    } else {
        S3ConditionalPut::Disabled
    };
    let store = AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_virtual_hosted_style_request(!path_style)
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_access_key_id(settings.access_key_id.expose_secret())
        .with_secret_access_key(settings.secret_access_key.expose_secret())
        .with_allow_http(true)
        .with_conditional_put(conditional)
        // Over TLS the sum of the body is Content-MD5, made once for all clouds, and the proof
        // compares the ETag with it; a SHA-256 for each signature would tell nothing more.
        .with_unsigned_payload(settings.endpoint.scheme() == "https")
        // Retries belong to those who can see leases, breakers and the other cloud.
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 0,
            retry_timeout: Duration::ZERO,
        })
        .with_http_connector(transport)
        .build()?;
    Ok(store)
}

fn bucket_url(settings: &S3Settings) -> String {
    let origin = origin(&settings.endpoint);
    if path_style(settings) {
        return format!("{origin}/{}", settings.bucket);
    }
    origin.replacen("://", &format!("://{}.", settings.bucket), 1)
}

fn path_style(settings: &S3Settings) -> bool {
    settings.path_style
        || is_loopback(&settings.endpoint)
        || !matches!(settings.endpoint.host(), Some(Host::Domain(_)))
}

fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn origin(endpoint: &Url) -> String {
    endpoint.origin().ascii_serialization()
}

/// Without user name and password, which do not belong there but may stand there.
fn shown(endpoint: &Url) -> String {
    format!("{}{}", origin(endpoint), endpoint.path())
}

fn configuration(at: &At, problem: String, source: Option<BoxError>) -> StoreError {
    StoreError::Configuration {
        at: at.clone(),
        problem,
        source,
    }
}
