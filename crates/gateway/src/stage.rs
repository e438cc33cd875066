//! What a connection goes through: TLS, finding out what it speaks, CONNECT, the life of a client.

use std::future::Future;
use std::pin::Pin;

/// A part of a connection's way. Each is a future of its own on the heap, which is gone when the
/// next one begins: a connection that waits for messages holds nothing of how it came here.
pub(crate) struct Stage(Pin<Box<dyn Future<Output = Option<Stage>> + Send>>);

impl Stage {
    /// `None` ends the connection.
    pub(crate) fn new(stage: impl Future<Output = Option<Self>> + Send + 'static) -> Self {
        Self(Box::pin(stage))
    }

    /// This one and all that follow it.
    pub(crate) async fn go(mut self) {
        while let Some(next) = self.0.await {
            self = next;
        }
    }
}
