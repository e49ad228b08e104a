use redis::{FromRedisValue, Script};

use crate::connection::Connection;
use crate::error::QueueError;
use crate::name::QueueName;

/// The queue's rules: every change of its state is one of these scripts, which
/// Redis runs whole or not at all.
pub(crate) struct Scripts {
    pub(crate) enqueue: Script,
    pub(crate) claim: Script,
    pub(crate) unclaim: Script,
    pub(crate) renew: Script,
    pub(crate) finish: Script,
    pub(crate) cancel: Script,
    pub(crate) kill: Script,
    pub(crate) retry: Script,
    pub(crate) pause: Script,
    pub(crate) stats: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        let script = |body: &str| Script::new(&[include_str!("scripts/common.lua"), body].concat());
        Self {
            enqueue: script(include_str!("scripts/enqueue.lua")),
            claim: script(include_str!("scripts/claim.lua")),
            unclaim: script(include_str!("scripts/unclaim.lua")),
            renew: script(include_str!("scripts/renew.lua")),
            finish: script(include_str!("scripts/finish.lua")),
            cancel: script(include_str!("scripts/cancel.lua")),
            kill: script(include_str!("scripts/kill.lua")),
            retry: script(include_str!("scripts/retry.lua")),
            pause: script(include_str!("scripts/pause.lua")),
            stats: script(include_str!("scripts/stats.lua")),
        }
    }
}

/// Runs one script for one queue.
pub(crate) async fn run<T: FromRedisValue>(
    connection: &Connection,
    script: &Script,
    queue: &QueueName,
    arguments: &[Vec<u8>],
) -> Result<T, QueueError> {
    connection
        .run(|mut redis| async move {
            let mut invocation = script.key(queue.hash_tag());
            for argument in arguments {
                invocation.arg(argument.as_slice());
            }
            invocation.invoke_async(&mut redis).await
        })
        .await
}

/// Builds the argument list of a script from anything that prints.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        [$($argument.to_string().into_bytes()),*]
    };
}
pub(crate) use arguments;
