//! A server that answers whatever a test wants, also what is no HTTP.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use walferry_store::{Repository, S3Settings};

use crate::servers::{open, settings};

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    /// Lower-case names.
    pub(crate) headers: Vec<(String, String)>,
}

pub(crate) enum Reply {
    /// The connection is kept.
    Answer(Vec<u8>),
    /// The connection is closed behind it.
    Last(Vec<u8>),
}

/// Dropped, it breaks all connections.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Fake {
    /// Reads each request to its end and gives it to `answer`.
    pub(crate) async fn answering(
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        let mut fake = Self::handling(move |stream| {
            Box::pin(converse(stream, Arc::clone(&seen), Arc::clone(&answer)))
        })
        .await;
        fake.requests = requests;
        fake
    }

    /// Leaves each connection to `handle`.
    pub(crate) async fn handling(
        handle: impl Fn(TcpStream) -> Boxed + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections: Arc<Mutex<usize>> = Arc::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                *count.lock().expect("a count") += 1;
                tasks.spawn(handle(stream));
            }
        });
        Self {
            address,
            requests: Arc::default(),
            connections,
            task,
        }
    }

    pub(crate) fn settings(&self) -> S3Settings {
        settings(&format!("http://{}", self.address), "bucket")
    }

    pub(crate) fn repository(&self) -> Arc<dyn Repository> {
        open(&self.settings())
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("the requests").clone()
    }

    pub(crate) fn connections(&self) -> usize {
        *self.connections.lock().expect("a count")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }
}

/// An answer with a body, as a server writes it.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// An S3 error.
pub(crate) fn error(status: &str, headers: &[(&str, &str)], code: &str, message: &str) -> Vec<u8> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>{message}</Message><RequestId>1</RequestId></Error>"
    );
    answer(status, headers, &body)
}

/// The same without its body, as a HEAD is answered.
pub(crate) fn head_only(mut answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    answer.truncate(end.expect("an end of the head") + 4);
    answer
}

async fn converse<A: Fn(&Request) -> Reply>(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<Request>>>,
    answer: Arc<A>,
) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().expect("the requests").push(request.clone());
        let (bytes, last) = match answer(&request) {
            Reply::Answer(bytes) => (bytes, false),
            Reply::Last(bytes) => (bytes, true),
        };
        if stream.write_all(&bytes).await.is_err() || last {
            return;
        }
    }
}

/// The next request, its body read and thrown away; `None` at the end of the connection.
pub(crate) async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let request = Request {
        method: first.next()?.to_owned(),
        target: first.next()?.to_owned(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
    };
    let length = request.header("content-length");
    let mut left: usize = length.map_or(0, |text| text.parse().expect("a length"));
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let most = left.min(buffer.len());
        match stream.read(&mut buffer[..most]).await {
            Ok(read) if read > 0 => left -= read,
            _ => return None,
        }
    }
    Some(request)
}
