//! Memory of packed segments goes back to the operating system when they are done.
//!
//! glibc keeps it: once it has freed a block of some MiB, the next of that size come from its
//! heaps, of which each keeps up to twice as much (mallopt(3), `M_MMAP_THRESHOLD`: the dynamic
//! threshold). A worker then grows by 20 MB for each packing thread and never shrinks. A fixed
//! threshold ends that, and the environment is where glibc reads it from without unsafe code.
//! Another libc ignores the variable.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// glibc's name, with its underscore at the end.
const THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
/// Bytes. What is smaller is kept for reuse: requests and rows.
const FIXED: &str = "262144";

/// Starts this program anew in the same process, once, with a fixed threshold. Whoever has
/// set one is not overruled; where it fails the program goes on and takes more memory.
#[expect(
    clippy::disallowed_methods,
    reason = "glibc's variable and no setting of walferry's"
)]
pub fn fix_threshold() {
    if std::env::var_os(THRESHOLD).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    // Returns only if it failed: nothing was begun, so nothing is left behind.
    let _failed = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env(THRESHOLD, FIXED)
        .exec();
}
