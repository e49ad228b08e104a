//! A TCP proxy that cuts a connection at a word: for the ways to Redis and to the catalog.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::ports::Port;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The order with the word does not arrive.
    BeforeOrder,
    /// The order with the word is carried out, and its answer is lost.
    AfterOrder,
    /// The answer with the word is lost.
    Answer,
}

/// A proxy in front of one server. It passes everything until it is told to cut.
#[derive(Debug)]
pub struct Wire {
    port: Port,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    rule: Mutex<Option<Rule>>,
}

#[derive(Debug)]
struct Rule {
    cut: Cut,
    word: Vec<u8>,
    left: usize,
}

impl Wire {
    /// Starts one in front of `upstream`.
    #[track_caller]
    pub fn start(upstream: SocketAddr, runtime: &Handle) -> Wire {
        let port = Port::take();
        let state = Arc::<State>::default();
        let listener = runtime
            .block_on(TcpListener::bind(("127.0.0.1", port.number())))
            .expect("listen on a port of our own");
        let shared = Arc::clone(&state);
        let listening = runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, upstream, Arc::clone(&shared)));
            }
        });
        Wire {
            port,
            state,
            listening,
        }
    }

    /// The TCP port that clients connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Cuts the next so many connections at `word`.
    pub fn cut(&self, cut: Cut, word: &str, times: usize) {
        *self.rule() = Some(Rule {
            cut,
            word: word.into(),
            left: times,
        });
    }

    /// How many of these cuts are yet to come.
    pub fn left(&self) -> usize {
        self.rule().as_ref().map_or(0, |rule| rule.left)
    }

    fn rule(&self) -> std::sync::MutexGuard<'_, Option<Rule>> {
        self.state.rule()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl State {
    fn rule(&self) -> std::sync::MutexGuard<'_, Option<Rule>> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether these bytes are where a connection is to be cut; counts it.
    fn strikes(&self, order: bool, bytes: &[u8]) -> Option<Cut> {
        let mut rule = self.rule();
        let rule = rule.as_mut().filter(|rule| rule.left > 0)?;
        let way = (rule.cut == Cut::Answer) != order;
        let found = bytes
            .windows(rule.word.len())
            .any(|window| window == rule.word);
        if !way || !found {
            return None;
        }
        rule.left -= 1;
        Some(rule.cut)
    }
}

async fn carry(client: TcpStream, upstream: SocketAddr, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let cut = CancellationToken::new();
    let at_the_answer = AtomicBool::new(false);
    let orders = async {
        let mut buffer = [0; 65536];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            match state.strikes(true, &buffer[..read]) {
                Some(Cut::BeforeOrder) => return cut.cancel(),
                Some(_) => at_the_answer.store(true, Ordering::SeqCst),
                None => {}
            }
            if to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        cut.cancel();
    };
    let answers = async {
        let mut buffer = [0; 65536];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let here = state.strikes(false, &buffer[..read]).is_some();
            if here || at_the_answer.load(Ordering::SeqCst) {
                break;
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        cut.cancel();
    };
    tokio::select! {
        () = cut.cancelled() => {}
        ((), ()) = async { tokio::join!(orders, answers) } => {}
    }
}
