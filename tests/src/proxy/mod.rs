//! A proxy of our own in front of each cloud: counts, delays, cuts and lies.
//!
//! It speaks HTTP/1.1 and forwards requests with every header as it came, above
//! all `Host`, which the signature covers: the cloud behind still checks that
//! the secret is right.

mod cut;
mod fault;
mod flip;
mod forward;
mod gate;
mod record;
mod resign;
mod serve;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::watch;

pub use fault::{Fault, Rule};
pub use gate::Gate;
pub use record::Record;

use crate::ports::Port;
use crate::sigv4::Credentials;

/// A proxy in front of one S3 server.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    state: Arc<State>,
    runtime: Handle,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    credentials: Credentials,
    rules: Mutex<Vec<Rule>>,
    gates: Mutex<Vec<Gate>>,
    records: Mutex<Vec<Record>>,
    lies: Mutex<BTreeMap<String, flip::Lie>>,
    /// Whether somebody listens.
    open: watch::Sender<bool>,
    /// Raised whenever the rules change: blackholed requests end then, delayed ones go on.
    changes: watch::Sender<u64>,
}

impl Proxy {
    /// Starts a proxy in front of `upstream`. `credentials` serve
    /// [`Fault::FlipStored`] alone.
    pub fn start(upstream: SocketAddr, credentials: Credentials, runtime: &Handle) -> Proxy {
        let proxy = Proxy {
            port: Port::take(),
            state: Arc::new(State {
                upstream,
                credentials,
                rules: Mutex::default(),
                gates: Mutex::default(),
                records: Mutex::default(),
                lies: Mutex::default(),
                open: watch::Sender::new(true),
                changes: watch::Sender::new(0),
            }),
            runtime: runtime.clone(),
        };
        proxy
            .runtime
            .spawn(serve::listen(proxy.address(), proxy.state.clone()));
        proxy.await_listener(true);
        proxy
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port.number()).into()
    }

    /// From now on this happens, and nothing else. A request that is under way
    /// keeps what it met at its start, except that a refusal cuts it and that a
    /// blackhole's end cuts those in the hole.
    pub fn fault(&self, rule: impl Into<Rule>) {
        self.faults([rule.into()]);
    }

    /// From now on these rules hold; the first that fits a request strikes it.
    pub fn faults(&self, rules: impl IntoIterator<Item = Rule>) {
        let rules: Vec<Rule> = rules.into_iter().collect();
        let open = !rules.iter().any(|rule| rule.fault == Fault::Refuse);
        *self.state.rules.lock().expect("no panic under the lock") = rules;
        self.state.changes.send_modify(|change| *change += 1);
        self.state.open.send_replace(open);
        self.await_listener(open);
    }

    /// From now on everything passes.
    pub fn pass(&self) {
        self.faults([]);
    }

    /// Holds back requests of this method whose key contains `key`, before they
    /// reach the cloud, until the gate is opened: a barrier, where a test would
    /// otherwise sleep.
    pub fn hold(&self, method: &str, key: &str) -> Gate {
        let gate = Gate::new(method.parse().expect("an HTTP method"), key);
        self.state
            .gates
            .lock()
            .expect("no panic under the lock")
            .push(gate.clone());
        gate
    }

    /// Every request so far.
    pub fn records(&self) -> Vec<Record> {
        self.state
            .records
            .lock()
            .expect("no panic under the lock")
            .clone()
    }

    /// How often each object was written whole, and the cloud said so.
    pub fn writes(&self) -> BTreeMap<String, usize> {
        record::writes(&self.state.records.lock().expect("no panic under the lock"))
    }

    /// How many requests of this method came for keys that contain `key`.
    pub fn count(&self, method: &str, key: &str) -> usize {
        self.state
            .records
            .lock()
            .expect("no panic under the lock")
            .iter()
            .filter(|record| record.method.as_str() == method && record.key.contains(key))
            .count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.state
            .records
            .lock()
            .expect("no panic under the lock")
            .clear();
    }

    fn await_listener(&self, open: bool) {
        crate::eventually("the proxy's port is as it was set", || {
            let connects = std::net::TcpStream::connect(self.address()).is_ok();
            crate::wait::is(connects == open, connects)
        });
    }
}
