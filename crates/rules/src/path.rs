//! Paths below a folder, made from what a message says.

/// What is wrong with a path below the configured folder; `None` for a good one. Parts are checked
/// again, one by one and without following links, when it is opened.
pub(crate) fn problem(path: &str) -> Option<&'static str> {
    if path.is_empty() || path.len() > 1_024 {
        return Some("a path has 1 to 1,024 bytes");
    }
    if path.contains(|c: char| c.is_control()) {
        return Some("a path has no control characters");
    }
    if path.starts_with('/') {
        return Some("a path begins below the configured folder, and so without '/'");
    }
    for part in path.split('/') {
        if part.is_empty() || part.len() > 200 {
            return Some("each part of a path has 1 to 200 bytes");
        }
        if part.starts_with('.') {
            return Some("no part of a path is '..' or begins with '.'");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn a_path_stays_below_its_folder() {
        for good in ["a", "a/b.json", "2026/01/x y", "a..b", "ä/ö"] {
            assert_eq!(problem(good), None, "{good}");
        }
        for bad in [
            "", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", ".", "a/.", ".hidden", "a\0b",
            "a\nb",
        ] {
            assert!(problem(bad).is_some(), "{bad:?}");
        }
        assert!(problem(&"x".repeat(201)).is_some());
    }
}
