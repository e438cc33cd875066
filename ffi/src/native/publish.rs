//! Publishing: without waiting, and with.

use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use bytes::Bytes;
use iotedge_mqtt::QoS;

use super::{iotedge_client, iotedge_status, name, on_client, status};
use crate::boundary::{UserData, qos, sized_bytes};
use crate::client::{Done, Post};
use crate::error::{Error, Result};

/// Is told how a message ended: IOTEDGE_OK when the server has acknowledged it (with QoS 0: when it
/// is on its way), otherwise why not. A gateway acknowledges when it has stored the message for all
/// who shall get it.
pub type iotedge_delivery_callback =
    Option<unsafe extern "C" fn(status: iotedge_status, user_data: *mut c_void)>;

/// Publishes, and never waits: the message is copied, sent at once or with the next
/// iotedge_client_process, and `callback` is told how it ended. While a lost connection is being
/// made again messages are kept, as many as max_queued_bytes allows (IOTEDGE_LIMIT_EXCEEDED beyond);
/// those with QoS 0 and 1 go with the new connection, those with QoS 2 that were sent already end as
/// IOTEDGE_CONNECTION_LOST, since the server may have them.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new, `topic` is NULL or ends with NUL, `payload` is
/// NULL or as long as `payload_len` says; `callback` may be called with `user_data` until it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_publish(
    client: *mut iotedge_client,
    topic: *const c_char,
    payload: *const u8,
    payload_len: usize,
    level: c_int,
    retain: bool,
    callback: iotedge_delivery_callback,
    user_data: *mut c_void,
) -> iotedge_status {
    let user_data = UserData::new(user_data);
    let done = callback.map(|callback| -> Done {
        Box::new(move |result| {
            let status =
                result.map_or_else(|error| status(&error), |()| iotedge_status::IOTEDGE_OK);
            // SAFETY: the application's own function with its own pointer.
            unsafe { callback(status, user_data.pointer()) };
        })
    });
    // SAFETY: as the caller says.
    unsafe {
        on_client(client, |c| {
            let post = message(topic, payload, payload_len, level, retain)?;
            c.client.post(Post { done, ..post })
        })
    }
}

/// Publishes and waits until the message has ended, so many milliseconds at most. After
/// IOTEDGE_TIMEOUT a message that was not sent yet is not sent any more; one that was may still
/// arrive. Not to be mistaken for iotedge_client_publish in a callback: it waits there too.
///
/// # Safety
/// As iotedge_client_publish.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_publish_wait(
    client: *mut iotedge_client,
    topic: *const c_char,
    payload: *const u8,
    payload_len: usize,
    level: c_int,
    retain: bool,
    timeout_ms: u32,
) -> iotedge_status {
    // SAFETY: as the caller says.
    unsafe {
        on_client(client, |c| {
            let post = message(topic, payload, payload_len, level, retain)?;
            let timeout = Duration::from_millis(timeout_ms.into());
            c.client.post_and_wait(post, timeout)
        })
    }
}

/// How many published messages are not acknowledged yet.
///
/// # Safety
/// `client` is NULL or from iotedge_client_new.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_client_unacknowledged(client: *const iotedge_client) -> usize {
    // SAFETY: as the caller says.
    boundary!(
        0,
        unsafe { client.as_ref() }.map_or(0, |c| c.client.posted())
    )
}

unsafe fn message(
    topic: *const c_char,
    payload: *const u8,
    payload_len: usize,
    level: c_int,
    retain: bool,
) -> Result<Post> {
    // SAFETY: as the caller says.
    let payload = unsafe { sized_bytes(payload, payload_len) };
    if payload.is_none() && payload_len > 0 {
        return Err(Error::Missing("payload"));
    }
    // SAFETY: as the caller says.
    let topic = unsafe { name("topic", topic) }?;
    Ok(Post {
        topic: topic.as_str().to_owned(),
        payload: Bytes::copy_from_slice(payload.unwrap_or_default()),
        qos: qos(level, QoS::ExactlyOnce)?,
        retain,
        done: None,
    })
}
