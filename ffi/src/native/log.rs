//! What the library tells besides its results.

use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::Arc;

use crate::boundary::UserData;
use crate::log;

/// Is told: 1 for an error, 2 for a warning, 3 for what goes well. Called on the thread that is in
/// a call of the library; it must not call the client that the text is about.
pub type iotedge_log_callback =
    Option<unsafe extern "C" fn(level: c_int, text: *const c_char, user_data: *mut c_void)>;

/// Sets who is told, for all clients of the process: levels up to `max_level`. NULL: nobody, as at
/// first.
///
/// # Safety
/// `callback` may be called with `user_data` until another one is set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn iotedge_set_log_callback(
    max_level: c_int,
    callback: iotedge_log_callback,
    user_data: *mut c_void,
) {
    boundary!((), {
        let user_data = UserData::new(user_data);
        log::set(callback.map(|callback| -> log::Sink {
            Arc::new(move |level, text| {
                let level = level as c_int;
                if level > max_level {
                    return;
                }
                let text = CString::new(text).unwrap_or_default();
                // SAFETY: the application's own function with its own pointer.
                unsafe { callback(level, text.as_ptr(), user_data.pointer()) };
            })
        }));
    });
}
