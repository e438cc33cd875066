"""Guests: certificates that nobody has registered, from a CA that a listener knows, and what the
listener's policy lets them do."""

import queue

import paho.mqtt.client as paho
import pytest

from harness.clients import Client
from harness.daemon import allow
from harness.ports import free_port
from harness.wait import until

from test_certificates import Fleet, identity_of, register_ca, turned_away

ARN = "arn:aws:iot:local:000000000000:"
NAME = "${iot:Certificate.Subject.CommonName}"
GUEST = allow(
    (["iot:Connect"], [ARN + f"client/{NAME}"]),
    (["iot:Publish"], [ARN + f"topic/guests/{NAME}/*", ARN + "topic/by-id/${iot:CertificateId}"]),
    (["iot:Subscribe"], [ARN + f"topicfilter/guests/{NAME}/#"]),
    (["iot:Receive"], [ARN + f"topic/guests/{NAME}/*"]),
)


class House:
    def __init__(self, daemon, folder):
        self.folder = folder
        self.fleet = Fleet(folder / "fleet")
        self.gateway = daemon(policies={"guest": GUEST})
        self.doors = self.gateway.config["listener"][1:]
        self.doors[1]["protocol"] = ["https", "wss"]
        for door in self.doors:
            door.update(client_ca=str(self.fleet.ca), policy="guest")
        self.gateway.write()
        self.gateway.start()

    def device(self, name):
        return identity_of(self.gateway, self.folder, self.fleet.device(name))

    def connect(self, device, name):
        return Client(name, self.gateway.ports["mqtts"], identity=device).connect()

    def reload(self):
        self.gateway.write()
        return self.gateway.ctl_ok("reload")


@pytest.fixture
def house(daemon, tmp_path):
    return House(daemon, tmp_path)


def test_over_mqtts_a_guest_may_do_what_the_listeners_policy_says(house):
    gateway, device = house.gateway, house.device("pump")
    client = house.connect(device, "pump")
    assert client.subscribe("guests/pump/#") == 1
    client.publish("guests/pump/level", b"7")
    assert client.next().payload == b"7"
    client.publish(f"by-id/{device.id}", b"here")
    since = gateway.process.mark()
    assert client.subscribe("guests/other/#") == 128
    door = house.doors[0]["address"]
    explained = f"policy     guest (for unregistered certificates on {door})"
    gateway.log_explains(device.id, "topicfilter/guests/other/#", explained, since=since)
    assert gateway.ctl_json("cert", "list") == [], "it is not registered by that"
    # Its session is its own, and it comes back to it.
    client.disconnect()
    again = Client("pump", gateway.ports["mqtts"], identity=device, clean=False).connect()
    again.disconnect()
    kept = Client("pump", gateway.ports["mqtts"], identity=device, clean=False).connect()
    assert kept.session_present
    # Another guest may not have its client id.
    turned_away(gateway, house.device("other"), "pump")


def test_over_https_and_wss_it_is_the_same(house):
    gateway, device = house.gateway, house.device("web")
    assert gateway.https("POST", "/topics/guests/web/a?qos=1", device, b"x")[0] == 200
    assert gateway.https("POST", "/topics/guests/other/a?qos=1", device, b"x")[0] == 403
    assert gateway.https("POST", "/topics/guests/web/a?badge=7", device, b"x")[0] == 400
    answers = queue.SimpleQueue()
    client = paho.Client(
        paho.CallbackAPIVersion.VERSION2,
        client_id="web",
        transport="websockets",
        reconnect_on_failure=False,
    )
    client.tls_set(str(device.ca), str(device.certificate), str(device.key))
    client.ws_set_options(path="/mqtt")
    client.on_connect = lambda _c, _d, _f, reason, _p: answers.put(str(reason))
    client.on_subscribe = lambda _c, _d, _m, codes, _p: answers.put([code.value for code in codes])
    client.connect("localhost", gateway.ports["https"])
    client.loop_start()
    assert answers.get(timeout=10) == "Success"
    client.subscribe([("guests/web/#", 1), ("guests/other/#", 1)])
    assert answers.get(timeout=10) == [1, 128]
    client.disconnect()
    client.loop_stop()


