//! When segments appeared in the archive directory and went again, told by inotify.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

/// When a segment's file got its name in the directory, and when it lost it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) renamed: SystemTime,
    pub(crate) gone: Option<SystemTime>,
}

/// A watch on a directory, for as long as the process lives.
pub(crate) struct Watch(Arc<Mutex<HashMap<String, Life>>>);

impl Watch {
    pub(crate) fn start(directory: &Path) -> Watch {
        let queue = inotify::init(CreateFlags::CLOEXEC).expect("an inotify queue");
        let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
        inotify::add_watch(&queue, directory, flags).expect("watch the archive directory");
        let lives = Arc::new(Mutex::new(HashMap::new()));
        let seen = lives.clone();
        std::thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut events = inotify::Reader::new(queue, &mut buffer);
            while let Ok(event) = events.next() {
                let at = SystemTime::now();
                let name = event.file_name().map(|name| name.to_string_lossy());
                // Temporary names have other lengths.
                if let Some(name) = name.filter(|name| name.len() == 24) {
                    note(&seen, &name, event.events(), at);
                }
            }
        });
        Watch(lives)
    }

    /// What was seen so far, by name.
    pub(crate) fn seen(&self) -> HashMap<String, Life> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn note(seen: &Mutex<HashMap<String, Life>>, name: &str, what: ReadFlags, at: SystemTime) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if what.contains(ReadFlags::MOVED_TO) {
        let before = seen.insert(
            name.to_owned(),
            Life {
                renamed: at,
                gone: None,
            },
        );
        assert!(before.is_none(), "{name} came twice");
    } else if let Some(life) = seen.get_mut(name) {
        life.gone = Some(at);
    }
}
