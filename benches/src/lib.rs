//! benches of the whole.
#![forbid(unsafe_code)]
