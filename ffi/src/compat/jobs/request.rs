//! `aws_iot_jobs_types.h` and `aws_iot_jobs_json.h`: what is asked of jobs, as JSON.

use std::ffi::{CStr, c_char, c_int};

use super::topic::print;
use crate::boundary::c_bytes;

/// `JobExecutionStatus` and its names; 0 is none, 99 an unknown one.
const STATUS: [&CStr; 6] = [
    c"QUEUED",
    c"IN_PROGRESS",
    c"FAILED",
    c"SUCCEEDED",
    c"CANCELED",
    c"REJECTED",
];
const NOT_SET: c_int = 0;
const UNKNOWN: c_int = 99;

/// The number of a status.
///
/// # Safety
/// `text` is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_map_string_to_job_status(text: *const c_char) -> c_int {
    boundary!(UNKNOWN, {
        // SAFETY: as the caller says.
        match unsafe { c_bytes(text) } {
            None | Some(b"") => NOT_SET,
            Some(text) => STATUS
                .iter()
                .zip(1..)
                .find(|(name, _)| name.to_bytes() == text)
                .map_or(UNKNOWN, |(_, number)| number),
        }
    })
}

fn status_name(status: c_int) -> Option<&'static CStr> {
    let index = usize::try_from(status.checked_sub(1)?).ok()?;
    STATUS.get(index).copied()
}

/// The name of a status; NULL for none.
#[unsafe(no_mangle)]
pub extern "C" fn aws_iot_jobs_map_status_to_string(status: c_int) -> *const c_char {
    status_name(status).map_or(std::ptr::null(), CStr::as_ptr)
}

/// `AwsIotJobExecutionUpdateRequest`; 0, NULL and false are left out.
#[repr(C)]
pub struct UpdateRequest {
    /// The execution's version that is expected.
    pub expected_version: i64,
    /// Which execution.
    pub execution_number: i64,
    /// `JobExecutionStatus`.
    pub status: c_int,
    /// JSON.
    pub status_details: *const c_char,
    /// Whether the answer has the execution's state.
    pub include_state: u8,
    /// Whether the answer has the job's document.
    pub include_document: u8,
    /// Client token.
    pub client_token: *const c_char,
}

/// `AwsIotDescribeJobExecutionRequest`.
#[repr(C)]
pub struct DescribeRequest {
    /// Which execution.
    pub execution_number: i64,
    /// Whether the answer has the job's document.
    pub include_document: u8,
    /// Client token.
    pub client_token: *const c_char,
}

/// `AwsIotStartNextPendingJobExecutionRequest`.
#[repr(C)]
pub struct StartNextRequest {
    /// JSON.
    pub status_details: *const c_char,
    /// Client token.
    pub client_token: *const c_char,
}

/// An object of JSON that is written member by member.
struct Object(Vec<u8>);

impl Object {
    fn new() -> Self {
        Self(b"{".to_vec())
    }

    fn raw(&mut self, key: &str, value: &[u8]) -> &mut Self {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(b"\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(value);
        self
    }

    fn text(&mut self, key: &str, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.raw(key, &[b"\"", value, b"\""].concat()),
            None => self,
        }
    }

    fn json(&mut self, key: &str, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.raw(key, value),
            None => self,
        }
    }

    fn number(&mut self, key: &str, value: i64) -> &mut Self {
        match value {
            0 => self,
            value => self.raw(key, value.to_string().as_bytes()),
        }
    }

    fn flag(&mut self, key: &str, value: u8) -> &mut Self {
        match value {
            0 => self,
            _ => self.raw(key, b"true"),
        }
    }

    fn finish(&mut self) -> Vec<u8> {
        self.0.push(b'}');
        std::mem::take(&mut self.0)
    }
}

/// # Safety
/// Texts are NULL or end with NUL.
pub(super) unsafe fn update(request: &UpdateRequest) -> Vec<u8> {
    // SAFETY: as the caller says.
    let (details, token) = unsafe {
        (
            c_bytes(request.status_details),
            c_bytes(request.client_token),
        )
    };
    Object::new()
        .text("status", status_name(request.status).map(CStr::to_bytes))
        .json("statusDetails", details)
        .number("executionNumber", request.execution_number)
        .number("expectedVersion", request.expected_version)
        .flag("includeJobExecutionState", request.include_state)
        .flag("includeJobDocument", request.include_document)
        .text("clientToken", token)
        .finish()
}

/// # Safety
/// Texts are NULL or end with NUL.
pub(super) unsafe fn describe(request: &DescribeRequest) -> Vec<u8> {
    // SAFETY: as the caller says.
    let token = unsafe { c_bytes(request.client_token) };
    Object::new()
        .text("clientToken", token)
        .number("executionNumber", request.execution_number)
        .flag("includeJobDocument", request.include_document)
        .finish()
}

/// # Safety
/// Texts are NULL or end with NUL.
pub(super) unsafe fn start_next(request: &StartNextRequest) -> Vec<u8> {
    // SAFETY: as the caller says.
    let (details, token) = unsafe {
        (
            c_bytes(request.status_details),
            c_bytes(request.client_token),
        )
    };
    Object::new()
        .json("statusDetails", details)
        .text("clientToken", token)
        .finish()
}

pub(super) fn client_token_only(token: &[u8]) -> Vec<u8> {
    Object::new().text("clientToken", Some(token)).finish()
}

/// An update as JSON; its length, which may be more than fits, or -1.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes; the request is NULL or valid, its texts NULL or end
/// with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_json_serialize_update_job_execution_request(
    buf: *mut c_char,
    size: usize,
    request: *const UpdateRequest,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(-1, unsafe {
        match request.as_ref() {
            Some(request) => print(buf, size, &update(request)),
            None => -1,
        }
    })
}

/// A client token as JSON; its length, which may be more than fits, or -1.
///
/// # Safety
/// `buf` is NULL or has room for `size` bytes; the token is NULL or ends with NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_json_serialize_client_token_only_request(
    buf: *mut c_char,
    size: usize,
    token: *const c_char,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(-1, unsafe {
        match c_bytes(token) {
            Some(token) => print(buf, size, &client_token_only(token)),
            None => -1,
        }
    })
}

/// A description's request as JSON; its length, which may be more than fits, or -1. 0 without a
/// buffer: then no request is meant.
///
/// # Safety
/// As [`aws_iot_jobs_json_serialize_update_job_execution_request`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_json_serialize_describe_job_execution_request(
    buf: *mut c_char,
    size: usize,
    request: *const DescribeRequest,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(-1, unsafe {
        match request.as_ref() {
            _ if buf.is_null() => 0,
            Some(request) => print(buf, size, &describe(request)),
            None => -1,
        }
    })
}

/// A start's request as JSON; its length, which may be more than fits, or -1.
///
/// # Safety
/// As [`aws_iot_jobs_json_serialize_update_job_execution_request`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aws_iot_jobs_json_serialize_start_next_job_execution_request(
    buf: *mut c_char,
    size: usize,
    request: *const StartNextRequest,
) -> c_int {
    // SAFETY: as the caller says.
    boundary!(-1, unsafe {
        match request.as_ref() {
            Some(request) => print(buf, size, &start_next(request)),
            None => -1,
        }
    })
}

#[cfg(target_pointer_width = "64")]
const _: () = {
    assert!(size_of::<UpdateRequest>() == 48);
    assert!(size_of::<DescribeRequest>() == 24);
    assert!(size_of::<StartNextRequest>() == 16);
};
