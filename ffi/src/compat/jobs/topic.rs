//! `aws_iot_jobs_topics.h`: the topics of a thing's jobs.

use std::ffi::{c_char, c_int};

use crate::boundary::{c_bytes, write_text};

/// `AwsIotJobExecutionTopicType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    GetPending,
    StartNext,
    Describe,
    Update,
    Notify,
    NotifyNext,
    Wildcard,
}

impl Kind {
    pub(super) fn new(number: c_int) -> Option<Self> {
        Some(match number {
            1 => Self::GetPending,
            2 => Self::StartNext,
            3 => Self::Describe,
            4 => Self::Update,
            5 => Self::Notify,
            6 => Self::NotifyNext,
            7 => Self::Wildcard,
            _ => return None,
        })
    }
}

/// `AwsIotJobExecutionTopicReplyType`, as what it adds to the topic.
fn suffix(reply: c_int) -> &'static [u8] {
    match reply {
        2 => b"/accepted",
        3 => b"/rejected",
        4 => b"/+",
        _ => b"",
    }
}

/// The topic; `None` where there is none: a notification has no reply, an update and a
/// description are of a job.
pub(super) fn topic(
    kind: Option<Kind>,
    reply: c_int,
    thing: &[u8],
    job: Option<&[u8]>,
) -> Option<Vec<u8>> {
    let suffix = suffix(reply);
    let start = [b"$aws/things/", thing, b"/jobs/"].concat();
    let of_job = |rest: &[u8]| Some([job?, rest, suffix].concat());
    let end = match kind? {
        Kind::GetPending => [b"get", suffix].concat(),
        Kind::StartNext => [b"start-next", suffix].concat(),
        Kind::Describe => of_job(b"/get")?,
        Kind::Update => of_job(b"/update")?,
        Kind::Notify | Kind::NotifyNext if !suffix.is_empty() => return None,
        Kind::Notify => b"notify".to_vec(),
        Kind::NotifyNext => b"notify-next".to_vec(),
        Kind::Wildcard => match job {
            None => b"#".to_vec(),
            Some(job) => [job, b"/+", suffix].concat(),
        },
    };
    Some([start, end].concat())
}

/// Writes a text as `snprintf` does: what fits, with a NUL byte; and how long it is.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes.
pub(super) unsafe fn print(buf: *mut c_char, size: usize, text: &[u8]) -> c_int {
    if let Some(room) = size.checked_sub(1).filter(|_| !buf.is_null()) {
        // SAFETY: no more than the room and a NUL byte.
        unsafe { write_text(buf, text.get(..room).unwrap_or(text)) };
    }
    c_int::try_from(text.len()).unwrap_or(-1)
}

/// The topic of a job's call; its length, which may be more than fits, or -1.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes; texts are NULL or end with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_get_api_topic(
    buf: *mut c_char,
    size: usize,
    kind: c_int,
    reply: c_int,
    thing: *const c_char,
    job: *const c_char,
) -> c_int {
    boundary!(-1, {
        // SAFETY: as the caller says.
        let (thing, job) = unsafe { (c_bytes(thing), c_bytes(job)) };
        let topic = thing.and_then(|thing| topic(Kind::new(kind), reply, thing, job));
        match topic {
            // SAFETY: as the caller says.
            Some(topic) => unsafe { print(buf, size, &topic) },
            None => -1,
        }
    })
}
