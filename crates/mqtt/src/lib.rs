//! MQTT packets and the session state machine, without I/O
#![forbid(unsafe_code)]
