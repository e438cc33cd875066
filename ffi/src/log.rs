//! What the library has to tell besides its results: to a function of the application, or nobody.

use std::sync::{Arc, PoisonError, RwLock};

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error = 1,
    Warning = 2,
    Info = 3,
}

pub(crate) type Sink = Arc<dyn Fn(Level, &str) + Send + Sync>;

static SINK: RwLock<Option<Sink>> = RwLock::new(None);

/// Who is told from now on.
pub(crate) fn set(sink: Option<Sink>) {
    *SINK.write().unwrap_or_else(PoisonError::into_inner) = sink;
}

fn tell(level: Level, text: &str) {
    // Not locked while it runs: it may set another.
    let sink = SINK.read().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(sink) = sink {
        sink(level, text);
    }
}

pub(crate) fn error(text: &str) {
    tell(Level::Error, text);
}

pub(crate) fn warning(text: &str) {
    tell(Level::Warning, text);
}

pub(crate) fn info(text: &str) {
    tell(Level::Info, text);
}
