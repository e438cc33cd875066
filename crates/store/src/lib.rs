//! SQLite behind one writer thread a file: queues with takers, sessions, retained messages, versioned documents
#![forbid(unsafe_code)]
