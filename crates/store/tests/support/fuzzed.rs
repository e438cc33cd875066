//! What the fuzz targets do, and the tests that go through their corpus.

/// A parcel of stored messages.
pub fn parcel(bytes: &[u8]) {
    iotedge_store::fuzzed::parcel(bytes);
}

/// A damaged queue file and its journal.
pub fn damaged_queue(bytes: &[u8]) {
    let folder = std::env::temp_dir().join(format!("iotedge-fuzz-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir_all(&folder) {
        panic!("{}: {error}", folder.display());
    }
    iotedge_store::fuzzed::damaged_queue(bytes, &folder);
}
