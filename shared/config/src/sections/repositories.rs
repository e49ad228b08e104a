//! The clouds that hold the copies.
//!
//! Reads, for r2: `CLOUDFLARE_R2_ENDPOINT_URL`, `CLOUDFLARE_R2_BUCKET`,
//! `CLOUDFLARE_R2_ACCESS_KEY_ID`, `CLOUDFLARE_R2_SECRET_ACCESS_KEY`; for b2:
//! `BACKBLAZE_B2_ENDPOINT_URL`, `BACKBLAZE_B2_BUCKET`, `BACKBLAZE_B2_REGION`,
//! `BACKBLAZE_B2_KEY_ID`, `BACKBLAZE_B2_APPLICATION_KEY`; for any repository:
//! `WALFERRY_REPOSITORIES` and `WALFERRY_REPOSITORIES_<NAME>_…` with the last
//! part of each name below. Keys also with `_FILE`.

use std::collections::BTreeSet;
use std::time::Duration;

use url::Url;
use walferry_proof::RepositoryName;
use walferry_store::S3Settings;

use crate::config::Config;
use crate::problem::Refusal;
use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static NAMES: Setting = Setting::new(
    "repositories",
    "the repositories by name; without it those that the file or the old variables name, or `r2` and `b2`",
);
static ENDPOINT: Setting =
    Setting::new("repositories.*.endpoint", "URL of its S3 interface").old(&[
        ("r2", "CLOUDFLARE_R2_ENDPOINT_URL"),
        ("b2", "BACKBLAZE_B2_ENDPOINT_URL"),
    ]);
static BUCKET: Setting = Setting::new("repositories.*.bucket", "its bucket").old(&[
    ("r2", "CLOUDFLARE_R2_BUCKET"),
    ("b2", "BACKBLAZE_B2_BUCKET"),
]);
static REGION: Setting = Setting::new(
    "repositories.*.region",
    "region that requests are signed for",
)
.default_by_name(&[("r2", "auto"), ("b2", "us-east-005"), ("*", "us-east-1")])
.old(&[("b2", "BACKBLAZE_B2_REGION")]);
static ACCESS_KEY_ID: Setting = Setting::new("repositories.*.access_key_id", "key to sign with")
    .secret()
    .old(&[
        ("r2", "CLOUDFLARE_R2_ACCESS_KEY_ID"),
        ("b2", "BACKBLAZE_B2_KEY_ID"),
    ]);
static SECRET_ACCESS_KEY: Setting =
    Setting::new("repositories.*.secret_access_key", "the key's secret")
        .secret()
        .old(&[
            ("r2", "CLOUDFLARE_R2_SECRET_ACCESS_KEY"),
            ("b2", "BACKBLAZE_B2_APPLICATION_KEY"),
        ]);
static REQUIRED: Setting = Setting::new(
    "repositories.*.required",
    "whether a segment is VERIFIED only with a copy here",
)
.default("true");
static CONDITIONAL_PUT: Setting = Setting::new(
    "repositories.*.conditional_put",
    "whether it understands If-None-Match (R2 does, B2 answers 501)",
)
.default_by_name(&[("r2", "true"), ("*", "false")]);
static PATH_STYLE: Setting = Setting::new(
    "repositories.*.path_style",
    "the bucket in the path of the URL instead of its host",
)
.default("true");
static CA_CERTIFICATES: Setting = Setting::new(
    "repositories.*.ca_certificates",
    "file of certificates (PEM) to trust besides the system's and SSL_CERT_FILE",
);
static ALLOW_HTTP: Setting = Setting::new(
    "repositories.*.allow_http",
    "accept an http:// endpoint on another machine: segments then travel in the clear",
)
.default("false");
static CONNECT_TIMEOUT: Setting = Setting::new(
    "repositories.*.connect_timeout",
    "how long connecting may take",
)
.default_of(|| value::span_text(S3Settings::CONNECT_TIMEOUT));
static IDLE_TIMEOUT: Setting = Setting::new(
    "repositories.*.idle_timeout",
    "how long nothing may move; the whole transfer has no limit, so slow links work",
)
.default_of(|| value::span_text(S3Settings::IDLE_TIMEOUT));

