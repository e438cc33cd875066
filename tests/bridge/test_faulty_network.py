"""A network that delays, reorders, starves, stalls and cuts: all arrives, in order, and no more comes
twice than was in flight."""

import time

import pytest
from far.gateway import balanced, config, knock, numbered, numbers, publish
from far.proxy import DOWN, UP
from harness import raw
from harness.wait import until

WINDOW = 100


def arrives(gateway, broker, count, deadline=60):
    broker.wait_count(count, deadline)
    assert numbers(broker.firsts()) == list(range(count))
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert route["accepted"] == route["delivered"] == count and balanced(route), route
    return len(broker.got) - count


def test_acknowledgements_that_overtake_each_other(daemon, far, network):
    """They free their messages one by one, and the connection stays."""
    broker = far()
    proxy = network(broker.port)
    proxy.reorder = 17
    gateway = daemon(config=config(proxy.port)).start()
    gateway.wait_link("cloud")
    publish(gateway, numbered(0, 1000))
    assert arrives(gateway, broker, 1000) == 0
    assert proxy.connections == 1


def test_a_cut_behind_acknowledgements_that_overtook(daemon, far, network):
    """Those before the last one acknowledged go again, the acknowledged ones do not."""
    broker = far()
    proxy = network(broker.port)
    gateway = daemon(config=config(proxy.port)).start()
    gateway.wait_link("cloud")
    publish(gateway, numbered(0, 10))
    broker.wait_count(10)
    proxy.reorder = 23
    proxy.cut_at(DOWN, raw.PUBACK, 3)
    publish(gateway, numbered(10, 600))
    proxy.wait_connections(2)
    assert arrives(gateway, broker, 600) <= WINDOW


@pytest.mark.parametrize("packet,count", [
    (raw.CONNECT, 1), (raw.PUBLISH, 1), (raw.PUBLISH, 2), (raw.PUBLISH, 37),
])
def test_cut_at_each_packet_up(daemon, far, network, packet, count):
    broker = far()
    proxy = network(broker.port)
    proxy.cut_at(UP, packet, count)
    gateway = daemon(config=config(proxy.port)).start()
    publish(gateway, numbered(0, 50))
    proxy.wait_connections(2)
    assert arrives(gateway, broker, 50) <= WINDOW


@pytest.mark.parametrize("packet,count", [(raw.CONNACK, 1), (raw.PUBACK, 1), (raw.PUBACK, 20)])
def test_cut_at_each_packet_down(daemon, far, network, packet, count):
    broker = far()
    proxy = network(broker.port)
    proxy.cut_at(DOWN, packet, count)
    gateway = daemon(config=config(proxy.port)).start()
    publish(gateway, numbered(0, 50))
    proxy.wait_connections(2)
    assert arrives(gateway, broker, 50) <= WINDOW


def test_a_slow_link_is_no_dead_link(daemon, far, network):
    """20 KB a second for 100 KB: it takes longer than the keep-alive, and the connection stays."""
    broker = far()
    proxy = network(broker.port)
    gateway = daemon(config=config(proxy.port)).start()
    gateway.wait_link("cloud")
    proxy.bytes_per_second = 20_000
    publish(gateway, numbered(0, 500))
    assert arrives(gateway, broker, 500) == 0
    assert proxy.connections == 1


def test_what_matters_more_waits_little_on_a_slow_link(daemon, far, network):
    """30 KB a second behind a backlog of 900 KB, which takes half a minute: an alarm is there in a few
    seconds, for no more is under way than the line carries in about one."""
    broker = far()
    proxy = network(broker.port)
    proxy.bytes_per_second = 30_000
    bulk = {"direction": "out", "filter": "t/#", "qos": 1, "priority": 0}
    alarm = {"direction": "out", "filter": "alarm/#", "qos": 1, "priority": 9}
    gateway = daemon(config=config(proxy.port, bulk, alarm, max_inflight=10_000)).start()
    gateway.wait_link("cloud")
    publish(gateway, [("t/x", b"%04d" % n * 750) for n in range(300)])
    # The first of the backlog have shown how slow it is.
    broker.wait_count(120, 60)
    began = time.monotonic()
    publish(gateway, [("alarm/x", b"fire")], name="near-2")
    broker.wait_payload(b"fire", 30)
    assert time.monotonic() - began < 6
    broker.wait_count(301, 60)
    assert proxy.connections == 1


