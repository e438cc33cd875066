//! What must hold for any bytes: used by the fuzz targets and the replay of their corpora.

use iotedge_bridge::Template;
use iotedge_bridge::fuzzed::{self, Found};
use iotedge_model::Topic;

fn texts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let mut parts = data.splitn(N, |b| *b == b'\n');
    let mut texts = [""; N];
    for text in &mut texts {
        *text = std::str::from_utf8(parts.next()?).ok()?;
    }
    Some(texts)
}

/// A template, a topic, a client id and two prefixes, each on its line.
pub fn topics(data: &[u8]) {
    let Some([template, topic, client_id, from, to]) = texts::<5>(data) else {
        return;
    };
    if Topic::new(topic).is_err() {
        return;
    }
    if let Ok(parsed) = Template::parse(template) {
        assert_eq!(parsed.as_str(), template);
        if let Ok(made) = fuzzed::render(&parsed, topic, client_id) {
            assert!(Topic::new(made.as_str()).is_ok());
            if !template.contains("${") {
                assert_eq!(made.as_str(), template);
            }
        }
    }
    if let Ok(there) = fuzzed::map(topic, from, to) {
        assert!(Topic::new(there.as_str()).is_ok());
        if topic.starts_with(from) {
            let back = fuzzed::map(there.as_str(), to, from).expect("the way back");
            assert_eq!(back.as_str(), topic);
        }
    }
}

/// A limit in the first byte, in eighths of a KiB, and a payload.
pub fn payload(data: &[u8]) {
    let Some((limit, payload)) = data.split_first() else {
        return;
    };
    let most = usize::from(*limit) * 128;
    if let Found::Payload(found) = fuzzed::decompress(payload, most) {
        assert!(found.len() <= most);
    }
    if let Some(packed) = fuzzed::compress(payload) {
        let out = fuzzed::decompress(&packed, payload.len());
        assert_eq!(out, Found::Payload(payload.to_vec()));
        if let Some(less) = payload.len().checked_sub(1) {
            assert_eq!(fuzzed::decompress(&packed, less), Found::TooLarge);
        }
    }
    if let Some(with) = fuzzed::with_member(payload, "id", "a\"b") {
        type Object = serde_json::Map<String, serde_json::Value>;
        let before: Result<Object, _> = serde_json::from_slice(payload);
        let after: Result<Object, _> = serde_json::from_slice(&with);
        // What is skipped over may be more than this reader takes: numbers without end, deep ones.
        if let Ok(before) = before {
            let mut after = after.expect("an object stays one");
            assert_eq!(after.remove("id"), Some("a\"b".into()));
            assert_eq!(after, before);
        }
    }
}

/// The way in the first byte, and the proxy's answers.
pub fn proxy(data: &[u8]) {
    let Some((way, answers)) = data.split_first() else {
        return;
    };
    let login = (way & 2 != 0).then_some(("gateway", "secret"));
    let socks = way & 1 != 0;
    let url = ["mqtt://broker.example", "mqtts://[::1]:8883"][usize::from(way >> 2 & 1)];
    let passed = fuzzed::proxy(url, socks, login, answers).expect("a URL");
    // All that comes is there: it is never waited for.
    let (outcome, left) = passed.expect("an end");
    assert!(answers.ends_with(left));
    let taken = answers.len() - left.len();
    assert!(taken <= 8192, "{taken} bytes for an answer");
    match outcome {
        Ok(()) if socks => assert_eq!(answers.first(), Some(&5)),
        Ok(()) => {
            assert!(answers.starts_with(b"HTTP/1."));
            assert!(answers[..taken].ends_with(b"\r\n\r\n"), "not a byte more");
        }
        Err(ended) => assert!(!ended.text.is_empty()),
    }
}
