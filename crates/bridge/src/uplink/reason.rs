//! Reason codes in words.

/// A reason code of CONNACK, DISCONNECT, PUBACK or SUBACK in an operator's words (MQTT 3.1.1, 3.2.2.3;
/// MQTT 5, 2.4). Codes of 3.1.1 and of 5 do not meet.
pub fn text(code: u8) -> &'static str {
    match code {
        0x00 => "success",
        0x01 => "the server does not speak this version of MQTT",
        0x02 => "the client id is refused",
        0x03 => "the server is unavailable",
        0x04 => "bad user name or password",
        0x05 => "not authorized",
        0x10 => "no matching subscribers",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "the server's implementation does not accept it",
        0x84 => "the server does not speak this version of MQTT",
        0x85 => "the client id is refused",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "the server is unavailable",
        0x89 => "the server is busy",
        0x8A => "banned",
        0x8B => "the server shuts down",
        0x8C => "bad authentication method",
        0x8D => "keep alive timeout",
        0x8E => "the session was taken over: another client has the same client id",
        0x8F => "the topic filter is refused",
        0x90 => "the topic name is refused",
        0x91 => "the packet id is in use",
        0x92 => "the packet id is not known",
        0x93 => "more messages in flight than the server takes",
        0x94 => "the topic alias is refused",
        0x95 => "the packet is too large",
        0x96 => "the message rate is too high",
        0x97 => "the quota is exceeded",
        0x98 => "administrative action",
        0x99 => "the payload is not what its format indicator says",
        0x9A => "retained messages are not supported",
        0x9B => "the QoS is not supported",
        0x9C => "use another server",
        0x9D => "the server has moved",
        0x9E => "shared subscriptions are not supported",
        0x9F => "too many connections in a short time",
        0xA0 => "the longest time of a connection is over",
        0xA1 => "subscription identifiers are not supported",
        0xA2 => "wildcard subscriptions are not supported",
        _ => "unspecified error",
    }
}

/// Whether time alone may cure a CONNACK's refusal.
pub fn is_temporary(code: u8) -> bool {
    matches!(
        code,
        0x03 | 0x80 | 0x83 | 0x88 | 0x89 | 0x8B | 0x97 | 0x98 | 0x9C | 0x9F
    )
}

/// Text, packet and code in one line; version 3.1.1's codes as decimals, as its standard has them.
pub fn told(packet: &str, code: u8, said: Option<&str>) -> String {
    let text = text(code);
    let number = if code < 0x80 {
        format!("{code}")
    } else {
        format!("0x{code:02X}")
    };
    match said {
        Some(said) => format!("{text} ({packet} {number}: {said:?})"),
        None => format!("{text} ({packet} {number})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_told_with_its_code_and_the_servers_words() {
        assert_eq!(told("CONNACK", 5, None), "not authorized (CONNACK 5)");
        assert_eq!(
            told("DISCONNECT", 0x8E, Some("bye")),
            "the session was taken over: another client has the same client id (DISCONNECT 0x8E: \"bye\")"
        );
    }

    #[test]
    fn what_time_may_cure_is_no_refusal() {
        for code in [3, 0x88, 0x89, 0x97, 0x9F] {
            assert!(is_temporary(code), "{code}");
        }
        for code in [1, 2, 4, 5, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x9D] {
            assert!(!is_temporary(code), "{code}");
        }
    }
}
