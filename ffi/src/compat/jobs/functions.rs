//! `aws_iot_jobs_interface.h`: subscriptions and requests. Topics and messages are written into
//! the application's buffers; a subscription is known by the topic in its buffer.

use std::ffi::{c_char, c_int, c_void};

use super::request::{
    DescribeRequest, StartNextRequest, UpdateRequest, client_token_only, describe, start_next,
    update,
};
use super::topic::{Kind, print, topic};
use crate::boundary::c_bytes;
use crate::compat::codes::{FAILURE, LIMIT_EXCEEDED_ERROR, NULL_VALUE_ERROR};
use crate::compat::mqtt::{aws_iot_mqtt_publish, aws_iot_mqtt_subscribe, aws_iot_mqtt_unsubscribe};
use crate::compat::types::{AwsIotClient, MessageHandler, PublishParams};

type Result<T> = std::result::Result<T, c_int>;

/// Where a text goes that the application keeps.
struct Place {
    buf: *mut c_char,
    size: usize,
}

impl Place {
    /// Writes a text that must fit whole.
    ///
    /// # Safety
    /// There is room for `size` bytes.
    unsafe fn write(&self, text: &[u8]) -> Result<usize> {
        if self.buf.is_null() {
            return Err(NULL_VALUE_ERROR);
        }
        // SAFETY: as the caller says.
        let len = usize::try_from(unsafe { print(self.buf, self.size, text) });
        let len = len.map_err(|_| FAILURE)?;
        if len >= self.size {
            return Err(LIMIT_EXCEEDED_ERROR);
        }
        Ok(len)
    }
}

/// Writes the topic of a call.
///
/// # Safety
/// Texts are NULL or end with NUL, there is room where the topic goes.
unsafe fn write_topic(
    place: &Place,
    kind: Option<Kind>,
    reply: c_int,
    thing: *const c_char,
    job: *const c_char,
) -> Result<u16> {
    // SAFETY: as the caller says.
    let (thing, job) = unsafe { (c_bytes(thing), c_bytes(job)) };
    let thing = thing.ok_or(NULL_VALUE_ERROR)?;
    let topic = topic(kind, reply, thing, job).ok_or(FAILURE)?;
    // SAFETY: as the caller says.
    let len = unsafe { place.write(&topic) }?;
    u16::try_from(len).map_err(|_| LIMIT_EXCEEDED_ERROR)
}

fn code_of(result: Result<c_int>) -> c_int {
    match result {
        Ok(code) | Err(code) => code,
    }
}

/// Subscribes to one topic of jobs.
///
/// # Safety
/// As [`aws_iot_mqtt_subscribe`]; texts are NULL or end with NUL, the topic's buffer is as long as
/// it says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_subscribe_to_job_messages(
    client: *mut AwsIotClient,
    qos: c_int,
    thing: *const c_char,
    job: *const c_char,
    kind: c_int,
    reply: c_int,
    handler: Option<MessageHandler>,
    data: *mut c_void,
    topic_buf: *mut c_char,
    topic_size: u16,
) -> c_int {
    boundary!(FAILURE, {
        if client.is_null() || topic_buf.is_null() {
            return NULL_VALUE_ERROR;
        }
        let place = Place {
            buf: topic_buf,
            size: topic_size.into(),
        };
        // SAFETY: as the caller says.
        unsafe {
            let topic = write_topic(&place, Kind::new(kind), reply, thing, job);
            code_of(
                topic.map(|len| aws_iot_mqtt_subscribe(client, topic_buf, len, qos, handler, data)),
            )
        }
    })
}

/// Subscribes to all topics of jobs.
///
/// # Safety
/// As [`aws_iot_jobs_subscribe_to_job_messages`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_subscribe_to_all_job_messages(
    client: *mut AwsIotClient,
    qos: c_int,
    thing: *const c_char,
    handler: Option<MessageHandler>,
    data: *mut c_void,
    topic_buf: *mut c_char,
    topic_size: u16,
) -> c_int {
    const WILDCARD: c_int = 7;
    // SAFETY: as the caller says.
    unsafe {
        aws_iot_jobs_subscribe_to_job_messages(
            client,
            qos,
            thing,
            std::ptr::null(),
            WILDCARD,
            0,
            handler,
            data,
            topic_buf,
            topic_size,
        )
    }
}

/// Ends the subscription whose topic the buffer holds.
///
/// # Safety
/// The topic is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_unsubscribe_from_job_messages(
    client: *mut AwsIotClient,
    topic_buf: *mut c_char,
) -> c_int {
    boundary!(FAILURE, {
        // SAFETY: as the caller says.
        let Some(topic) = (unsafe { c_bytes(topic_buf) }) else {
            return NULL_VALUE_ERROR;
        };
        match u16::try_from(topic.len()) {
            // SAFETY: so long it is.
            Ok(len) => unsafe { aws_iot_mqtt_unsubscribe(client, topic_buf, len) },
            Err(_) => LIMIT_EXCEEDED_ERROR,
        }
    })
}

