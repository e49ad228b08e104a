//! The server of the job queue.
//!
//! Reads: `REDIS_URL` or `WALFERRY_REDIS_URL` (each also with `_FILE`),
//! `WALFERRY_REDIS_CA_CERTIFICATES`, `WALFERRY_REDIS_RESPONSE_TIMEOUT`.

use std::time::Duration;

use walferry_queue::RedisSettings;

use crate::reader::{Reader, Section};
use crate::setting::Setting;
use crate::value;

static URL: Setting = Setting::new("redis.url", "Redis as a redis:// or rediss:// URL")
    .secret_url()
    .old(&[("", "REDIS_URL")]);
static CA_CERTIFICATES: Setting = Setting::new(
    "redis.ca_certificates",
    "file of certificates (PEM) to trust instead of the public ones, with rediss://",
);
static RESPONSE_TIMEOUT: Setting =
    Setting::new("redis.response_timeout", "how long one answer may take")
        .default_of(|| value::span_text(RedisSettings::new("").response_timeout));

pub(crate) const SETTINGS: &[&Setting] = &[&URL, &CA_CERTIFICATES, &RESPONSE_TIMEOUT];

#[derive(Clone, Debug)]
pub struct Redis {
    pub settings: RedisSettings,
}

impl Section for Redis {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let schemes = &["redis", "rediss"];
        let url = reader.needed_secret(
            &URL,
            value::secret_url(schemes, "redis://:PASSWORD@HOST:6379/0"),
        );
        let ca_certificates = reader.optional(&CA_CERTIFICATES, value::absolute_path);
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(60));
        let response_timeout = reader.value(&RESPONSE_TIMEOUT, value::duration(least, most));
        let mut settings = RedisSettings::new(url?);
        settings.ca_certificates = ca_certificates?;
        settings.response_timeout = response_timeout?;
        Some(Self { settings })
    }
}
