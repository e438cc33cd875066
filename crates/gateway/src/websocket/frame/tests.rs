use super::*;

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Head::new(0, payload.len()).as_bytes().to_vec();
    out[0] = first;
    out[1] |= 0x80;
    let mask = [0x12, 0x34, 0x56, 0x78];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    out
}

const FIN: u8 = 0x80;

/// What comes of these bytes in reads of `step`.
fn take(bytes: &[u8], step: usize) -> (Vec<u8>, Option<Vec<u8>>, Option<End>) {
    let mut deframer = Deframer::new(100_000);
    let mut data = Vec::new();
    for read in bytes.chunks(step) {
        let mut read = read.to_vec();
        let n = deframer.take_apart(&mut read);
        data.extend(&read[..n]);
    }
    (data, deframer.take_pong(), deframer.end())
}

fn violated(bytes: &[u8]) -> Violation {
    let (_, _, end) = take(bytes, bytes.len());
    match end {
        Some(End::Violated(violation)) => violation,
        other => panic!("{other:?}"),
    }
}

#[test]
fn data_comes_out_whole_however_it_is_framed_and_read() {
    let long: Vec<u8> = (0..70_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let bytes = [
        frame(FIN | BINARY, b"one"),
        frame(FIN | BINARY, b""),
        frame(BINARY, b"tw"),
        frame(FIN | PING, b"there?"),
        frame(CONTINUATION, b""),
        frame(FIN | CONTINUATION, b"o"),
        frame(FIN | PONG, b"unasked"),
        frame(FIN | BINARY, &[7; 126]),
        frame(FIN | BINARY, &long),
    ]
    .concat();
    let expected = [b"onetwo".as_slice(), &[7; 126], &long].concat();
    for step in [1, 2, 3, 7, 512, 65_536, bytes.len()] {
        let (data, pong, end) = take(&bytes, step);
        assert_eq!(data, expected, "reads of {step}");
        assert_eq!((pong.as_deref(), end), (Some(&b"there?"[..]), None));
    }
}

#[test]
fn the_data_before_a_violation_is_not_lost() {
    let bytes = [frame(FIN | BINARY, b"good"), frame(FIN | TEXT, b"bad")].concat();
    let (data, _, end) = take(&bytes, bytes.len());
    assert_eq!(data, b"good");
    assert_eq!(end, Some(End::Violated(Violation::Text)));
}

#[test]
fn each_violation_has_its_name_and_code() {
    let unmasked = [FIN | BINARY, 1, 0];
    let long_form = [FIN | BINARY, 0xfe, 0, 125];
    let longer_form = [
        &[FIN | BINARY, 0xff],
        &0xffff_u64.to_be_bytes()[..],
        &[0; 4],
    ]
    .concat();
    let negative = [&[FIN | BINARY, 0xff], &u64::MAX.to_be_bytes()[..], &[0; 4]].concat();
    let unfinished = frame(BINARY, b"x");
    let too_much = [
        frame(BINARY, &[0; 60_000]),
        frame(CONTINUATION, &[0; 40_001]),
    ]
    .concat();
    for (bytes, violation, code) in [
        (
            frame(FIN | 0x40 | BINARY, b""),
            Violation::ReservedBits,
            1002,
        ),
        (frame(FIN | 3, b""), Violation::Opcode(3), 1002),
        (frame(FIN | 15, b""), Violation::Opcode(15), 1002),
        (frame(FIN | TEXT, b"x"), Violation::Text, 1003),
        (unmasked.to_vec(), Violation::NotMasked, 1002),
        ([&long_form[..], &[0; 4]].concat(), Violation::Length, 1002),
        (longer_form, Violation::Length, 1002),
        (negative, Violation::Length, 1002),
        (
            frame(FIN | BINARY, &[0; 100_001]),
            Violation::TooLarge(100_000),
            1009,
        ),
        (too_much, Violation::TooLarge(100_000), 1009),
        (frame(PING, b""), Violation::Control, 1002),
        (frame(FIN | PING, &[0; 126]), Violation::Control, 1002),
        (frame(FIN | CONTINUATION, b""), Violation::Fragments, 1002),
        (
            [unfinished, frame(FIN | BINARY, b"")].concat(),
            Violation::Fragments,
            1002,
        ),
        (frame(FIN | CLOSE, &[3]), Violation::CloseCode, 1002),
        (
            frame(FIN | CLOSE, &1005_u16.to_be_bytes()),
            Violation::CloseCode,
            1002,
        ),
        (
            frame(FIN | CLOSE, &5000_u16.to_be_bytes()),
            Violation::CloseCode,
            1002,
        ),
        (
            frame(FIN | CLOSE, &[3, 0xe8, 0xff]),
            Violation::CloseReason,
            1007,
        ),
    ] {
        assert_eq!(violated(&bytes), violation);
        assert_eq!(violation.close_code(), code, "{violation}");
    }
}

#[test]
fn nothing_is_taken_behind_a_close() {
    for (payload, code) in [(&b""[..], None), (b"\x03\xe9bye", Some(1001))] {
        let bytes = [
            frame(FIN | BINARY, b"a"),
            frame(FIN | CLOSE, payload),
            frame(FIN | BINARY, b"b"),
        ]
        .concat();
        let (data, _, end) = take(&bytes, bytes.len());
        assert_eq!((data.as_slice(), end), (&b"a"[..], Some(End::Closed(code))));
    }
}

#[test]
fn the_last_of_several_pings_is_answered() {
    let bytes = [frame(FIN | PING, b"1"), frame(FIN | PING, b"2")].concat();
    assert_eq!(take(&bytes, bytes.len()).1.as_deref(), Some(&b"2"[..]));
    assert_eq!(pong(b"2"), [0x8a, 1, b'2']);
    assert_eq!(close(1002), [0x88, 2, 0x03, 0xea]);
}

#[test]
fn a_head_has_the_shortest_length() {
    assert_eq!(Head::binary(125).as_bytes(), [0x82, 125]);
    assert_eq!(Head::binary(126).as_bytes(), [0x82, 126, 0, 126]);
    assert_eq!(Head::binary(65_535).as_bytes(), [0x82, 126, 255, 255]);
    assert_eq!(
        Head::binary(65_536).as_bytes(),
        [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]
    );
}
