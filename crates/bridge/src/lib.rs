//! Upstreams: routes, queue, pacing, state
#![forbid(unsafe_code)]
