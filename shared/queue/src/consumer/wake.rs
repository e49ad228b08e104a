use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::Notify;

use super::shared::Shared;

/// Wakes an idle claimer when somebody enqueues. Nothing depends on it: without a
/// subscription jobs are picked up by polling.
pub(super) async fn listen(shared: Arc<Shared>, wake: Arc<Notify>) {
    tokio::select! {
        () = shared.drain.cancelled() => {}
        () = shared.closed.cancelled() => {}
        () = listen_for_ever(&shared, &wake) => {}
    }
}

async fn listen_for_ever(shared: &Shared, wake: &Notify) {
    let channel = shared.queue.key("wake");
    loop {
        if let Ok(subscription) = shared.queue.connection.subscribe(&channel).await {
            let mut messages = subscription.into_on_message();
            // Silence for a minute: the connection may be dead without a reset.
            while let Ok(Some(_)) =
                tokio::time::timeout(Duration::from_secs(60), messages.next()).await
            {
                wake.notify_one();
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
