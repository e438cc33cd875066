//! Policy documents: parse, evaluate, explain; pure
#![forbid(unsafe_code)]
