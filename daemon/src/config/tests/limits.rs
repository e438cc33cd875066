//! `[broker]`: the defaults of both profiles, and that every key counts.

use super::*;

#[test]
fn a_profile_gives_the_defaults_and_an_explicit_key_wins() {
    let broker = |keys: &str| {
        let folder = Folder::new(&format!("{GOOD}[broker]\n{keys}"));
        folder.load().unwrap().broker
    };
    assert_eq!(broker(""), BrokerConfig::of(Profile::Standard));
    assert_eq!(broker("profile = \"standard\""), BrokerConfig::default());
    let aws = broker("profile = \"aws-iot\"");
    assert_eq!(aws, BrokerConfig::of(Profile::AwsIot));
    assert_eq!(
        (aws.max_payload_bytes, aws.max_packet_bytes),
        (131_072, 149_504)
    );
    assert_eq!((aws.max_subscriptions, aws.max_topic_levels), (50, 8));
    let mixed = broker(
        "profile = \"aws-iot\"\nmax_payload_bytes = \"1MiB\"\nmax_keep_alive = \"unlimited\"\n\
         max_session_expiry = \"7d\"\nmax_message_expiry = \"unlimited\"\nmax_qos = 2\n\
         subscription_identifiers = true",
    );
    let expected = BrokerConfig {
        max_payload_bytes: 1 << 20,
        max_packet_bytes: (1 << 20) + (18 << 10),
        max_keep_alive: None,
        max_session_expiry: 7 * 86_400,
        max_message_expiry: None,
        max_qos: iotedge_model::QoS::ExactlyOnce,
        subscription_identifiers: true,
        ..BrokerConfig::of(Profile::AwsIot)
    };
    assert_eq!(mixed, expected);
}

const HANDBOOK: &str = include_str!("../../../../docs/configuration.md");

/// The rows of the handbook's table of limits: key and both defaults.
fn documented_limits() -> Vec<[&'static str; 3]> {
    let (_, section) = HANDBOOK.split_once("\n## `[broker]`\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let key = cells.next()?.strip_suffix('`')?;
        let [standard, aws] = [cells.next()?, cells.next()?].map(|c| c.trim_matches('`'));
        // Other tables of the section have no column of their own for each profile.
        cells.next().map(|_| [key, standard, aws])
    });
    rows.collect()
}

#[test]
fn the_handbook_tells_the_defaults_of_both_profiles() {
    let rows = documented_limits();
    assert!(rows.len() > 30, "{rows:?}");
    for [key, standard, aws] in rows {
        for (name, profile, value) in [
            ("standard", Profile::Standard, standard),
            ("aws-iot", Profile::AwsIot, aws),
        ] {
            if key == "max_packet_bytes" {
                let default = BrokerConfig::of(profile);
                let around = default.max_packet_bytes - default.max_payload_bytes;
                let around = format!("payload + `\"{}\"", units::size_text(around as u64));
                assert_eq!(value, around);
                continue;
            }
            let value = value.replace(',', "");
            let line = format!("[broker]\nprofile = \"{name}\"\n{key} = {value}");
            let folder = Folder::new(&format!("{GOOD}{line}"));
            let broker = folder
                .load()
                .unwrap_or_else(|e| panic!("{line}: {e}"))
                .broker;
            assert_eq!(broker, BrokerConfig::of(profile), "{line}");
        }
    }
}

/// A key that is read and put nowhere would be ignored silently: each one changes the
/// configuration, whatever the profile.
#[test]
fn every_limit_of_the_broker_is_read() {
    let keys = [
        "max_connections = 7",
        "max_connects_per_client = 7",
        "max_websocket_duration = \"7s\"",
        "connect_timeout = \"7s\"",
        "write_timeout = \"7s\"",
        "max_client_id_bytes = 7",
        "min_keep_alive = \"7s\"",
        "max_keep_alive = \"77s\"",
        "max_payload_bytes = 700",
        "max_packet_bytes = 700",
        "max_user_property_bytes = 7",
        "max_inflight = 7",
        "max_inflight_bytes = 7000",
        "max_topic_bytes = 7",
        "max_topic_levels = 7",
        "max_qos = 0",
        "max_topic_alias = 7",
        "max_publish_rate = 7",
        "max_delivery_rate = 7",
        "max_bytes_rate = 7000",
        "max_message_expiry = \"7s\"",
        "retain_available = false",
        "retained_max = 7",
        "retained_max_bytes = 7000",
        "max_filters_per_subscribe = 7",
        "max_subscriptions = 7",
        "session_expiry = \"7s\"",
        "max_session_expiry = \"7s\"",
        "max_sessions = 7",
        "max_queued_messages = 7",
        "max_queued_bytes = 7000",
        "max_outbox_messages = 7",
        "max_outbox_bytes = 7000",
        "max_hops = 7",
        "reserved_wills = \"ignore\"",
        "lifecycle_events = false",
        "sys_interval = \"0s\"",
    ];
    let name = |key: &'static str| key.split_once(' ').unwrap().0;
    for key in keys {
        assert!(
            HANDBOOK.contains(&format!("\n| `{}` |", name(key))),
            "{key}"
        );
    }
    let identifiers = [
        "subscription_identifiers = false",
        "subscription_identifiers = true",
    ];
    for [key, ..] in documented_limits() {
        let known = keys.iter().chain(&identifiers);
        assert!(known.into_iter().any(|known| name(known) == key), "{key}");
    }
    let mut seen = Vec::new();
    for profile in [Profile::Standard, Profile::AwsIot] {
        let name = match profile {
            Profile::Standard => "standard",
            Profile::AwsIot => "aws-iot",
        };
        // Every other value would be a profile's own.
        let other = match profile {
            Profile::Standard => identifiers[0],
            Profile::AwsIot => identifiers[1],
        };
        for key in keys.into_iter().chain([other]) {
            let folder = Folder::new(&format!("{GOOD}[broker]\nprofile = \"{name}\"\n{key}"));
            let broker = folder.load().unwrap().broker;
            assert_ne!(broker, BrokerConfig::of(profile), "{key}");
            assert!(!seen.contains(&broker), "{key} is another key's value");
            seen.push(broker);
        }
    }
}
