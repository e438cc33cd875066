"""The tools that tell the stories, against a broker that is known: they must be right first."""

import pytest

from harness import pki, raw
from harness.clients import Client
from harness.netns import Loopback
from harness.ports import free_port
from harness.process import Process
from harness.serial_line import Feeder
from harness.traffic import Collector, Publisher
from harness.wait import Late


def test_raw_packets_are_understood(upstream):
    broker = upstream().start()
    with raw.Connection(broker.port) as a, raw.Connection(broker.port) as b:
        assert not a.connect("a").session_present
        b.connect("b", will=("gone/b", b"b went", 1, False))
        assert a.subscribe(("x/#", 1), ("gone/+", 1)) == [1, 1]
        b.send(raw.publish("x/y", b"hello", qos=1, packet_id=7))
        assert b.expect(raw.PUBACK).packet_id == 7
        got = a.expect(raw.PUBLISH)
        assert (got.topic, got.payload, got.qos, got.dup) == ("x/y", b"hello", 1, False)
        a.send(raw.puback(got.packet_id))
        a.ping()
        b.send(raw.publish("x/" + "long" * 50, b"z" * 300))
        got = a.expect(raw.PUBLISH)
        assert got.payload == b"z" * 300 and got.qos == 0
        b.close()
        assert a.expect(raw.PUBLISH).topic == "gone/b"
        a.send(raw.packet(raw.SUBSCRIBE, 0, b""))
        assert a.closed() == []


def test_paho_and_certificates(upstream, tmp_path):
    authority = pki.make_ca(tmp_path / "pki", "test-ca")
    server = pki.sign(tmp_path / "pki", "server", authority, san="DNS:localhost,IP:127.0.0.1")
    broker = upstream(tls=server).start()
    device = pki.sign(tmp_path / "pki", "device", authority)
    client = Client("c", broker.port, identity=device).connect()
    assert client.subscribe("t", 1) == 1
    client.publish("t", b"1", qos=1)
    client.publish("t", b"0", qos=0)
    assert [m.payload for m in client.collect(2)] == [b"1", b"0"]
    with raw.Connection(broker.port, identity=device) as link:
        link.connect("raw")
        link.ping()
    client.disconnect()


def test_mosquitto_keeps_a_session_over_a_stop(upstream):
    broker = upstream().start()
    with raw.Connection(broker.port) as a:
        a.connect("keeper", clean=False)
        assert a.subscribe(("t", 1)) == [1]
    with raw.Connection(broker.port) as b:
        b.connect("b")
        b.send(raw.publish("t", b"kept", qos=1))
        b.expect(raw.PUBACK)
    broker.stop()
    broker.start()
    with raw.Connection(broker.port) as a:
        assert a.connect("keeper", clean=False).session_present
        assert a.expect(raw.PUBLISH).payload == b"kept"


def test_a_fed_line_comes_out_at_the_far_end(serial_line):
    serial_line.plug()
    with open(serial_line.far, "rb", buffering=0) as far:
        feeder = Feeder(serial_line, [b"%d\n" % n for n in range(500)], per_second=5000).start()
        got = b""
        while got.count(b"\n") < 500:
            got += far.read(4096)
        feeder.join(5)
        feeder.stop()
    assert got == b"".join(b"%d\n" % n for n in range(500))
    serial_line.unplug()
    serial_line.plug()


def test_a_line_of_output_is_waited_for():
    child = Process(["sh", "-c", "echo one; echo two; exec sleep 60"], "child")
    assert child.wait_for_line("^t(wo)$").group(1) == "wo"
    with pytest.raises(Late, match="not within"):
        child.wait_for_line("three", deadline=0.1)
    assert child.kill() == -9
    assert free_port() != free_port()


def test_a_publisher_and_a_collector_go_on_over_a_stop(upstream, tmp_path):
    authority = pki.make_ca(tmp_path / "pki", "test-ca")
    server = pki.sign(tmp_path / "pki", "server", authority, san="DNS:localhost,IP:127.0.0.1")
    device = pki.sign(tmp_path / "pki", "device", authority)
    broker = upstream(tls=server).start()
    collector = Collector("collector", broker.port, "t", identity=device).start()
    payloads = [b'{"source":"t","n":%d}' % n for n in range(600)]
    publisher = Publisher("p", broker.port, device, "t", payloads, per_second=1000).start()
    publisher.wait_acked(150, deadline=10)
    broker.stop()
    broker.start()
    publisher.wait_acked(350, deadline=10)
    broker.stop()
    broker.start()
    publisher.join(20)
    collector.wait_number("t", 599, deadline=10)
    publisher.stop()
    collector.stop()
    got = [payload for _, payload in collector.messages]
    assert list(dict.fromkeys(got)) == payloads
    assert publisher.reconnects == 2


def test_a_network_of_ones_own():
    net = Loopback()
    server = net.start(["socat", "-d", "-d", "tcp-listen:1883,bind=127.0.0.1", "exec:echo hello"], "socat")
    server.wait_for_line("listening on")
    assert net.run(["socat", "-u", "tcp:127.0.0.1:1883", "-"]).stdout == "hello\n"
    server.destroy()
