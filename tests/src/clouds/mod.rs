//! Clouds: an S3 server that checks signatures, a bucket in it that is this
//! world's alone, and a fault proxy in front.

mod bucket;
mod s3s;
mod seaweed;

use std::path::Path;

use tokio::runtime::Handle;

pub use bucket::{Answer, Bucket, Object, Version};

use crate::ports::Port;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::sigv4::Credentials;

/// Which S3 server stands for a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SeaweedFS: another's code, atomic conditional PUT, versioned buckets.
    SeaweedFs,
    /// Our embedded server on s3s-fs: starts at once.
    S3s,
}

/// One cloud of a world.
#[derive(Debug)]
pub struct Cloud {
    name: String,
    kind: Kind,
    bucket: Bucket,
    proxy: Proxy,
    server: Process,
    _ports: Vec<Port>,
}

impl Cloud {
    /// Starts a server in `<folder>/<name>`, makes a bucket, and a proxy.
    pub fn start(
        name: &str,
        kind: Kind,
        versioned: bool,
        folder: &Path,
        runtime: &Handle,
    ) -> Cloud {
        let credentials = Credentials {
            id: format!("id-of-{name}"),
            secret: format!("secret-of-{name}-0123456789"),
            region: "us-east-005".into(),
        };
        let bucket_name = format!("bucket-{name}");
        let folder_of_cloud = folder.join(name);
        crate::scratch::make(&folder_of_cloud, 0o755);
        let logs = folder.join("logs");
        let (server, address, ports) = match kind {
            Kind::SeaweedFs => seaweed::start(name, &folder_of_cloud, &logs, &credentials),
            Kind::S3s => s3s::start(name, &folder_of_cloud, &logs, &credentials, &bucket_name),
        };
        let bucket = Bucket::new(address, &bucket_name, credentials.clone(), runtime.clone());
        let mut cloud = Cloud {
            name: name.into(),
            kind,
            bucket,
            proxy: Proxy::start(address, credentials, runtime),
            server,
            _ports: ports,
        };
        cloud.prepare(versioned);
        cloud
    }

    /// The repository's name: `r2`, `b2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server behind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The bucket, seen past the proxy: what the cloud really holds.
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The proxy, which is all that walferry ever sees.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The URL for walferry: the proxy's.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// The access key and secret.
    pub fn credentials(&self) -> &Credentials {
        self.bucket.credentials()
    }

    /// The server's process.
    pub fn server(&mut self) -> &mut Process {
        &mut self.server
    }

    /// The end of the server's log.
    pub fn report(&self, lines: usize) -> String {
        self.server.report(lines)
    }

    fn prepare(&mut self, versioned: bool) {
        let server = &mut self.server;
        let bucket = &self.bucket;
        crate::eventually(&format!("{} has a bucket", self.name), || {
            assert!(
                server.running(),
                "the S3 server ended:\n{}",
                server.report(30)
            );
            bucket.create()
        });
        if versioned {
            self.bucket.make_versioned();
        }
        // A server that takes objects, and not only requests, is ready.
        crate::eventually(&format!("{} takes an object", self.name), || {
            let answer = self.bucket.request("PUT", "ready/probe", "", b"ready")?;
            crate::wait::is(
                answer.status == 200,
                format!("{}: {}", answer.status, answer.text()),
            )
        });
        self.bucket.delete_all_versions("ready/probe");
    }
}
