//! Things, types, attachments
#![forbid(unsafe_code)]
