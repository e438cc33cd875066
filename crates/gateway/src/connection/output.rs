//! What a connection has to write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// Payloads from this size on are shared between all who get them, and leave from where they lie.
/// A smaller one is copied for less than what a segment of its own costs.
pub(super) const SHARED_BYTES: usize = 2048;
/// Segments of one write.
const SEGMENTS: usize = 32;

/// Packets in one buffer, and between them payloads that are not copied.
#[derive(Default)]
pub(super) struct Output {
    buffer: BytesMut,
    /// From the first one on.
    shared: Option<Box<Shared>>,
}

/// Payloads that are not copied.
#[derive(Default)]
struct Shared {
    /// Each with how many bytes of the buffer come before it, counted with those that are `written`.
    payloads: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Bytes of the buffer that were written since there are any.
    written: u64,
}

impl Output {
    /// Bytes to write.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() + self.shared.as_ref().map_or(0, |shared| shared.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a packet is written, behind all that is there.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Puts a payload behind all that is there.
    pub(super) fn share(&mut self, payload: Bytes) {
        if payload.is_empty() {
            return;
        }
        let shared = self.shared.get_or_insert_default();
        let at = shared.written + self.buffer.len() as u64;
        shared.bytes += payload.len();
        shared.payloads.push_back((at, payload));
    }

    /// Gives memory back; for when it is empty.
    pub(super) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// One write of what is in front, at most `most` bytes. `Ok(0)` when the peer takes no more.
    pub(super) fn poll_write<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        most: usize,
    ) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        let shared = self.shared.as_deref();
        let written = if let Some(shared) = shared.filter(|shared| shared.bytes > 0) {
            let mut slices = [IoSlice::new(&[]); SEGMENTS];
            let count = self.slices(shared, &mut slices, most);
            let slices = slices.get(..count).unwrap_or_default();
            if stream.is_write_vectored() {
                Pin::new(stream).poll_write_vectored(cx, slices)
            } else {
                Pin::new(stream).poll_write(cx, slices.first().map_or(&[], |slice| slice))
            }
        } else {
            let all = &self.buffer[..];
            Pin::new(stream).poll_write(cx, all.get(..most).unwrap_or(all))
        };
        if let Poll::Ready(Ok(n)) = &written {
            self.advance(*n);
        }
        written
    }

    /// The first segments, none of them empty, at most `most` bytes.
    fn slices<'a>(
        &'a self,
        shared: &'a Shared,
        out: &mut [IoSlice<'a>; SEGMENTS],
        mut most: usize,
    ) -> usize {
        let mut rest = &self.buffer[..];
        let mut before = shared.written;
        let mut count = 0;
        let mut push = |bytes: &'a [u8]| match out.get_mut(count) {
            Some(_) if bytes.is_empty() => true,
            Some(slot) if most > 0 => {
                let part = bytes.get(..most).unwrap_or(bytes);
                most -= part.len();
                *slot = IoSlice::new(part);
                count += 1;
                true
            }
            _ => false,
        };
        for (at, payload) in &shared.payloads {
            let len = usize::try_from(at - before).unwrap_or(rest.len());
            let (packets, behind) = rest.split_at(len.min(rest.len()));
            (rest, before) = (behind, *at);
            if !push(packets) || !push(payload) {
                return count;
            }
        }
        push(rest);
        count
    }

    fn advance(&mut self, mut n: usize) {
        let Some(shared) = &mut self.shared else {
            self.buffer.advance(n.min(self.buffer.len()));
            return;
        };
        while n > 0 {
            let front = shared.payloads.front_mut();
            let packets = match &front {
                Some((at, _)) => usize::try_from(*at - shared.written).unwrap_or(usize::MAX),
                None => self.buffer.len(),
            };
            if packets > 0 {
                let step = packets.min(n).min(self.buffer.len());
                self.buffer.advance(step);
                shared.written += step as u64;
                n -= step;
                if step == 0 {
                    return;
                }
                continue;
            }
            let Some((_, payload)) = front else {
                return;
            };
            let step = payload.len().min(n);
            payload.advance(step);
            shared.bytes -= step;
            n -= step;
            if payload.is_empty() {
                shared.payloads.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWrite;

    use super::*;

    /// Takes as much as it is told to each time.
    struct Peer {
        got: Vec<u8>,
        takes: Vec<usize>,
        vectored: bool,
    }

    impl Peer {
        fn take<'a>(&mut self, slices: impl Iterator<Item = &'a [u8]>) -> usize {
            let mut left = self.takes.pop().unwrap_or(usize::MAX);
            let mut taken = 0;
            for slice in slices {
                let n = slice.len().min(left);
                self.got.extend_from_slice(&slice[..n]);
                left -= n;
                taken += n;
            }
            taken
        }
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(self.take([bytes].into_iter())))
        }
        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            assert!(slices.iter().all(|slice| !slice.is_empty()));
            Poll::Ready(Ok(self.take(slices.iter().map(|slice| &**slice))))
        }
        fn is_write_vectored(&self) -> bool {
            self.vectored
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    proptest! {
        #[test]
        fn everything_leaves_once_and_in_order(
            pieces in prop::collection::vec((any::<bool>(), 1..300usize, any::<bool>()), 1..60),
            takes in prop::collection::vec(1..500usize, 0..60),
            vectored in any::<bool>(),
            most in 1..2000usize,
        ) {
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut output = Output::default();
            let mut peer = Peer { got: Vec::new(), takes, vectored };
            let mut expected = Vec::new();
            for (n, (shared, len, write)) in pieces.into_iter().enumerate() {
                let piece = vec![n as u8; len];
                expected.extend_from_slice(&piece);
                match shared {
                    true => output.share(piece.into()),
                    false => output.buffer().extend_from_slice(&piece),
                }
                prop_assert_eq!(output.len() + peer.got.len(), expected.len());
                if write {
                    let before = peer.got.len();
                    let _ = output.poll_write(&mut cx, &mut peer, most);
                    prop_assert!(peer.got.len() - before <= most);
                }
            }
            while !output.is_empty() {
                let written = output.poll_write(&mut cx, &mut peer, most);
                prop_assert!(matches!(written, Poll::Ready(Ok(1..))));
            }
            prop_assert_eq!(output.len(), 0);
            prop_assert_eq!(&peer.got, &expected);
        }
    }
}
