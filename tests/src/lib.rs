//! Tests of the whole: the walls between the rooms in `tests/`, and the stories in `stories/`,
//! which drive the real binaries from outside.
#![forbid(unsafe_code)]
