//! MQTT in WebSocket's binary frames (MQTT 3.1.1 and 5, chapter 6) as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::dial::Stream as Way;
use super::{Ended, Layer};
use crate::endpoint::Endpoint;

/// A frame's payload at most, in bytes: servers limit it.
const FRAME: usize = 16 * 1024;

pub(super) struct WebSocket {
    inner: WebSocketStream<Box<dyn Way>>,
    /// Of the last frame, not yet read.
    rest: Bytes,
}

/// Asks for MQTT.
pub(super) async fn open(stream: Box<dyn Way>, endpoint: &Endpoint) -> Result<WebSocket, Ended> {
    let layer = Layer::WebSocket;
    // Scheme and host are for the request's head alone: the way is there.
    let uri = format!("ws://{}{}", endpoint.authority(), endpoint.path);
    let uri = uri
        .parse()
        .map_err(|_| Ended::refused(Layer::Settings, format!("{uri}: no URL")))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("mqtt");
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((inner, _)) => Ok(WebSocket {
            inner,
            rest: Bytes::new(),
        }),
        Err(Error::Http(answer)) => {
            let status = answer.status();
            let text = format!("the upstream opens no WebSocket: HTTP status {status}");
            if status.is_client_error() && status.as_u16() != 429 {
                return Err(Ended::refused(layer, text));
            }
            Err(Ended::lost(layer, text))
        }
        Err(Error::Protocol(error)) => Err(Ended::refused(
            layer,
            format!("the upstream opens no WebSocket for MQTT: {error}"),
        )),
        Err(error) => Err(Ended::lost(layer, error.to_string())),
    }
}

fn broken(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other),
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(data))) => self.rest = data,
                // MQTT-6.0.0-1: anything but binary ends the connection.
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("the upstream sends text frames")));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                // Pings are answered by themselves.
                Some(Ok(_)) => {}
                Some(Err(Error::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
            }
        }
        let part = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..part]);
        self.rest.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = Pin::new(&mut self.inner);
        ready!(inner.as_mut().poll_ready(cx)).map_err(broken)?;
        let part = data.get(..FRAME).unwrap_or(data);
        let frame = Message::Binary(Bytes::copy_from_slice(part));
        inner.start_send(frame).map_err(broken)?;
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(broken)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(broken(error))),
        }
    }
}
