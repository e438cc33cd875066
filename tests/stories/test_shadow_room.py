"""No more room for shadows."""

import http.client
import json
import ssl

from harness.daemon import allow


def test_above_the_quota_updates_are_refused_and_deletions_make_room(daemon):
    gateway = daemon(
        config={"store": {"max_bytes": "1MiB"}}, policies={"all": allow((["iot:*"], ["*"]))}
    ).start()
    device = gateway.cert("hoarder", policy="all")
    context = ssl.create_default_context(cafile=str(device.ca))
    context.load_cert_chain(str(device.certificate), str(device.key))

    def connect():
        return http.client.HTTPSConnection("localhost", gateway.ports["https"], context=context, timeout=20)

    link = connect()

    def ask(method, name, state=None):
        body = None if state is None else json.dumps({"state": state})
        link.request(method, f"/things/hoard/shadow?name={name}", body=body)
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())

    large = {"reported": {"k": "x" * 8000}}
    kept = 0
    while True:
        status, answer = ask("POST", f"s{kept}", large)
        if status != 200:
            break
        kept += 1
        assert kept < 1000, "the quota is never met"
    assert (status, answer["code"], answer["message"]) == (500, 500, "Internal service failure")
    assert kept > 20
    # Nothing of it is there, and nothing else is lost.
    assert ask("GET", f"s{kept}")[0] == 404
    assert ask("POST", "s0", {"reported": {"more": 1}})[0] == 500
    gateway.kill()
    gateway.start()
    link = connect()
    for n in range(kept):
        status, document = ask("GET", f"s{n}")
        assert (status, document["version"], document["state"]) == (200, 1, large)
    assert ask("GET", f"s{kept}")[0] == 404
    # What makes room is accepted.
    assert ask("POST", "s0", {"reported": {"k": "small"}})[1]["version"] == 2
    for n in range(1, kept // 2):
        assert ask("DELETE", f"s{n}")[0] == 200
    assert ask("POST", f"s{kept}", large)[0] == 200