pub(crate) const SETTINGS: &[&Setting] = &[
    &NAMES,
    &ENDPOINT,
    &BUCKET,
    &REGION,
    &ACCESS_KEY_ID,
    &SECRET_ACCESS_KEY,
    &REQUIRED,
    &CONDITIONAL_PUT,
    &PATH_STYLE,
    &CA_CERTIFICATES,
    &ALLOW_HTTP,
    &CONNECT_TIMEOUT,
    &IDLE_TIMEOUT,
];

/// The pair that the old system had.
const DEFAULT_PAIR: [&str; 2] = ["r2", "b2"];

/// At least one required repository; no two share a bucket.
#[derive(Clone, Debug)]
pub struct Repositories(Vec<Repository>);

#[derive(Clone, Debug)]
pub struct Repository {
    pub name: RepositoryName,
    /// VERIFIED takes a copy in every required one.
    pub required: bool,
    /// Its endpoint is without user, query and fragment, and plain HTTP only on
    /// loopback or where that was allowed.
    pub s3: S3Settings,
}

impl Repositories {
    pub fn iter(&self) -> impl Iterator<Item = &Repository> {
        self.0.iter()
    }

    pub fn get(&self, name: &RepositoryName) -> Option<&Repository> {
        self.0.iter().find(|repository| repository.name == *name)
    }

    /// The names of those that VERIFIED takes a copy in.
    pub fn required(&self) -> Vec<RepositoryName> {
        let required = self.0.iter().filter(|repository| repository.required);
        required.map(|repository| repository.name.clone()).collect()
    }
}

impl Section for Repositories {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let named = reader.list(&NAMES, name);
        let names = names(reader.config());
        let repositories: Vec<Option<Repository>> =
            names.iter().map(|name| repository(reader, name)).collect();
        let repositories: Option<Vec<Repository>> = repositories.into_iter().collect();
        named?;
        let repositories = repositories?;
        if !repositories.iter().any(|repository| repository.required) {
            reader.problem(
                "`repositories.*.required`",
                "no repository is required: every segment would count as VERIFIED at once",
                "leave at least one repository required",
            );
            return None;
        }
        apart(reader, &repositories).then_some(Self(repositories))
    }
}

/// The names of the repositories, valid or not.
pub(crate) fn names(config: &Config) -> Vec<String> {
    if let Some(names) = super::selected(config, &NAMES) {
        return names;
    }
    let mut names: BTreeSet<&str> = config.mentioned("repositories");
    if names.is_empty() {
        // Both, even when the variables of one are missing: to lose the second
        // cloud over a forgotten variable must not look like a choice.
        return DEFAULT_PAIR.map(str::to_owned).to_vec();
    }
    for setting in SETTINGS {
        for (name, variable) in setting.old {
            let with_path = format!("{variable}_FILE");
            let environment = config.environment();
            if environment
                .get(variable)
                .or(environment.get(&with_path))
                .is_some()
            {
                names.insert(name);
            }
        }
    }
    names.into_iter().map(str::to_owned).collect()
}

fn repository(reader: &mut Reader<'_>, name: &str) -> Option<Repository> {
    let good_name: Option<RepositoryName> = match name.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            let subject = format!("`repositories.{name}`");
            reader.problem(&subject, format!("{error}"), "rename the section");
            None
        }
    };
    let endpoint = reader.value(ENDPOINT.of(name), endpoint);
    let bucket = reader.value(BUCKET.of(name), bucket);
    let region = reader.value(REGION.of(name), value::text);
    let access_key_id = reader.needed_secret(ACCESS_KEY_ID.of(name), value::opaque);
    let secret_access_key = reader.needed_secret(SECRET_ACCESS_KEY.of(name), value::opaque);
    let required = reader.value(REQUIRED.of(name), value::boolean);
    let conditional_put = reader.value(CONDITIONAL_PUT.of(name), value::boolean);
    let path_style = reader.value(PATH_STYLE.of(name), value::boolean);
    let ca_certificates = reader.optional(CA_CERTIFICATES.of(name), value::absolute_path);
    let allow_http = reader.value(ALLOW_HTTP.of(name), value::boolean);
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
    let connect_timeout = reader.value(CONNECT_TIMEOUT.of(name), value::duration(least, most));
    let idle_timeout = reader.value(IDLE_TIMEOUT.of(name), value::duration(least, most));
    let s3 = S3Settings {
        name: good_name?,
        endpoint: endpoint?,
        bucket: bucket?,
        region: region?,
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        allow_http: allow_http?,
        conditional_put: conditional_put?,
        path_style: path_style?,
        idle_timeout: idle_timeout?,
        connect_timeout: connect_timeout?,
        ca_certificates: ca_certificates?,
    };
    let repository = Repository {
        name: s3.name.clone(),
        required: required?,
        s3,
    };
    (encrypted(reader, name, &repository.s3) & region_fits(reader, name, &repository.s3))
        .then_some(repository)
}

