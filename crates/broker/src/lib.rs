//! Subscription tree, admission, fan-out, retained messages, wills, durable sessions
#![forbid(unsafe_code)]
