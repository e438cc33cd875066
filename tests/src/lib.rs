//! tests of the whole.
