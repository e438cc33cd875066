//! The parts that read bytes from outside and are not reached by a call of C: for fuzz targets and
//! for the tests that go through their corpus.

use serde_json::Value;

pub use crate::json::{Parser, Token};
use crate::shadow::{Section, Shadow};

/// Takes a document for everything that a server can send about a shadow.
pub fn shadow_document(document: &[u8]) {
    crate::compat::take_document(document);
    let Ok(value) = serde_json::from_slice::<Value>(document) else {
        return;
    };
    let mut shadow = Shadow::default();
    for _ in 0..2 {
        shadow.got(&value);
        shadow.updated(&value);
        shadow.differs(&value);
    }
    for section in [Section::Reported, Section::Desired, Section::Delta] {
        for path in ["", "a", "a/b", "a//b/c/", "/"] {
            let known = shadow.get(section, path).cloned();
            let set = shadow.set(section, path, known.unwrap_or_default());
            assert!(set.is_ok() || path.is_empty() || path == "/" || section == Section::Delta);
        }
    }
    if let Some(staged) = shadow.take_document("token") {
        shadow.put_back(staged.clone());
        shadow.put_back(value);
        assert!(shadow.take_document("token").is_some());
    }
}
