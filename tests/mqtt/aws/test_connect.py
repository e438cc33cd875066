"""CONNECT and CONNACK."""

import pytest
from conformance import wire, wire5


def answer(aws5, *pairs, **how):
    client = aws5.open()
    client.send(wire5.connect(aws5.id(), *pairs, **how))
    return client.expect(wire.CONNACK)


def test_connack_says_what_the_clouds_says(aws5):
    said = dict(answer(aws5, keep_alive=120).properties)
    assert said.pop(wire5.RECEIVE_MAXIMUM) == 100
    assert said.pop(wire5.MAXIMUM_QOS) == 1
    assert said.pop(wire5.MAXIMUM_PACKET) == 149_504
    assert said.pop(wire5.ALIAS_MAXIMUM) == 8
    assert said.pop(wire5.ID_AVAILABLE) == 0
    assert said.pop(wire5.SERVER_KEEP_ALIVE) == 120, "said though it is what was asked for"
    for available in (wire5.RETAIN_AVAILABLE, wire5.WILDCARD_AVAILABLE):
        assert said.pop(available, 1) == 1
    said.pop(wire5.SHARED_AVAILABLE, 1)
    assert not said


@pytest.mark.parametrize(
    "asked, given",
    [(0, 1200), (1, 30), (29, 30), (30, 30), (31, 31), (1200, 1200), (1201, 1200), (65535, 1200)],
)
def test_a_keep_alive_is_30_to_1200_seconds(aws5, asked, given):
    assert answer(aws5, keep_alive=asked).one(wire5.SERVER_KEEP_ALIVE) == given


def test_a_keep_alive_below_30_seconds_is_30_in_3_1_1(aws311):
    client = aws311.client(keep_alive=1)
    with pytest.raises(TimeoutError):
        client.receive(deadline=2.5)
    client.ping()


def test_a_client_id_has_128_bytes(aws):
    for id in (aws.id().ljust(128, "x"), "é" * 62 + aws.id().rjust(4, "x")):
        assert len(id.encode()) == 128
        client = aws.open()
        client.connect(id)
        aws.is_refused(aws.hello(id + "x"), code=0x85, old=2)


def test_a_client_id_that_begins_with_a_dollar_is_reserved(aws):
    aws.is_refused(aws.hello("$" + aws.id()), code=0x85, old=2)


def test_a_client_without_an_id_is_given_one(aws5):
    first, second = aws5.open(), aws5.open()
    ids = [client.connect("").one(wire5.ASSIGNED_ID) for client in (first, second)]
    assert len(set(ids)) == 2


def test_a_3_1_1_client_without_an_id_needs_a_clean_session(aws311):
    aws311.open().connect("")
    aws311.is_refused(wire.connect("", clean=False), old=2)


def test_a_will_of_qos_2_is_refused(aws):
    will = (aws.topic(), b"x", 2, [] if aws.version == 5 else False)
    aws.is_refused(aws.hello(aws.id(), will=will), code=0x9B, old=None)


def test_a_wills_topic_has_256_bytes_and_seven_slashes(aws):
    for just, over in ((sized(256), sized(257)), ("/" * 7, "/" * 8)):
        make = [] if aws.version == 5 else False
        aws.open().connect(aws.id("just"), will=(just, b"x", 1, make))
        aws.is_refused(aws.hello(aws.id("over"), will=(over, b"x", 1, make)), code=0x90, old=5)


def sized(size):
    return "t".ljust(size, "x")


def test_a_second_connection_takes_the_client_id_over(aws):
    first = aws.client("same")
    second = aws.client("same")
    if aws.version == 5:
        [said] = first.closed()
        assert (said.kind, said.code) == (wire.DISCONNECT, 0x8E)
        assert said.one(wire5.REASON_STRING)
    else:
        first.thrown_out()
    second.ping()


def test_enhanced_authentication_is_not_there(aws5):
    client = aws5.open()
    client.send(wire5.connect(aws5.id(), (wire5.AUTH_METHOD, "SCRAM-SHA-1")))
    client.thrown_out(0x8C, wire.CONNACK)
    aws5.is_thrown_out(aws5.client(), wire5.auth(0x19, (wire5.AUTH_METHOD, "x")), code=0x82)


def test_one_client_id_connects_once_a_second(paced):
    client = paced.open()
    client.connect(paced.id())
    paced.is_refused(paced.hello(paced.id()), code=0x97, old=3)
    client.ping()
    paced.open().connect(paced.id("other"))
    # A second later it may, and has the client id for itself.
    with pytest.raises(TimeoutError):
        client.receive(deadline=1.1)
    paced.open().connect(paced.id())
    client.closed()
