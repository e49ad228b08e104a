//! A barrier for requests.

use std::sync::Arc;

use http::Method;
use tokio::sync::watch;

/// Requests that wait for the test. Opened when dropped by the test for good
/// measure would hide mistakes: open it with [`Gate::open`].
#[derive(Debug, Clone)]
pub struct Gate {
    method: Method,
    key: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    pub(super) fn new(method: Method, key: &str) -> Gate {
        Gate {
            method,
            key: key.into(),
            inner: Arc::new(Inner {
                open: watch::Sender::new(false),
                waiting: watch::Sender::new(0),
            }),
        }
    }

    /// Waits until at least so many requests stand at the gate at once.
    #[track_caller]
    pub fn await_waiting(&self, count: usize) {
        crate::eventually("requests stand at the gate", || {
            let waiting = self.waiting();
            crate::wait::is(waiting >= count, waiting)
        });
    }

    /// How many stand there now.
    pub fn waiting(&self) -> usize {
        *self.inner.waiting.borrow()
    }

    /// Lets everybody pass, now and later.
    pub fn open(&self) {
        self.inner.open.send_replace(true);
    }

    pub(super) fn holds(&self, method: &Method, key: &str) -> bool {
        self.method == *method && key.contains(&self.key) && !*self.inner.open.borrow()
    }

    /// Stands at the gate until it opens, or until the client goes away and
    /// this future is dropped.
    pub(super) async fn pass(&self) {
        struct Standing<'a>(&'a watch::Sender<usize>);
        impl Drop for Standing<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|waiting| *waiting -= 1);
            }
        }
        self.inner.waiting.send_modify(|waiting| *waiting += 1);
        let _standing = Standing(&self.inner.waiting);
        let mut open = self.inner.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
}
