//! Row ids, each a type of its own: a directory's id is not a file's.

use std::fmt;

use serde::Serialize;

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub(crate) $inner);

        impl $name {
            /// The number, for logs and for `--json`.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

row_id!(ClusterId, i64);
row_id!(PrefixId, i64);
row_id!(DirectoryId, i64);
row_id!(FileId, i64);
row_id!(HoldId, i64);
row_id!(BaseId, i64);
row_id!(
    /// Fencing token of a run that takes a base: raised by every run of the cluster.
    BaseRun,
    i64
);
row_id!(
    /// Fencing token of a claim: raised by every claim of the file.
    Attempt,
    i32
);

/// One claim of one file: what every write of that claim repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClaimToken {
    pub file: FileId,
    pub attempt: Attempt,
}

impl fmt::Display for ClaimToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.file, self.attempt)
    }
}
