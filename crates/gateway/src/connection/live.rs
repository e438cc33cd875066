//! A client, from CONNACK to its end.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use super::pump::Pump;
use crate::stage::Stage;

/// One allocation, with a second one for its timer. No `async fn`, whose state would hold more than
/// what it waits for.
pub(super) struct Live<S> {
    /// Gone when the last words begin.
    client: Option<(Pump, S)>,
    /// There is none while there is nothing to wait for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Live<S> {
    pub(super) fn new(pump: Pump, stream: S) -> Self {
        Self {
            client: Some((pump, stream)),
            timer: None,
        }
    }
}

impl<S> Future for Live<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = Option<Stage>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stage>> {
        let Self { client, timer } = &mut *self;
        let Some((pump, stream)) = client else {
            return Poll::Ready(None);
        };
        let end = ready!(pump.poll_drive(cx, stream, timer));
        let last = client.take().map(|(mut pump, mut stream)| {
            Stage::new(async move {
                pump.finish(end, &mut stream).await;
                None
            })
        });
        Poll::Ready(last)
    }
}
