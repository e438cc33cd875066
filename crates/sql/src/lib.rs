//! AWS IoT SQL: parse, evaluate, substitution templates; pure
#![forbid(unsafe_code)]
