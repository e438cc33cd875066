//! Work that waits for a disk, on threads of its own: one that hangs keeps no other part of the
//! daemon.

use std::sync::{Arc, LazyLock};

use tokio::sync::{Semaphore, oneshot};

/// Threads at once. Each outbox has one batch under way at most.
const THREADS: usize = 32;

static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(THREADS)));

/// Runs `work` on a thread of its own. `Err` says why it did not come to its end.
///
/// # Errors
/// There is no thread, or the work panicked.
pub async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let place = PLACES.clone().acquire_owned().await;
    let (tell, hear) = oneshot::channel();
    std::thread::Builder::new()
        .name("rule-action".into())
        .stack_size(512 * 1024)
        .spawn(move || {
            let _place = place;
            // Whoever asked may have stopped waiting.
            let _ = tell.send(work());
        })
        .map_err(|error| format!("no thread: {error}"))?;
    hear.await.map_err(|_| "it panicked".to_owned())
}
