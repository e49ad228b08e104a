//! SeaweedFS: master, volume server, filer and S3 gateway in one process.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::environment::weed;
use crate::ports::Port;
use crate::process::Process;
use crate::sigv4::Credentials;

pub(super) fn start(
    name: &str,
    folder: &Path,
    logs: &Path,
    credentials: &Credentials,
) -> (Process, SocketAddr, Vec<Port>) {
    let weed = weed();
    assert!(
        weed.exists(),
        "SeaweedFS is not at {}: run tests/install, or set WALFERRY_WEED",
        weed.display()
    );
    let data = folder.join("data");
    crate::scratch::make(&data, 0o755);
    let identities = serde_json::json!({ "identities": [{
        "name": "walferry",
        "credentials": [{ "accessKey": credentials.id, "secretKey": credentials.secret }],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    let config = folder.join("s3.json");
    std::fs::write(&config, identities.to_string()).expect("write SeaweedFS's identities");

    let ports: Vec<Port> = (0..8).map(|_| Port::take()).collect();
    let flags = [
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "s3.port.grpc",
        "s3.port",
    ];
    let mut command = Command::new(weed);
    command
        .current_dir(folder)
        .arg("server")
        .arg(format!("-dir={}", data.display()));
    for (flag, port) in flags.iter().zip(&ports) {
        command.arg(format!("-{flag}={}", port.number()));
    }
    command
        .args([
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.iam=false",
        ])
        .args([
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-master.telemetry=false",
            "-volume.max=200",
        ])
        .args(["-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"])
        .arg(format!("-s3.config={}", config.display()))
        .arg(format!(
            "-filer.localSocket={}",
            folder.join("filer.sock").display()
        ))
        .arg(format!(
            "-s3.localSocket={}",
            folder.join("s3.sock").display()
        ));
    let address = ([127, 0, 0, 1], ports[7].number()).into();
    (Process::spawn(name, logs, &mut command), address, ports)
}