def test_a_long_way_does_not_empty_the_window(daemon, far, network):
    """100 ms each way: 500 messages go in windows of 100, not one by one."""
    broker = far()
    proxy = network(broker.port)
    gateway = daemon(config=config(proxy.port)).start()
    gateway.wait_link("cloud")
    proxy.delay = 0.1
    publish(gateway, numbered(0, 500))
    # One by one it would be 100 seconds.
    assert arrives(gateway, broker, 500, deadline=20) == 0
    assert proxy.connections == 1


@pytest.mark.slow
def test_a_stall_without_fin(daemon, far, network):
    """Messages in flight when everything stops, and no word about it: they go again later."""
    broker = far()
    proxy = network(broker.port)
    gateway = daemon(config=config(proxy.port, keep_alive=5)).start()
    gateway.wait_link("cloud")
    publish(gateway, numbered(0, 50))
    broker.wait_count(50)
    proxy.stall()
    publish(gateway, numbered(50, 200))
    until(lambda: gateway.link("cloud")["state"] == "backing-off", "the stall is noticed", 60, every=0.2)
    proxy.flow()
    knock(gateway)
    assert arrives(gateway, broker, 200) <= WINDOW


def test_connections_that_are_cut_after_so_many_bytes_make_no_dead_letters(daemon, far, network):
    """Each connection carries 3 KB: a message of 5 KB can not go. It is no dead letter, those of other
    topics pass it, and it goes when the network lets it."""
    broker = far()
    proxy = network(broker.port)
    gateway = daemon(config=config(proxy.port)).start()
    proxy.cut_after = 3000
    publish(gateway, [("t/large", b"large".ljust(5000, b".")), *numbered(0, 100)])
    for n in range(1, 400):
        if len(set(broker.payloads("t/x"))) == 100:
            break
        proxy.wait_connections(n)
        knock(gateway)
    route = gateway.route("cloud")
    assert not route["dropped"] and route["queued"] >= 1, route
    assert numbers(broker.firsts("t/x")) == list(range(100))
    assert not broker.payloads("t/large")
    proxy.flow()
    knock(gateway)
    broker.wait(lambda b: b.payloads("t/large"), "the large one", 60)
    route = until(lambda: (r := gateway.route("cloud"))["queued"] == 0 and r, "the queue is empty", every=0.1)
    assert not route["dropped"] and balanced(route), route


def test_a_link_that_is_cut_five_times_at_one_message(daemon, far, network):
    broker = far()
    proxy = network(broker.port)
    proxy.cut_at(UP, raw.PUBLISH)
    gateway = daemon(config=config(proxy.port)).start()
    publish(gateway, numbered(0, 50))
    for n in range(2, 7):
        proxy.wait_connections(n)
        if n < 6:
            proxy.cut_at(UP, raw.PUBLISH)
        knock(gateway)
    assert arrives(gateway, broker, 50) <= WINDOW


def test_the_proxy_itself(far, network):
    """Known traffic through each fault, before it judges the bridge."""
    broker = far()
    proxy = network(broker.port, seed=7)
    with raw.Connection(proxy.port) as link:
        link.connect("x")
        proxy.reorder = 50
        link.send(*(raw.publish("a", b"%d" % n, 1, n) for n in range(1, 51)))
        ids = [link.expect(raw.PUBACK).packet_id for _ in range(50)]
        assert sorted(ids) == list(range(1, 51)) and ids != sorted(ids)
        proxy.reorder = 0
        proxy.stall()
        link.send(raw.pingreq())
        with pytest.raises(TimeoutError):
            link.receive(0.2)
        proxy.flow()
        link.expect(raw.PINGRESP)
        proxy.cut_at(UP, raw.PUBLISH, 2)
        link.send(raw.publish("a", b"", 1, 1))
        link.expect(raw.PUBACK)
        link.send(raw.publish("a", b"", 1, 2))
        with pytest.raises(raw.Closed):
            link.receive()
    assert len(broker.got) == 51
