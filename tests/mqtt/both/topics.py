"""Topic names and topic filters (4.7 in both)."""

import pytest

NAME_INVALID, FILTER_INVALID, MALFORMED, PROTOCOL_ERROR = 0x90, 0x8F, 0x81, 0x82
MATCHES = {
    # The examples of 4.7.1 and 4.7.2, and their neighbours.
    "sport/tennis/player1/#": [
        "sport/tennis/player1", "sport/tennis/player1/ranking",
        "sport/tennis/player1/score/wimbledon", "sport/tennis/player1/",
    ],
    "sport/#": ["sport", "sport/", "sport/tennis", "sport/tennis/player1"],
    "sport/tennis/+": ["sport/tennis/player1", "sport/tennis/player2", "sport/tennis/"],
    "sport/+": ["sport/", "sport/tennis"],
    "+/+": ["/finance", "sport/", "sport/tennis"],
    "/+": ["/finance"],
    "+/tennis/#": ["sport/tennis", "sport/tennis/player1"],
    "sport/+/player1": ["sport/tennis/player1", "sport//player1"],
    "+": ["sport", "finance"],
    "/": ["/"],
    "//": ["//"],
    "sport": ["sport"],
}
ALL = sorted({topic for topics in MATCHES.values() for topic in topics} | {
    "Sport", "sports", "sport/tennis/player1/ranking/x", "tennis/sport", "///", "sport/tennis/player11",
})
BAD_HASH = ["a#", "a/b#", "#/a", "a/#/b", "##", "a/##", "#a", "a/#b"]
BAD_PLUS = ["a+", "a/b+", "+a", "a/+b/c", "++", "a/++", "+#", "a/+#"]


def _matched(mqtt, filter, prefix):
    """The names from ALL that come through the filter, both below a level of the test's own."""
    end = mqtt.topic("end")
    sub, pub = mqtt.subscriber((prefix + filter, 0), (end, 0)), mqtt.client()
    for name in ALL:
        pub.publish(prefix + name, b"", qos=0)
    pub.publish(end, b"", qos=0)
    return [message.topic.removeprefix(prefix) for message in sub.until(end)]


def _expected(filter):
    """By the definition of 4.7.1, written another way than any broker does."""
    def fits(levels, name):
        if not levels or levels[0] == "#":
            return bool(levels) or not name
        return bool(name) and levels[0] in ("+", name[0]) and fits(levels[1:], name[1:])

    return [name for name in ALL if fits(filter.split("/"), name.split("/"))]


def _will(mqtt, topic, payload, code):
    """A will to this topic is refused."""
    mqtt.rejects(mqtt.wire.connect(mqtt.id("w"), **mqtt.will(topic, payload, 0)), code=code)


@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+", "+/a", "a/b#", "a+"])
def wildcards_in_a_topic_name_close(mqtt, topic):
    mqtt.ends(mqtt.wire.publish(topic, b"x"), code=NAME_INVALID)
    _will(mqtt, topic, b"", NAME_INVALID)


@pytest.mark.parametrize("filter", [f for f in MATCHES if "#" in f])
def the_multi_level_wildcard_matches_its_parent_and_all_below(mqtt, filter):
    got = _matched(mqtt, filter, mqtt.topic(""))
    assert got == _expected(filter)
    assert set(MATCHES[filter]) <= set(got)


@pytest.mark.parametrize("filter", [f for f in MATCHES if "#" not in f])
def the_single_level_wildcard_matches_one_level(mqtt, filter):
    got = _matched(mqtt, filter, mqtt.topic(""))
    assert got == _expected(filter)
    assert set(MATCHES[filter]) <= set(got)


def leading_wildcards_do_not_match_topics_with_a_dollar(mqtt):
    """A shadow's topic: our gateway answers on it, any other broker passes the message on."""
    shadow = f"$aws/things/{mqtt.id()}/shadow"
    end = mqtt.topic("end")
    wild = [
        mqtt.subscriber((filter, 0), (end, 0))
        for filter in ("#", "+/#", "+/things/+/shadow/#", f"+/things/{mqtt.id()}/shadow/get/+")
    ]
    named = mqtt.subscriber((f"{shadow}/get/#", 0), (end, 0))
    pub = mqtt.client()
    pub.publish(f"{shadow}/get", b"")
    assert named.take().topic.startswith(shadow)
    pub.publish(end, b"")
    for sub in wild:
        assert [m.topic for m in sub.until(end) if m.topic.startswith("$")] == []


def an_empty_topic_or_filter_closes(mqtt):
    say = mqtt.wire
    for qos in (0, 1):
        mqtt.ends(say.publish("", b"x", qos=qos), code=PROTOCOL_ERROR)
    for empty in (say.subscribe([("", 0)]), say.subscribe([("a", 0), ("", 0)]), say.unsubscribe([""])):
        mqtt.ends(empty, code=FILTER_INVALID)
    _will(mqtt, "", b"x", NAME_INVALID)


def a_single_character_is_enough(mqtt):
    sub = mqtt.subscriber(("/", 1))
    mqtt.client().publish("/", b"x")
    assert sub.take().topic == "/"


@pytest.mark.parametrize("name", ["\0", "a\0", "a/\0/b"])
def nul_in_a_topic_or_filter_closes(mqtt, name):
    say = mqtt.wire
    for data in (say.publish(name, b"x"), say.subscribe([(name, 0)]), say.unsubscribe([name])):
        mqtt.ends(data, code=MALFORMED)
    _will(mqtt, name, b"x", MALFORMED)


@pytest.mark.parametrize("letter", ["x", "é"])
def a_topic_may_have_65535_bytes(mqtt, letter):
    topic = mqtt.topic("")
    topic += letter * ((65535 - len(topic)) // len(letter.encode()))
    topic += "x" * (65535 - len(topic.encode()))
    sub = mqtt.subscriber((topic, 1))
    mqtt.client().publish(topic, b"x")
    assert sub.take().topic == topic


SAME_TO_THE_EYE = {
    "case": ("Accounts", "ACCOUNTS"),
    "composed-and-decomposed": ("caf\u00e9", "cafe\u0301"),
    "wide-letters": ("\uff21", "A"),
    "ligature": ("\ufb01", "fi"),
    "greek-and-latin": ("\u0391", "A"),
    "space": ("a b", "a\u00a0b"),
    "trailing-space": ("a", "a "),
    "replacement-character": ("\ufffd", "\ue000"),
    "outside-the-basic-plane": ("\U0001f600", "\ufffd"),
}


@pytest.mark.parametrize("names", SAME_TO_THE_EYE.values(), ids=SAME_TO_THE_EYE)
def topics_are_compared_as_they_are(mqtt, names):
    end = mqtt.topic("end")
    one, other = (mqtt.topic(name) for name in names)
    subs = {name: mqtt.subscriber((name, 0), (end, 0)) for name in (one, other)}
    pub = mqtt.client()
    for name in (one, other):
        pub.publish(name, name.encode(), qos=0)
    pub.publish(end, b"", qos=0)
    for name, sub in subs.items():
        assert [(m.topic, m.payload) for m in sub.until(end)] == [(name, name.encode())]