fn name(text: &str) -> Result<RepositoryName, Refusal> {
    text.parse()
        .map_err(|error| Refusal::new(format!("{error}"), "write names between commas: r2,b2"))
}

fn endpoint(text: &str) -> Result<Url, Refusal> {
    let example = "write it as https://HOST, with a port if need be";
    // Whatever is in front of an @ may be a key: it is not repeated.
    let shown = if text.contains('@') {
        "it"
    } else {
        &format!("`{text}`")
    };
    let url = Url::parse(text)
        .map_err(|error| Refusal::new(format!("{shown} is not a URL: {error}"), example))?;
    if !matches!(url.scheme(), "https" | "http") || url.host().is_none() {
        return Err(Refusal::new(
            format!("{shown} is not an https:// URL"),
            example,
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refusal::new(
            "there is a user or key in the URL",
            "keys go into access_key_id and secret_access_key",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(Refusal::new(
            format!("{shown} has a query or fragment"),
            example,
        ));
    }
    let is_r2 = url
        .host_str()
        .is_some_and(|host| host.ends_with(".r2.cloudflarestorage.com"));
    if is_r2 && url.path() != "/" {
        return Err(Refusal::new(
            format!("{shown} has a path: for R2 that is the bucket"),
            "leave the path away and name the bucket in its own setting",
        ));
    }
    Ok(url)
}

fn bucket(text: &str) -> Result<String, Refusal> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if (3..=63).contains(&text.len()) && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(Refusal::new(
            format!("`{text}` is not a bucket name"),
            "write the name alone, without s3:// and without a path",
        ))
    }
}

fn encrypted(reader: &mut Reader<'_>, name: &str, s3: &S3Settings) -> bool {
    let endpoint = &s3.endpoint;
    if endpoint.scheme() == "https" || s3.allow_http || value::is_loopback(endpoint) {
        return true;
    }
    let subject = reader.subject(ENDPOINT.of(name));
    reader.problem(
        &subject,
        format!("`{endpoint}` is plain HTTP to another machine"),
        format!("use https://, or set repositories.{name}.allow_http = true"),
    );
    false
}

/// B2 answers a request that is signed for another region with a 403 that
/// looks like a wrong key.
fn region_fits(reader: &mut Reader<'_>, name: &str, s3: &S3Settings) -> bool {
    let host = s3.endpoint.host_str().unwrap_or_default();
    let of_b2 = host
        .strip_suffix(".backblazeb2.com")
        .and_then(|host| host.strip_prefix("s3."));
    match of_b2 {
        Some(region) if region != s3.region => {
            let subject = reader.subject(REGION.of(name));
            let variable = REGION.of(name).best_known_variable();
            reader.problem(
                &subject,
                format!("`{}` is not the region of `{host}`", s3.region),
                format!("set {variable} to {region}"),
            );
            false
        }
        _ => true,
    }
}

/// Two names for one bucket would count one copy twice.
fn apart(reader: &mut Reader<'_>, repositories: &[Repository]) -> bool {
    let mut good = true;
    for (i, repository) in repositories.iter().enumerate() {
        for other in &repositories[..i] {
            if repository.name == other.name {
                let subject = reader.subject(&NAMES);
                let message = format!("`{}` is named twice", other.name);
                reader.problem(&subject, message, "name each repository once");
                good = false;
            } else if same_bucket(&repository.s3, &other.s3) {
                let subject = reader.subject(BUCKET.of(repository.name.as_str()));
                reader.problem(
                    &subject,
                    format!(
                        "`{}` and `{}` are one bucket: a copy in it would count twice",
                        other.name, repository.name
                    ),
                    "give each repository a bucket of its own, best at another provider",
                );
                good = false;
            }
        }
    }
    good
}

fn same_bucket(a: &S3Settings, b: &S3Settings) -> bool {
    let host = |s3: &S3Settings| {
        (
            s3.endpoint.host_str().map(str::to_owned),
            s3.endpoint.port_or_known_default(),
        )
    };
    a.bucket == b.bucket && host(a) == host(b)
}
