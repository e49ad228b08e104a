//! Building a world: servers start side by side.

use std::collections::BTreeMap;

use super::{World, variable};
use crate::binaries;
use crate::clouds::{Cloud, Kind};
use crate::originals::Originals;
use crate::postgres::{Postgres, Settings};
use crate::redis_server::RedisServer;
use crate::scratch::{self, Scratch};
use crate::users::{SHARED_GROUP, User};

/// The catalog's database.
pub(super) const CATALOG: &str = "walferry";

/// What a world is made of.
#[derive(Debug)]
pub struct WorldBuilder {
    clouds: Vec<(String, Kind, bool)>,
    redis: bool,
    catalog: bool,
    migrated: bool,
    user: User,
    settings: BTreeMap<String, String>,
}

impl Default for WorldBuilder {
    fn default() -> WorldBuilder {
        WorldBuilder {
            clouds: vec![
                ("r2".into(), Kind::SeaweedFs, false),
                ("b2".into(), Kind::S3s, false),
            ],
            redis: true,
            catalog: true,
            migrated: true,
            user: User::Walferry,
            settings: BTreeMap::new(),
        }
    }
}

impl WorldBuilder {
    /// The servers behind `r2` and `b2`.
    pub fn clouds(mut self, r2: Kind, b2: Kind) -> WorldBuilder {
        self.clouds = vec![("r2".into(), r2, false), ("b2".into(), b2, false)];
        self
    }

    /// Both clouds on the embedded server, which starts at once: for tests that
    /// are about something else.
    pub fn quick_clouds(self) -> WorldBuilder {
        self.clouds(Kind::S3s, Kind::S3s)
    }

    /// `b2` is a versioned bucket, as Backblaze's are (on SeaweedFS).
    pub fn versioned_b2(mut self) -> WorldBuilder {
        self.clouds = vec![
            ("r2".into(), Kind::S3s, false),
            ("b2".into(), Kind::SeaweedFs, true),
        ];
        self
    }

    /// No clouds.
    pub fn no_clouds(mut self) -> WorldBuilder {
        self.clouds.clear();
        self
    }

    /// No Redis.
    pub fn no_redis(mut self) -> WorldBuilder {
        self.redis = false;
        self
    }

    /// No catalog.
    pub fn no_catalog(mut self) -> WorldBuilder {
        self.catalog = false;
        self
    }

    /// Nothing but an archive directory: for `push`.
    pub fn bare(self) -> WorldBuilder {
        self.no_clouds().no_redis().no_catalog()
    }

    /// The catalog's schema is left to the test.
    pub fn unmigrated(mut self) -> WorldBuilder {
        self.migrated = false;
        self
    }

    /// Who runs walferry; a user of its own unless said otherwise.
    pub fn walferry_as(mut self, user: User) -> WorldBuilder {
        self.user = user;
        self
    }

    /// A setting for all programs, by its name in the configuration.
    pub fn setting(mut self, name: &str, value: &str) -> WorldBuilder {
        self.settings.insert(variable(name), value.into());
        self
    }

    /// Starts it all.
    #[track_caller]
    pub fn build(self) -> World {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let handle = runtime.handle();
        let scratch = Scratch::new();
        let folder = scratch.path();
        scratch::make(&folder.join("logs"), 0o755);
        scratch::make(&folder.join("health"), 0o777);
        binaries::publish(&folder.join("bin"));
        let archive = folder.join("archive");
        scratch::make(&archive, 0o755);
        User::Postgres.own(&archive, Some(SHARED_GROUP));
        scratch::set_mode(&archive, 0o2770);

        let (clouds, redis, catalog) = std::thread::scope(|scope| {
            let clouds: Vec<_> = self
                .clouds
                .iter()
                .map(|(name, kind, versioned)| {
                    scope.spawn(|| Cloud::start(name, *kind, *versioned, folder, handle))
                })
                .collect();
            let redis = self
                .redis
                .then(|| scope.spawn(|| RedisServer::start(folder)));
            let catalog = self.catalog.then(|| {
                scope.spawn(|| {
                    let settings = Settings::new("catalog").option("max_wal_size", "256MB");
                    let server = Postgres::start(&settings, folder, handle);
                    server.execute(&format!("CREATE DATABASE {CATALOG}"));
                    server
                })
            });
            (
                clouds
                    .into_iter()
                    .map(|cloud| joined(cloud.join()))
                    .collect::<Vec<_>>(),
                redis.map(|redis| joined(redis.join())),
                catalog.map(|catalog| joined(catalog.join())),
            )
        });

        let mut settings = environment(&clouds, redis.as_ref(), catalog.as_ref());
        settings.insert("WAL_ARCHIVE_DIR".into(), archive.display().to_string());
        settings.extend(self.settings);
        let world = World {
            programs: Vec::new().into(),
            clouds,
            redis,
            catalog,
            originals: Originals::default(),
            settings,
            leftover_claims: false,
            user: self.user,
            clock: None,
            scratch,
            runtime,
        };
        if self.catalog && self.migrated {
            world.cli(&["catalog", "migrate"]).ok();
        }
        world
    }
}

/// Hands on the panic of a server that did not start.
fn joined<T>(started: std::thread::Result<T>) -> T {
    started.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The old system's names, which alone have to be enough to run.
fn environment(
    clouds: &[Cloud],
    redis: Option<&RedisServer>,
    catalog: Option<&Postgres>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        variables.insert(name.to_owned(), value);
    };
    for cloud in clouds {
        let keys = cloud.credentials();
        let bucket = cloud.bucket().name().to_owned();
        match cloud.name() {
            "r2" => {
                set("CLOUDFLARE_R2_ENDPOINT_URL", cloud.endpoint());
                set("CLOUDFLARE_R2_ACCESS_KEY_ID", keys.id.clone());
                set("CLOUDFLARE_R2_SECRET_ACCESS_KEY", keys.secret.clone());
                set("CLOUDFLARE_R2_BUCKET", bucket);
            }
            "b2" => {
                set("BACKBLAZE_B2_ENDPOINT_URL", cloud.endpoint());
                set("BACKBLAZE_B2_KEY_ID", keys.id.clone());
                set("BACKBLAZE_B2_APPLICATION_KEY", keys.secret.clone());
                set("BACKBLAZE_B2_BUCKET", bucket);
                set("BACKBLAZE_B2_REGION", keys.region.clone());
            }
            other => panic!("the old system knew no cloud `{other}`"),
        }
    }
    if let Some(redis) = redis {
        set("REDIS_URL", redis.url());
    }
    if let Some(catalog) = catalog {
        set("DATABASE_URL", catalog.url(CATALOG));
    }
    variables
}
