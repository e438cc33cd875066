"""Sessions that outlive their connection."""

import pytest
from conformance import wire, wire5


@pytest.mark.parametrize("asked, given", [(0, []), (3600, []), (3601, [3600]), (0xFFFFFFFF, [3600])])
def test_a_session_is_kept_for_an_hour_at_most(aws5, asked, given):
    client = aws5.open()
    client.send(wire5.connect(aws5.id(), (wire5.SESSION_EXPIRY, asked)))
    assert client.expect(wire.CONNACK).all(wire5.SESSION_EXPIRY) == given


def test_without_an_expiry_a_session_ends_with_its_connection(aws5):
    aws5.client("s").leave()
    client = aws5.open()
    assert not client.connect(aws5.id("s"), clean=False).session_present


def test_a_session_is_resumed_with_what_came_meanwhile(aws):
    aws.away("s", (aws.topic(), 1))
    publisher = aws.client()
    publisher.publish(aws.topic(), b"kept")
    publisher.publish(aws.topic(), b"not kept", qos=0)
    publisher.ping()
    client = aws.back("s")
    assert client.take().payload == b"kept"
    publisher.publish(aws.topic(), b"new")
    assert client.take().payload == b"new"


def test_a_clean_connect_ends_the_session(aws):
    aws.away("s", (aws.topic(), 1))
    aws.client("s").leave()
    client = aws.open()
    client.connect(aws.id("s"), clean=False)
    assert not client.session_present


def test_a_session_of_one_version_is_not_resumed_in_the_other(aws311, aws5):
    id = aws311.id("s")
    old = aws311.open()
    old.connect(id, clean=False)
    old.leave()
    new = aws5.open()
    new.connect(id, (wire5.SESSION_EXPIRY, 60), clean=False)
    assert not new.session_present
    new.leave()
    old = aws311.open()
    old.connect(id, clean=False)
    assert not old.session_present


def test_disconnect_may_shorten_a_session_and_not_begin_one(aws5):
    client = aws5.client("s", (wire5.SESSION_EXPIRY, 60))
    client.leave(0, (wire5.SESSION_EXPIRY, 0))
    client = aws5.client("s", (wire5.SESSION_EXPIRY, 0), clean=False)
    assert not client.session_present
    client.send(wire5.disconnect(0, (wire5.SESSION_EXPIRY, 1)))
    client.thrown_out(0x82)
