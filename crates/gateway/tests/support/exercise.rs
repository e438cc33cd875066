//! What must hold for any bytes in place of WebSocket frames: used by the fuzz target and the
//! replay of its corpus.

use iotedge_gateway::frame::{Deframer, End, Head};

const MAX_MESSAGE: u64 = 1_000;

type Outcome = (Vec<u8>, Option<Vec<u8>>, Option<End>);

fn take(bytes: &[u8], steps: &[usize]) -> Outcome {
    let mut deframer = Deframer::new(MAX_MESSAGE);
    let mut data = Vec::new();
    let mut left = bytes;
    for step in steps.iter().cycle() {
        if left.is_empty() {
            break;
        }
        let (read, rest) = left.split_at((*step).clamp(1, left.len()));
        let mut read = read.to_vec();
        let n = deframer.take_apart(&mut read);
        assert!(n <= read.len());
        data.extend(&read[..n]);
        left = rest;
    }
    if let Some(End::Violated(violation)) = deframer.end() {
        assert!(matches!(violation.close_code(), 1002 | 1003 | 1007 | 1009));
    }
    (data, deframer.take_pong(), deframer.end())
}

/// Takes `data` apart as it stands and as the payload of good frames; however it is read, the same
/// must come out.
pub fn exercise(data: &[u8]) {
    let whole = take(data, &[usize::MAX]);
    assert!(whole.0.len() <= data.len());
    assert!(whole.1.as_ref().is_none_or(|pong| pong.len() <= 125));
    for steps in [&[1][..], &[2, 3, 5, 7], &[13, 1]] {
        assert_eq!(take(data, steps), whole);
    }
    framed(data);
}

/// Good frames of sizes that the data chooses give it back.
fn framed(data: &[u8]) {
    let Some(data) = data.get(..data.len().min(MAX_MESSAGE as usize)) else {
        return;
    };
    let mut bytes = Vec::new();
    let (mut left, mut first) = (data, 2);
    while let Some(size) = left.first() {
        let (payload, rest) = left.split_at((usize::from(*size) + 1).min(left.len()));
        let mut head = Head::binary(payload.len()).as_bytes().to_vec();
        head[0] = first | if rest.is_empty() { 0x80 } else { 0 };
        head[1] |= 0x80;
        let mask = [*size, 2, 3, 0xff];
        bytes.extend(head);
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        bytes.extend([0x89, 0x80, 1, 2, 3, 4]);
        (left, first) = (rest, 0);
    }
    let (found, _, end) = take(&bytes, &[4, 11, 1]);
    assert_eq!((found.as_slice(), end), (data, None));
}
