//! libiotedge.
