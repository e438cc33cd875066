//! What of an upstream would fail later is told by the check.

use super::*;

/// What is told of one upstream with these keys and one route.
fn of(keys: &str, route: &str) -> Vec<String> {
    problems_of(&format!(
        "[[upstream]]\nname = \"c\"\nurl = \"mqtt://h\"\n{keys}\n[[upstream.route]]\n{route}\n"
    ))
}

fn one(found: Vec<String>, key: &str, words: &str) {
    assert_eq!(found.len(), 1, "{found:#?}");
    let at = format!(": upstream.{key}: ");
    assert!(
        found[0].contains(&at) && found[0].contains(words),
        "{found:#?}"
    );
    assert!(found[0].starts_with("iotedge.toml:"), "{found:#?}");
}

const OUT: &str = "direction = \"out\"\nfilter = \"tm/+/x\"\n";
const IN: &str = "direction = \"in\"\nfilter = \"a/#\"\n";

#[test]
fn inbound_routes_that_share_topics_are_told_at_the_second() {
    let found = of(
        "",
        &format!("{IN}[[upstream.route]]\ndirection = \"in\"\nfilter = \"a/+\""),
    );
    assert_eq!(found.len(), 1, "{found:#?}");
    let told = &found[0];
    assert!(
        told.starts_with("iotedge.toml:21: upstream.route.filter: takes some"),
        "{told}"
    );
    assert!(told.contains("\"in:a/#\" at iotedge.toml:18"), "{told}");
    let apart = format!("{IN}remote_prefix = \"p/\"\nname = \"p\"\n[[upstream.route]]\n{IN}");
    assert!(of("", &apart).is_empty());
}

#[test]
fn a_key_of_the_other_direction_is_told_once() {
    for key in [
        "local_topic = \"x\"",
        "take_retained = true",
        "decompress = true",
    ] {
        let name = key.split(' ').next().unwrap();
        one(
            of("", &format!("{OUT}{key}")),
            &format!("route.{name}"),
            "only for routes with direction = \"in\"",
        );
    }
    for key in [
        "remote_topic = \"x\"",
        "send_retained = true",
        "not_from = [\"x\"]",
    ] {
        let name = key.split(' ').next().unwrap();
        one(
            of("", &format!("{IN}{key}")),
            &format!("route.{name}"),
            "only for routes with direction = \"out\"",
        );
    }
    let neither = of("", "filter = \"a\"\nlocal_topic = \"x\"");
    one(neither, "route.direction", "missing");
}

#[test]
fn what_would_do_nothing_or_always_fail_is_refused() {
    let route = |more: &str| of("", &format!("{OUT}{more}"));
    one(route("not_from = [\"\"]"), "route.not_from", "no client id");
    one(
        route("remote_topic = \"o/${topic(2)}/${topic(4)}\""),
        "route.remote_topic",
        "\"tm/+/x\" has no level 4",
    );
    assert!(route("remote_topic = \"o/${topic(3)}\"").is_empty());
    let open = "direction = \"out\"\nfilter = \"tm/#\"\nremote_topic = \"o/${topic(4)}\"";
    assert!(of("", open).is_empty(), "some topics have it");
    let prefixed = format!("{OUT}local_prefix = \"p/\"\nremote_topic = \"o/${{topic(4)}}\"");
    assert!(of("", &prefixed).is_empty());
    one(
        route("idempotency_key = \"property\""),
        "route.idempotency_key",
        "mqtt_version = \"5\"",
    );
    assert!(
        of(
            "mqtt_version = \"5\"",
            &format!("{OUT}idempotency_key = \"property\"")
        )
        .is_empty()
    );
    let shared = "direction = \"out\"\nfilter = \"$share/g/a\"";
    one(of("", shared), "route.filter", "shared subscription");
    let broken = "direction = \"out\"\nfilter = \"+/x\"\nlocal_prefix = \"a\"";
    one(of("", broken), "route.local_prefix", "\"a+/x\"");
    one(of("window = []", OUT), "window", "leave the key out");
    one(
        of("max_payload_bytes = \"100MiB\"", OUT),
        "max_payload_bytes",
        "broker.max_packet_bytes",
    );
}

#[test]
fn a_password_is_there_before_the_start() {
    one(
        of("username = \"u\"\npassword_file = \"none\"", OUT),
        "password_file",
        "No such file",
    );
    let folder = Folder::new(&format!(
        "{GOOD}[[upstream]]\nname = \"c\"\nurl = \"mqtt://h\"\nusername = \"u\"\npassword_file = \"p\"\n"
    ));
    folder.put("p", "\r\n");
    one(folder.problems(), "password_file", "is empty");
    folder.put("p", "secret\n");
    assert!(folder.problems().is_empty());
    let proxy = "proxy = \"http://p\"\nproxy_username = \"u\"\nproxy_password_file = \"none\"";
    one(of(proxy, OUT), "proxy_password_file", "No such file");
}

#[test]
fn a_certificate_goes_with_its_own_key() {
    let folder = Folder::new(&format!(
        "{GOOD}[[upstream]]\nname = \"c\"\nurl = \"mqtts://h\"\ncertificate = \"c.pem\"\nkey = \"c.key\"\n"
    ));
    folder.put_keys();
    assert_eq!(folder.problems(), Vec::<String>::new());
    let other = tempfile::tempdir().unwrap();
    iotedge_identity::CertificateAuthority::open(other.path()).unwrap();
    folder.put(
        "c.key",
        &fs::read_to_string(other.path().join("ca.key")).unwrap(),
    );
    one(
        folder.problems(),
        "key",
        "is not the key of the certificate in",
    );
}

#[test]
fn two_links_to_one_broker_have_two_client_ids() {
    let two = |first: &str, second: &str| {
        problems_of(&format!(
            "[[upstream]]\nname = \"a\"\n{first}\n[[upstream]]\nname = \"b\"\n{second}\n"
        ))
    };
    let (here, again) = ("url = \"mqtt://h\"", "url = \"ws://H:1883/x\"");
    one(two(here, again), "client_id", "of the upstream \"a\" too");
    let named = |id: &str| format!("{here}\nclient_id = \"{id}\"");
    one(
        two(&named("x"), &named("x")),
        "client_id",
        "push each other out",
    );
    assert!(two(here, &named("x")).is_empty());
    assert!(two(here, "url = \"mqtt://h:1884\"").is_empty());
}
