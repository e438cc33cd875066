//! What a connection goes through: TLS, finding out what it speaks, CONNECT, the life of a client.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A part of a connection's way. Each is a future of its own on the heap, which is gone when the
/// next one begins: a connection that waits for messages holds nothing of how it came here.
pub(crate) struct Stage(Pin<Box<dyn Future<Output = Option<Stage>> + Send>>);

impl Stage {
    /// `None` ends the connection.
    pub(crate) fn new(stage: impl Future<Output = Option<Self>> + Send + 'static) -> Self {
        Self(Box::pin(stage))
    }
}

/// This one and all that follow it. No `async fn`, which would hold a stage twice: with more than 24
/// bytes of its own a task of tokio takes 256 instead of 128.
impl Future for Stage {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(next) = ready!(self.0.as_mut().poll(cx)) {
            *self = next;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_task_is_small() {
        assert!(size_of::<Stage>() <= 24);
    }

    #[tokio::test]
    async fn one_stage_follows_another() {
        let (said, mut heard) = tokio::sync::mpsc::channel(3);
        let last = said.clone();
        Stage::new(async move {
            said.send(1).await.ok()?;
            Some(Stage::new(async move {
                tokio::task::yield_now().await;
                last.send(2).await.ok()?;
                None
            }))
        })
        .await;
        assert_eq!((heard.recv().await, heard.recv().await), (Some(1), Some(2)));
        assert_eq!(heard.recv().await, None);
    }
}
