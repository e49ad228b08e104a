use crate::name::QueueName;

/// Who works. The id is new with every start: a restarted worker must not be
/// taken for the one that crashed and still has leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerIdentity {
    pub id: String,
    pub host: String,
    pub pid: u32,
    /// Every queue that this process serves, for the list of workers.
    pub queues: Vec<String>,
    /// What it has at hand that others may not, in the program's own words.
    pub serves: Vec<String>,
}

impl WorkerIdentity {
    /// This process on this host.
    pub fn of_this_process(queues: &[QueueName]) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .map(|name| name.trim().to_owned())
            .ok()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "unknown".to_owned());
        let pid = std::process::id();
        Self {
            id: format!("{host}-{pid}-{:08x}", fastrand::u32(..)),
            host,
            pid,
            queues: queues.iter().map(ToString::to_string).collect(),
            serves: Vec::new(),
        }
    }
}
