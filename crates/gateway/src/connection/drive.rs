//! The loop of an open connection: bytes in, bytes out, deadlines, and what others tell it.
//!
//! 1. While nothing happens, a connection holds no buffer. It reads into one on the stack, and what
//!    came is copied at its exact size; what it needed for one message it gives back at once. Only a
//!    busy one keeps buffers of its own, until it has been quiet for [`QUIET`].
//! 2. It has one timer, which is set again when it fires and not whenever bytes come; without
//!    anything to wait for it has none.
//! 3. Whatever can be done is done before it waits; each of the four that may wake it has its turn
//!    each time.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use iotedge_mqtt::ReasonCode;
use iotedge_ports::{DisconnectReason, EndKind};
use iotedge_telemetry::{METRICS, Traffic};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::end::End;
use super::pump::Pump;

/// What is read on the stack.
const SCRATCH: usize = 2048;
/// The largest single read.
const READ_MAX: usize = 64 * 1024;
/// Output beyond so much is a busy connection's, which keeps its buffer.
const SMALL_OUTPUT: usize = 1024;
/// How often a connection that ends is read from: a client that goes on talking is not listened to
/// for ever.
const LAST_READS: usize = 16;
/// After so long without bytes either way a connection is not busy.
const QUIET: Duration = Duration::from_secs(1);

/// What the loop remembers from one round to the next.
pub(super) struct Course {
    /// When bytes came.
    received: Instant,
    /// Since when the client takes nothing of what is to be written.
    stuck: Option<Instant>,
    /// When a busy connection is looked at.
    look: Option<Instant>,
    /// Bytes went either way since the last look.
    busy: bool,
    /// What was written may still be in a layer below.
    flush: bool,
    /// The output has grown beyond what is given back at once.
    large_output: bool,
    /// Packets of the output that are not counted yet, PUBLISH apart.
    answers: u32,
    /// How much is read at once; [`SCRATCH`] is read on the stack.
    read_size: usize,
}

impl Course {
    pub(super) fn new() -> Self {
        Self {
            received: Instant::now(),
            stuck: None,
            look: None,
            busy: false,
            flush: false,
            large_output: false,
            answers: 0,
            read_size: SCRATCH,
        }
    }
}

impl Course {
    /// A packet is behind what is to be written.
    pub(super) fn note_answer(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }

    /// Counts once a write, not once a packet.
    pub(super) fn count_sent(&mut self, bytes: usize) {
        METRICS.passed(Traffic::BytesSent, bytes as u64);
        if self.answers > 0 {
            let answers = std::mem::take(&mut self.answers);
            METRICS.passed(Traffic::AnswersSent, u64::from(answers));
        }
    }
}

