//! The bytes of MQTT in WebSocket frames, as a stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, Deframer, End, Head};

/// Slices written at once, the head among them.
const SLICES: usize = 32;

/// Reads data out of a client's frames and writes data into frames of its own, one for each write:
/// what is offered to a write has to be written, in as many writes as it takes.
pub(crate) struct Stream<S> {
    io: S,
    /// Frames that came with the handshake.
    early: Bytes,
    deframer: Deframer,
    /// The head of the frame that is being written, and how much of it is left.
    head: Head,
    head_left: usize,
    /// How much of its payload is left.
    payload_left: usize,
    /// A control frame that is being written.
    control: Bytes,
    /// The close frame is said, or about to be: nothing comes behind it.
    closing: bool,
}

impl<S> Stream<S> {
    /// Over a connection whose handshake is done; `early` came behind it.
    pub(crate) fn new(io: S, early: Bytes, max_message: u64) -> Self {
        Self {
            io,
            early,
            deframer: Deframer::new(max_message),
            head: Head::default(),
            head_left: 0,
            payload_left: 0,
            control: Bytes::new(),
            closing: false,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    fn is_between_frames(&self) -> bool {
        self.head_left == 0 && self.payload_left == 0
    }

    /// Writes what is to be said about frames, between two of them.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_between_frames() {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.control.is_empty() {
                let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.control))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.control.advance(n);
            }
            if self.closing {
                return Poll::Ready(Ok(()));
            }
            match self.deframer.take_pong() {
                Some(payload) => self.control = frame::pong(&payload).into(),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Answers a ping now if the socket takes it, otherwise when something is written or read next.
    fn answer_pings(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.deframer.has_pong() || !self.control.is_empty() {
            if let Poll::Ready(done) = self.poll_control(cx) {
                done?;
                if let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Writes of `bufs` what belongs to the frame that is begun, and begins one where there is none.
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(self.poll_control(cx))?;
        if self.is_between_frames() {
            let offered = bufs.iter().map(|buf| buf.len()).sum();
            if offered == 0 {
                return Poll::Ready(Ok(0));
            }
            self.head = Head::binary(offered);
            self.head_left = self.head.as_bytes().len();
            self.payload_left = offered;
        }
        loop {
            let written = ready!(self.poll_part(cx, bufs))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let head = written.min(self.head_left);
            self.head_left -= head;
            self.payload_left -= written - head;
            if written > head {
                return Poll::Ready(Ok(written - head));
            }
        }
    }

    /// One write of what is left of the head, with what follows it.
    fn poll_part(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let head = self.head.as_bytes();
        let head = &head[head.len() - self.head_left..];
        let mut left = self.payload_left;
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        let parts = bufs.iter().map(|buf| {
            let part = &buf[..left.min(buf.len())];
            left -= part.len();
            part
        });
        let all = std::iter::once(head).chain(parts);
        for (slot, part) in slices.iter_mut().zip(all.filter(|part| !part.is_empty())) {
            *slot = IoSlice::new(part);
            used += 1;
        }
        if !self.io.is_write_vectored() {
            return Pin::new(&mut self.io).poll_write(cx, &slices[0]);
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..used])
    }

    /// Data into `buf`; `false` when all that came was about frames.
    fn poll_data(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(true));
            }
        } else {
            let n = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(n));
        }
        let data = self.deframer.take_apart(&mut buf.filled_mut()[before..]);
        buf.set_filled(before + data);
        Poll::Ready(Ok(data > 0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<S> {
    /// A client that broke the rules is an error of the kind `InvalidData`, and says how.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.deframer.end() {
                None => {}
                Some(End::Closed(_)) => return Poll::Ready(Ok(())),
                Some(End::Violated(violation)) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, violation);
                    return Poll::Ready(Err(error));
                }
            }
            self.answer_pings(cx)?;
            if buf.remaining() == 0 || ready!(self.poll_data(cx, buf))? {
                // What came may have had a ping behind it.
                self.answer_pings(cx)?;
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_frame(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_frame(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_control(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// The closing handshake (RFC 6455, 7.1): says goodbye, waits for the client's, and closes. The
    /// caller bounds the time.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // In the middle of a frame there is no word between.
        if self.is_between_frames() {
            if !self.closing {
                let code = self.deframer.end().map_or(frame::NORMAL, End::close_code);
                // Behind a pong that is half written.
                let close = frame::close(code);
                self.control = [&self.control, close.as_slice()].concat().into();
                self.closing = true;
            }
            ready!(self.poll_control(cx))?;
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        }
        if self.is_violated() || !self.is_between_frames() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            ready!(self.poll_goodbye(cx));
            return Poll::Ready(Ok(()));
        }
        ready!(self.poll_goodbye(cx));
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    fn is_violated(&self) -> bool {
        matches!(self.deframer.end(), Some(End::Violated(_)))
    }

    /// Until the client has closed too. Behind a violation nothing is understood any more, but it
    /// is read: a socket that is closed with bytes unread takes back what was said last.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 256];
        while !matches!(self.deframer.end(), Some(End::Closed(_))) {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    self.deframer.take_apart(buf.filled_mut());
                }
                _ => break,
            }
        }
        Poll::Ready(())
    }
}