def test_a_revocation_list_takes_a_guest_out_at_once_and_for_good(house):
    gateway = house.gateway
    pairs = [house.fleet.device(name) for name in ("good", "bad")]
    good, bad = (identity_of(gateway, house.folder, pair) for pair in pairs)
    clients = [house.connect(good, "good"), house.connect(bad, "bad")]
    crl = house.fleet.revoke(pairs[1][0])
    house.doors[0]["crl"] = str(crl)
    house.reload()
    clients[1].wait_gone()
    clients[0].publish("guests/good/a", b"still here")
    turned_away(gateway, bad, "bad")
    assert gateway.https("POST", "/topics/guests/good/a?qos=1", good, b"x")[0] == 200


def test_who_is_registered_is_no_guest(house):
    gateway, device = house.gateway, house.device("pump")
    client = house.connect(device, "pump")
    # From now on its own status and policies count, for the connection that it has too.
    gateway.ctl_ok("cert", "register", "--pem", device.certificate, "--inactive")
    with pytest.raises(ConnectionError):
        client.publish("guests/pump/a", b"x")
        client.publish("guests/pump/a", b"x")
    turned_away(gateway, device, "pump")
    gateway.ctl_ok("cert", "activate", device.id)
    turned_away(gateway, device, "pump")
    gateway.ctl_ok("policy", "attach", "guest", device.id)
    house.connect(device, "pump").publish("guests/pump/a", b"x")


def test_a_ca_that_registers_its_devices_has_no_guests(house):
    gateway, device = house.gateway, house.device("new")
    register_ca(gateway, house.fleet, "--activate", "--auto-registration")
    turned_away(gateway, device, "new")

    def pending():
        found = gateway.ctl_json("cert", "list")
        return [(c["certificateId"], c["status"]) for c in found] == [
            (device.id, "PENDING_ACTIVATION")
        ]

    until(pending, "it has registered itself")
    turned_away(gateway, device, "new")
    # Without auto-registration its devices are guests again, and switched off it has none.
    gateway.ctl_ok("ca", "auto-registration", house.fleet.id, "off")
    house.connect(house.device("late"), "late").disconnect()
    gateway.ctl_ok("ca", "deactivate", house.fleet.id)
    turned_away(gateway, house.device("later"), "later")


def test_strangers_and_certificates_of_the_gateway_are_no_guests(house, tmp_path):
    gateway = house.gateway
    stranger = Fleet(tmp_path / "elsewhere", "fleet").device("pump")
    turned_away(gateway, identity_of(gateway, tmp_path, stranger), "pump")
    own = gateway.cert("pump")
    gateway.ctl_ok("cert", "deactivate", own.id)
    gateway.ctl_ok("cert", "delete", own.id)
    since = gateway.process.mark()
    turned_away(gateway, own, "pump")
    gateway.log_explains("not registered", own.id, since=since)


def test_a_reload_changes_what_guests_may_do_and_whether_there_are_any(house):
    gateway, device = house.gateway, house.device("pump")
    client = house.connect(device, "pump")
    gateway.policies["guest"] = allow((["iot:*"], ["*"]))
    house.reload()
    client.publish("anywhere", b"x")
    del house.doors[0]["policy"]
    assert "next start" not in house.reload()
    client.wait_gone()
    turned_away(gateway, device, "pump")
    house.doors[0]["policy"] = "guest"
    assert "next start" not in house.reload()
    house.connect(device, "pump").publish("anywhere", b"x")


def test_a_policy_for_guests_needs_their_ca(daemon):
    gateway = daemon()
    gateway.config["listener"][1]["policy"] = "open"
    gateway.write()
    done = gateway.check()
    assert done.returncode == 1
    assert "listener.policy" in done.stderr + done.stdout
    assert "client_ca" in done.stderr + done.stdout
    gateway.config["listener"][1]["client_ca"] = "/nowhere"
    gateway.config["listener"][1]["policy"] = "unknown"
    gateway.config["listener"][1]["address"] = f"127.0.0.1:{free_port()}"
    gateway.write()
    done = gateway.check()
    assert done.returncode == 1 and "unknown" in done.stderr + done.stdout
