//! Device shadows: a pure document core and the service on the broker's port
#![forbid(unsafe_code)]
