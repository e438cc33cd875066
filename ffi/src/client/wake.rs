//! What a program with a loop of its own waits for, instead of waiting in here: one descriptor
//! that is readable when the client has something to do.

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// Three descriptors behind one: an event of other threads, a timer, and the connection's socket.
#[derive(Debug)]
pub(crate) struct Wake {
    all: OwnedFd,
    event: OwnedFd,
    /// The event is set: who sets it again has nothing to do.
    is_set: AtomicBool,
    timer: OwnedFd,
}

impl Wake {
    pub(crate) fn new() -> io::Result<Self> {
        let all = epoll::create(CreateFlags::CLOEXEC)?;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        for fd in [&event, &timer] {
            epoll::add(&all, fd, EventData::new_u64(0), EventFlags::IN)?;
        }
        Ok(Self {
            all,
            event,
            is_set: AtomicBool::new(false),
            timer,
        })
    }

    /// The one descriptor.
    pub(crate) fn number(&self) -> RawFd {
        self.all.as_raw_fd()
    }

    /// Readable when another thread has something to send.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// There is something to do.
    pub(super) fn set(&self) {
        if self.is_set.swap(true, Ordering::AcqRel) {
            return;
        }
        // It is full only when nobody has looked for ages: then it is set anyhow.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// It is being looked at.
    pub(super) fn clear(&self) {
        // Not set: nothing to clear.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        // Not before: who finds it set is seen by the look that follows.
        self.is_set.swap(false, Ordering::AcqRel);
    }

    /// A new connection's socket; a closed one has left by itself.
    pub(super) fn watch(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::add(
            &self.all,
            socket,
            EventData::new_u64(0),
            EventFlags::IN,
        )?)
    }

    /// Whether room to write in the socket is something to do, and when there is at the latest.
    pub(super) fn arm(&self, socket: Option<(BorrowedFd<'_>, bool)>, due: Option<Instant>) {
        if let Some((socket, unsent)) = socket {
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, unsent);
            // A descriptor that is open and was added can be changed.
            let _ = epoll::modify(&self.all, socket, EventData::new_u64(0), flags);
        }
        // All zero would switch it off.
        let left = due.map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            left.max(Duration::from_nanos(1))
        });
        let left = left.unwrap_or_default();
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        // The value is a legal one.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &value);
    }
}
