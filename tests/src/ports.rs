//! Free loopback ports for servers that cannot choose one themselves. A lock
//! file per port keeps two tests, in whatever process, from taking the same.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A port that is this world's while the value lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port below the ephemeral range, where no outgoing connection
    /// can be in its way when a server comes back to it later.
    pub(crate) fn take() -> Port {
        let folder = Path::new("/tmp/walferry-ports");
        let _ = std::fs::create_dir_all(folder);
        let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o1777));
        for _ in 0..1000 {
            let number = fastrand::u16(20_000..32_000);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(number.to_string()));
            let Ok(lock) = file else { continue };
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Port {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free port between 20000 and 32000 on 127.0.0.1");
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