impl Pump {
    /// To the connection's end.
    pub(super) fn poll_drive<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<End>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        loop {
            // What is left of an earlier read is worked on before more is read.
            if let Err(end) = self.work() {
                return Poll::Ready(end);
            }
            if let Some(end) = self.ending {
                return Poll::Ready(end);
            }
            // Asked again now, so that its relief wakes this connection.
            if self.pressed.is_some() && !self.is_pressed() {
                continue;
            }
            if let Err(end) = ready!(self.poll(cx, stream, timer)) {
                return Poll::Ready(end);
            }
        }
    }

    /// Until there is something to work on.
    fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<Result<(), End>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // Before anything else looks at the rates and so begins their next second.
        let mut happened = self.rates.is_some() && self.rates_open(Instant::now());
        if self.handle.poll_notified(cx).is_ready() {
            if let Some(end) = self.take_notices() {
                return Poll::Ready(Err(self.last_heard(cx, stream, end)));
            }
            happened = true;
        }
        if self.course.flush || !self.output.is_empty() {
            // What there was no room for may come now.
            happened |= self.write(cx, stream)? && self.more;
        }
        if self.may_read() {
            happened |= self.read(cx, stream)?;
        }
        if !happened {
            self.give_back();
        }
        if !happened || self.course.stuck.is_some() {
            happened |= self.poll_deadlines(cx, timer)?;
        }
        if happened {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Writes what the socket takes. `true`: something.
    fn write<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Result<bool, End>
    where
        S: AsyncWrite + Unpin,
    {
        let mut wrote = false;
        self.course.large_output |= self.output.len() > SMALL_OUTPUT;
        while !self.output.is_empty() {
            let room = self.room_to_write();
            if room == 0 {
                break;
            }
            match self.output.poll_write(cx, stream, room) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(End::broken()),
                Poll::Ready(Ok(n)) => {
                    self.note_written(n);
                    self.course.count_sent(n);
                    self.course.stuck = None;
                    self.course.flush = true;
                    wrote = true;
                }
                Poll::Pending => {
                    self.course.stuck.get_or_insert_with(Instant::now);
                    break;
                }
            }
        }
        if self.output.is_empty() && self.course.flush {
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Err(_)) => return Err(End::broken()),
                Poll::Ready(Ok(())) => {
                    self.course.flush = false;
                    self.course.stuck = None;
                }
                Poll::Pending => {
                    self.course.stuck.get_or_insert_with(Instant::now);
                }
            }
        }
        self.course.busy |= wrote;
        Ok(wrote)
    }

    /// Reads what has come. `true`: something.
    fn read<S>(&mut self, cx: &mut Context<'_>, stream: &mut S) -> Result<bool, End>
    where
        S: AsyncRead + Unpin,
    {
        let read = if self.input.is_empty() && self.course.read_size == SCRATCH {
            read_on_the_stack(cx, stream, &mut self.input)
        } else {
            self.input.reserve(self.course.read_size);
            pin!(stream.read_buf(&mut self.input)).poll(cx)
        };
        match read {
            Poll::Pending => Ok(false),
            // Not the network's fault: WebSocket or TLS that is none.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Err(self.protocol_error(&error.to_string(), ReasonCode::Success))
            }
            Poll::Ready(Ok(0) | Err(_)) => Err(End::broken()),
            Poll::Ready(Ok(n)) => {
                METRICS.passed(Traffic::BytesReceived, n as u64);
                self.course.received = Instant::now();
                self.course.busy = true;
                self.note_read(n);
                self.adapt(n);
                Ok(true)
            }
        }
    }

    /// The end of a connection whose client id another takes over: what its client had said before
    /// that counts, its DISCONNECT first of all, by which it may have made room itself.
    fn last_heard<S>(&mut self, cx: &mut Context<'_>, stream: &mut S, end: End) -> End
    where
        S: AsyncRead + Unpin,
    {
        if end.reason != DisconnectReason::DuplicateClientId {
            return end;
        }
        for _ in 0..LAST_READS {
            self.more = false;
            match self.read_packets() {
                Err(own) if own.kind != EndKind::Lost => return own,
                Err(_) => return end,
                Ok(_) => {}
            }
            if !matches!(self.read(cx, stream), Ok(true)) {
                return end;
            }
        }
        end
    }

    /// Reads grow with what comes and shrink again.
    fn adapt(&mut self, n: usize) {
        let size = &mut self.course.read_size;
        if n >= *size {
            *size = (*size * 2).min(READ_MAX);
        } else if n < *size / 8 {
            *size = (*size / 2).max(SCRATCH);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let course = &self.course;
        let write = course
            .stuck
            .map(|since| since + self.context.limits.write_timeout);
        let keep_alive = self.silence().map(|silence| course.received + silence);
        let pressed = self.pressed.as_ref().map(|pressed| pressed.1);
        let rates = self.rates.as_ref().and_then(|rates| rates.opens());
        [
            write,
            keep_alive,
            pressed,
            course.look,
            rates,
            self.closes_at().map(|(at, _)| at),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// `true`: there is something to work on, now that time has passed.
    fn poll_deadlines(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Result<bool, End> {
        loop {
            let Some(next) = self.next_deadline() else {
                return Ok(false);
            };
            let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            if next < timer.deadline() {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Ok(false);
            }
            let now = Instant::now();
            if self.overdue(now)? {
                return Ok(true);
            }
            if let Some(next) = self.next_deadline() {
                timer.as_mut().reset(next);
            }
        }
    }

    /// `true`: the patience with a taker is at its end.
    fn overdue(&mut self, now: Instant) -> Result<bool, End> {
        let goes_on = self.rates_open(now);
        if goes_on || !self.may_read() {
            // While nothing is read, the client cannot show that it is alive.
            self.course.received = now;
        }
        let received = self.course.received;
        if self
            .silence()
            .is_some_and(|silence| now >= received + silence)
        {
            return Err(End::lost(
                DisconnectReason::KeepAliveTimeout,
                ReasonCode::KeepAliveTimeout,
            ));
        }
        if let Some((_, reason)) = self.closes_at().filter(|(at, _)| now >= *at) {
            return Err(End::lost(reason, ReasonCode::MaximumConnectTime));
        }
        let patience = self.context.limits.write_timeout;
        if self
            .course
            .stuck
            .is_some_and(|since| now >= since + patience)
        {
            return Err(End::lost(
                DisconnectReason::SlowConsumer,
                ReasonCode::QuotaExceeded,
            ));
        }
        if self.course.look.is_some_and(|at| now >= at) {
            self.course.look = None;
            if std::mem::take(&mut self.course.busy) {
                self.course.look = Some(now + QUIET);
            } else {
                self.rest();
            }
        }
        Ok(goes_on
            || self
                .pressed
                .as_ref()
                .is_some_and(|pressed| now >= pressed.1))
    }

    /// `true`: a rate that was at its end goes on.
    fn rates_open(&mut self, now: Instant) -> bool {
        let Some(rates) = &mut self.rates else {
            return false;
        };
        let open = rates.opens().is_some_and(|at| now >= at);
        if open {
            rates.turn(now);
            // What waited in the mailbox may come.
            self.more = true;
        }
        open
    }

    /// Bytes that may be written now.
    fn room_to_write(&mut self) -> usize {
        let window = self.rates.as_mut().and_then(|r| r.written.as_mut());
        window.map_or(usize::MAX, |window| {
            usize::try_from(window.left(Instant::now())).unwrap_or(usize::MAX)
        })
    }

    fn note_written(&mut self, n: usize) {
        if let Some(window) = self.rates.as_mut().and_then(|r| r.written.as_mut()) {
            window.take(n as u64, Instant::now());
        }
    }

    fn note_read(&mut self, n: usize) {
        if let Some(window) = self.rates.as_mut().and_then(|r| r.read.as_mut()) {
            window.take(n as u64, Instant::now());
        }
    }

    /// Before it waits: gives back what one message needed, and notes what a busy connection keeps.
    fn give_back(&mut self) {
        if self.input.is_empty() && self.course.read_size == SCRATCH {
            self.input = BytesMut::new();
        }
        if !self.course.large_output {
            self.output.release();
        }
        let keeps = self.course.large_output || self.course.read_size > SCRATCH;
        if keeps && self.course.look.is_none() {
            self.course.look = Some(Instant::now() + QUIET);
        }
    }

    /// It is quiet: gives back what it kept while it was busy.
    fn rest(&mut self) {
        self.course.read_size = SCRATCH;
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output.release();
            self.course.large_output = false;
        }
    }
}

/// Reads into a buffer that costs nothing while nothing comes.
fn read_on_the_stack<S>(
    cx: &mut Context<'_>,
    stream: &mut S,
    input: &mut BytesMut,
) -> Poll<io::Result<usize>>
where
    S: AsyncRead + Unpin,
{
    let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
    let mut read = ReadBuf::uninit(&mut scratch);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    let came = read.filled();
    *input = BytesMut::from(came);
    Poll::Ready(Ok(came.len()))
}
