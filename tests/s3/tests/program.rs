//! The server as a program: what it prints, what it keeps, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Killed if a test fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(root: &Path) -> (Program, serde_json::Value) {
    let child = Command::new(env!("CARGO_BIN_EXE_walferry-s3"))
        .arg("--root")
        .arg(root)
        .args(["--bucket", "one", "--bucket", "two"])
        .args(["--access-key", "key", "--secret-key", "secret"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut program = Program(child);
    let mut line = String::new();
    let out = program.0.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut line).expect("a line");
    (program, serde_json::from_str(&line).expect("JSON"))
}

#[test]
fn it_tells_its_endpoint_refuses_the_unsigned_and_ends_on_sigterm() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("made/by/it");
    let (mut program, ready) = start(&folder);
    assert_eq!(ready["buckets"], serde_json::json!(["one", "two"]));
    assert!(folder.join("two").is_dir());
    let endpoint = ready["endpoint"].as_str().expect("an endpoint");
    let address = endpoint.strip_prefix("http://").expect("plain HTTP");

    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET /one HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("AccessDenied"), "{answer}");

    let killed = Command::new("kill")
        .arg(program.0.id().to_string())
        .status();
    assert!(killed.expect("kill runs").success());
    assert!(program.0.wait().expect("its end").success());
    TcpStream::connect(address).expect_err("it is gone");
}
