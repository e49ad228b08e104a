//! A fixed number of threads for work that costs processor time: hashing,
//! packing, unpacking.
//!
//! `spawn_blocking` cannot be bounded to two threads and holds up exit; the async
//! runtime must not be blocked at all. So packing has threads of its own, and
//! what waits for them waits in a queue that costs nothing.

use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;

use crate::pack::Bench;

type Task = Box<dyn FnOnce(&mut Scratch) + Send>;

/// Buffers of one packing thread, reused from segment to segment, so that memory
/// follows the number of threads and not the number of segments.
#[derive(Default)]
pub struct Scratch {
    /// A piece of the uncompressed file.
    pub plain: Vec<u8>,
    /// What packing needs.
    pub bench: Bench,
}

/// A pool of packing threads. Cheap to clone; the threads end when the last clone is dropped.
#[derive(Clone)]
pub struct PackPool {
    tasks: Arc<Mutex<mpsc::Sender<Task>>>,
    threads: usize,
}

/// The task panicked or its thread has gone.
#[derive(Debug, thiserror::Error)]
#[error("a packing thread ended before its task was done")]
pub struct PoolGone;

impl PackPool {
    /// Starts `threads` threads (at least one).
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let (sender, receiver) = mpsc::channel::<Task>();
        let receiver = Arc::new(Mutex::new(receiver));
        for n in 0..threads {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new()
                .name(format!("pack-{n}"))
                .spawn(move || work(&receiver))?;
        }
        Ok(Self {
            tasks: Arc::new(Mutex::new(sender)),
            threads,
        })
    }

    /// How many threads there are.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `task` on the next free thread. When the returned future is dropped the
    /// task still runs to its end, so long tasks look at a cancellation token.
    ///
    /// # Errors
    /// [`PoolGone`] when the task panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Scratch) -> T + Send + 'static,
    ) -> Result<T, PoolGone> {
        let (reply, answer) = oneshot::channel();
        let boxed: Task = Box::new(move |scratch| {
            // Nobody waits any more when sending fails: the caller was cancelled.
            let _ = reply.send(task(scratch));
        });
        self.tasks
            .lock()
            .map_err(|_| PoolGone)?
            .send(boxed)
            .map_err(|_| PoolGone)?;
        answer.await.map_err(|_| PoolGone)
    }
}

fn work(receiver: &Mutex<mpsc::Receiver<Task>>) {
    let mut scratch = Scratch::default();
    loop {
        let task = match receiver.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(task) = task else { return };
        // A panic costs the segment an attempt, not the worker a thread. The scratch
        // buffers may be half written, so they are made anew.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| task(&mut scratch)));
        if outcome.is_err() {
            scratch = Scratch::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_tasks_run_at_once_as_there_are_threads_and_none_on_the_runtime() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        const THREADS: usize = 2;
        let pool = PackPool::start(THREADS).expect("threads can be started");
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        // The first tasks meet here: with one thread they never would.
        let meeting = Arc::new(std::sync::Barrier::new(THREADS));
        let tasks = (0..4 * THREADS).map(|task| {
            let (pool, running) = (pool.clone(), Arc::clone(&running));
            let (most, meeting) = (Arc::clone(&most), Arc::clone(&meeting));
            async move {
                pool.run(move |_| {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    if task < THREADS {
                        meeting.wait();
                    }
                    running.fetch_sub(1, Ordering::SeqCst);
                    std::thread::current().name().map(str::to_owned)
                })
                .await
                .expect("no task panicked")
            }
        });
        let names = futures::future::join_all(tasks).await;
        assert_eq!(most.load(Ordering::SeqCst), THREADS);
        for name in names {
            let name = name.expect("packing threads have names");
            assert!(["pack-0", "pack-1"].contains(&name.as_str()), "{name}");
        }
    }

    #[tokio::test]
    async fn a_panic_in_a_task_does_not_cost_the_thread() {
        let pool = PackPool::start(1).expect("threads can be started");
        assert!(pool.run(|_| panic!("on purpose")).await.is_err());
        assert_eq!(pool.run(|_| 7).await.expect("the thread still works"), 7);
    }
}
