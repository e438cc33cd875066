//! Listeners and connections: MQTT over TCP and TLS, HTTP; limits
#![forbid(unsafe_code)]
