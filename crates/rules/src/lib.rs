//! Topic rules and their actions
#![forbid(unsafe_code)]
