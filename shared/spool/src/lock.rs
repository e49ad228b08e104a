//! Who is at work on a temporary name.
//!
//! A process id says nothing across containers, so the sign of life is an exclusive `flock`
//! on the open file: the kernel drops it when its holder dies, however it dies, and a frozen
//! holder keeps it.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Takes the lock if nobody has it.
pub(crate) fn try_lock(file: impl AsFd) -> Result<bool, Errno> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the lock, waiting up to a second for a holder that is about to finish.
pub(crate) fn lock_soon(file: impl AsFd) -> Result<bool, Errno> {
    for _ in 0..100 {
        if try_lock(&file)? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(false)
}

pub(crate) fn unlock(file: impl AsFd) {
    // Closing the file would do the same: a failure changes nothing.
    let _ = rustix::fs::flock(file, FlockOperation::Unlock);
}
