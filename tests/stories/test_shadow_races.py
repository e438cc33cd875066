"""Many who change one shadow at once."""

import http.client
import json
import ssl
import threading

import pytest

from harness import raw
from harness.daemon import allow


@pytest.mark.parametrize("sync", ["full", "50ms"])
def test_optimistic_locking_loses_no_increment(daemon, sync):
    """Each reads a counter and writes it back increased, with the version that it has read: over HTTPS, and
    over MQTT beside it. Whoever was second hears 409 and tries again."""
    writers, increments = 4, 10
    gateway = daemon(
        config={"store": {"sync": sync}, "shadow": {"max_in_flight": 100}},
        policies={"all": allow((["iot:*"], ["*"]))},
    ).start()
    device = gateway.cert("counter", policy="all")
    gateway.ctl_ok("shadow", "update", "counter", '{"state":{"reported":{"n":0}}}')
    conflicts, failures = [], []

    def by_https(_):
        context = ssl.create_default_context(cafile=str(device.ca))
        context.load_cert_chain(str(device.certificate), str(device.key))
        link = http.client.HTTPSConnection("localhost", gateway.ports["https"], context=context, timeout=20)

        def ask(method, body=None):
            link.request(method, "/things/counter/shadow", body=body)
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())

        return ask, link

    def by_mqtt(number):
        link = raw.Connection(gateway.ports["mqtt"], deadline=20)
        link.connect(f"counter-{number}")
        prefix = "$aws/things/counter/shadow"
        answers = ("get/accepted", "update/accepted", "update/rejected")
        link.send(raw.subscribe([(f"{prefix}/{answer}", 0) for answer in answers]))
        # Answers to the others may come first.
        while link.receive(20).kind != raw.SUBACK:
            pass

        def ask(method, body=None):
            token = f"{number}-{threading.get_ident()}"
            document = {**json.loads(body or b"{}"), "clientToken": token}
            word = "get" if method == "GET" else "update"
            link.send(raw.publish(f"{prefix}/{word}", json.dumps(document).encode()))
            while True:
                packet = link.receive(20)
                answer = json.loads(packet.payload) if packet.kind == raw.PUBLISH else {}
                # The answers to the others come here, too.
                if answer.get("clientToken") == token:
                    return answer.get("code", 200), answer

        return ask, link

    def count(number):
        try:
            ask, link = (by_mqtt if number % 2 else by_https)(number)
            done = 0
            while done < increments:
                status, document = ask("GET")
                assert status == 200, document
                n = document["state"]["reported"]["n"]
                request = {"state": {"reported": {"n": n + 1}}, "version": document["version"]}
                status, answer = ask("POST", json.dumps(request).encode())
                if status == 409:
                    assert answer["message"] == "Version conflict"
                    conflicts.append(number)
                    continue
                assert status == 200, answer
                assert answer["version"] == document["version"] + 1
                done += 1
            link.close()
        except Exception as error:  # noqa: BLE001 - told by the story's own thread
            failures.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=count, args=(number,)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    document = gateway.ctl_json("shadow", "get", "counter")
    assert document["state"]["reported"]["n"] == writers * increments
    assert document["version"] == writers * increments + 1
    assert conflicts, "they have met"


def test_a_flood_of_one_thing_is_refused_with_429_and_nobody_else_is(daemon):
    gateway = daemon(config={"store": {"sync": "50ms"}}).start()
    with raw.Connection(gateway.ports["mqtt"], deadline=20) as link:
        link.connect("flood")
        assert link.subscribe(("$aws/things/+/shadow/update/+", 0)) == [0]

        def update(thing, n):
            body = json.dumps({"state": {"reported": {"n": n}}, "clientToken": f"{thing}-{n}"})
            return raw.publish(f"$aws/things/{thing}/shadow/update", body.encode())

        # In one write: the flood first, the others behind it, all within the time that a commit lingers.
        link.send(b"".join(
            [update("flood", n) for n in range(60)] + [update(f"calm-{n}", n) for n in range(20)]))
        answers = {}
        while len(answers) < 80:
            packet = link.receive(20)
            document = json.loads(packet.payload)
            if "clientToken" in document and "previous" not in document:
                answers[document["clientToken"]] = document.get("code", 200)
    assert all(answers[f"calm-{n}-{n}"] == 200 for n in range(20))
    flood = [answers[f"flood-{n}"] for n in range(60)]
    assert flood[:10] == [200] * 10
    assert set(flood[10:]) <= {200, 429} and 429 in flood
    accepted = flood.count(200)
    assert gateway.ctl_json("shadow", "get", "flood")["version"] == accepted