/// A request: where its topic and its message go.
struct Call {
    client: *mut AwsIotClient,
    qos: c_int,
    topic: Place,
    message: Place,
}

impl Call {
    fn new(
        client: *mut AwsIotClient,
        qos: c_int,
        topic_buf: *mut c_char,
        topic_size: u16,
        message_buf: *mut c_char,
        message_size: usize,
    ) -> Self {
        Self {
            client,
            qos,
            topic: Place {
                buf: topic_buf,
                size: topic_size.into(),
            },
            message: Place {
                buf: message_buf,
                size: message_size,
            },
        }
    }

    /// Writes the topic and the message, and publishes.
    ///
    /// # Safety
    /// The buffers have room as they say; texts are NULL or end with NUL.
    unsafe fn publish(
        &self,
        kind: Option<Kind>,
        thing: *const c_char,
        job: *const c_char,
        message: Option<&[u8]>,
    ) -> Result<c_int> {
        const REQUEST: c_int = 1;
        if self.client.is_null() || self.topic.buf.is_null() {
            return Err(NULL_VALUE_ERROR);
        }
        // SAFETY: as the caller says.
        let topic_len = unsafe { write_topic(&self.topic, kind, REQUEST, thing, job) }?;
        let empty = c"".as_ptr().cast_mut();
        let (payload, payload_len) = match message {
            None => (empty, 0),
            // SAFETY: as the caller says.
            Some(text) => (self.message.buf, unsafe { self.message.write(text) }?),
        };
        let mut params = PublishParams {
            qos: self.qos,
            is_retained: 0,
            is_dup: 0,
            id: 0,
            payload: payload.cast(),
            payload_len,
        };
        // SAFETY: topic and payload are as long as they say.
        Ok(
            unsafe {
                aws_iot_mqtt_publish(self.client, self.topic.buf, topic_len, &raw mut params)
            },
        )
    }
}

/// Asks for something with nothing but a client token; without one the message is empty.
///
/// # Safety
/// Texts are NULL or end with NUL; the buffers are NULL or as long as they say.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_send_query(
    client: *mut AwsIotClient,
    qos: c_int,
    thing: *const c_char,
    job: *const c_char,
    client_token: *const c_char,
    topic_buf: *mut c_char,
    topic_size: u16,
    message_buf: *mut c_char,
    message_size: usize,
    kind: c_int,
) -> c_int {
    let call = Call::new(
        client,
        qos,
        topic_buf,
        topic_size,
        message_buf,
        message_size,
    );
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        let message = c_bytes(client_token).map(client_token_only);
        code_of(call.publish(Kind::new(kind), thing, job, message.as_deref()))
    })
}

/// Starts the next execution that waits.
///
/// # Safety
/// As [`aws_iot_jobs_send_query`]; the request is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_start_next(
    client: *mut AwsIotClient,
    qos: c_int,
    thing: *const c_char,
    request: *const StartNextRequest,
    topic_buf: *mut c_char,
    topic_size: u16,
    message_buf: *mut c_char,
    message_size: usize,
) -> c_int {
    let call = Call::new(
        client,
        qos,
        topic_buf,
        topic_size,
        message_buf,
        message_size,
    );
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        let Some(request) = request.as_ref() else {
            return NULL_VALUE_ERROR;
        };
        let message = start_next(request);
        let none = std::ptr::null();
        code_of(call.publish(Some(Kind::StartNext), thing, none, Some(&message)))
    })
}

/// Asks for an execution. Without a message's buffer the message is empty.
///
/// # Safety
/// As [`aws_iot_jobs_send_query`]; the request is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_describe(
    client: *mut AwsIotClient,
    qos: c_int,
    thing: *const c_char,
    job: *const c_char,
    request: *const DescribeRequest,
    topic_buf: *mut c_char,
    topic_size: u16,
    message_buf: *mut c_char,
    message_size: usize,
) -> c_int {
    let call = Call::new(
        client,
        qos,
        topic_buf,
        topic_size,
        message_buf,
        message_size,
    );
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        let message = match request.as_ref() {
            _ if message_buf.is_null() => None,
            None => return NULL_VALUE_ERROR,
            Some(request) => Some(describe(request)),
        };
        code_of(call.publish(Some(Kind::Describe), thing, job, message.as_deref()))
    })
}

/// Reports on an execution.
///
/// # Safety
/// As [`aws_iot_jobs_send_query`]; the request is NULL or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_send_update(
    client: *mut AwsIotClient,
    qos: c_int,
    thing: *const c_char,
    job: *const c_char,
    request: *const UpdateRequest,
    topic_buf: *mut c_char,
    topic_size: u16,
    message_buf: *mut c_char,
    message_size: usize,
) -> c_int {
    let call = Call::new(
        client,
        qos,
        topic_buf,
        topic_size,
        message_buf,
        message_size,
    );
    // SAFETY: as the caller says.
    boundary!(FAILURE, unsafe {
        let Some(request) = request.as_ref() else {
            return NULL_VALUE_ERROR;
        };
        let message = update(request);
        code_of(call.publish(Some(Kind::Update), thing, job, Some(&message)))
    })
}
