use std::path::Path;
use std::process::Command;

use walferry_queue::{JobState, Outcome, Queue, QueueError, RedisSettings};

use crate::redis_server::{RedisServer, free_port};
use crate::world::{World, job, queue_on, quick};

/// A certificate authority `<name>.crt` and a certificate for 127.0.0.1 of it.
fn certificates(directory: &Path, name: &str) {
    let run = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .stderr(std::process::Stdio::null())
            .status()
            .expect("openssl must be installed");
        assert!(status.success(), "openssl {arguments}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    run(&format!(
        "req -x509 {key} -keyout {name}.key -out {name}.crt -days 2 -subj /CN={name}"
    ));
    run(&format!(
        "req {key} -keyout {name}-server.key -out {name}.csr -subj /CN=redis"
    ));
    std::fs::write(directory.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    run(&format!(
        "x509 -req -in {name}.csr -CA {name}.crt -CAkey {name}.key -CAcreateserial \
         -out {name}-server.crt -days 2 -extfile ext"
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_works_with_an_authority_of_ones_own_and_with_no_other() {
    let tls_port = free_port();
    let redis = RedisServer::start_with(|directory| {
        certificates(directory, "ours");
        certificates(directory, "other");
        let port = tls_port.to_string();
        let options = [
            ("--tls-port", port.as_str()),
            ("--tls-cert-file", "ours-server.crt"),
            ("--tls-key-file", "ours-server.key"),
            ("--tls-ca-cert-file", "ours.crt"),
            ("--tls-auth-clients", "no"),
        ];
        options
            .iter()
            .flat_map(|(option, value)| [(*option).into(), (*value).into()])
            .collect()
    });
    let over_tls = |authority: Option<&str>| {
        let mut settings = RedisSettings::new(format!("rediss://127.0.0.1:{tls_port}"));
        settings.ca_certificates = authority.map(|name| redis.directory.path().join(name));
        Queue::new(settings, "test-queue".parse().unwrap(), quick())
    };
    let trusted = over_tls(Some("ours.crt")).unwrap();
    for stranger in [Some("other.crt"), None] {
        let refused = over_tls(stranger).unwrap().enqueue(job("secret")).await;
        assert!(
            matches!(refused, Err(QueueError::Unreachable { .. })),
            "{refused:?}"
        );
    }
    let missing = over_tls(Some("missing.crt"));
    assert!(matches!(missing, Err(QueueError::Certificates { .. })));

    let queue = queue_on(&redis, quick());
    let world = World {
        redis,
        queue,
        leases_may_stay: false,
    };
    let id = trusted.enqueue(job("over-tls")).await.unwrap().id().clone();
    let worker = crate::world::Worker::start(
        &trusted,
        1,
        std::time::Duration::from_secs(5),
        |_, _| async { Outcome::Done },
    );
    world.until_state(&id, JobState::Done).await;
    worker.stop().await;
}
