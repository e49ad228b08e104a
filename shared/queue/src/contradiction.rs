/// Settings of a queue that contradict each other; the message names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("queue settings: {0}")]
pub struct Contradiction(pub(crate) &'static str);
