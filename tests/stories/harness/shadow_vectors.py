"""The facts of the developer guides about shadows, step by step against a running gateway.

`crates/shadow/tests/vectors/shadow.json` lists them; the shadow room's own tests run the same file with a
clock that they move and a store that they hold. Here each step goes as written, or the other way: what is
written for MQTT over HTTPS, and the reverse.
"""

import base64
import collections
import http.client
import itertools
import json
import pathlib
import sqlite3
import ssl
import urllib.parse
from contextlib import closing

from . import raw

FILE = pathlib.Path(__file__).resolve().parents[3] / "crates/shadow/tests/vectors/shadow.json"
VECTORS = {vector["id"]: vector for vector in json.loads(FILE.read_text())}

METHODS = {"get": "GET", "update": "POST", "delete": "DELETE"}
Step = collections.namedtuple("Step", "messages status body")


def expand(value, index=0):
    """Replaces `{"$str": n}`, `{"$attrs": ...}` and `<index>`."""
    if isinstance(value, dict):
        if "$str" in value:
            return "x" * value["$str"]
        if "$attrs" in value:
            attrs = value["$attrs"]
            return {f"{attrs['prefix']}{i}": attrs["value"] for i in range(1, attrs["count"] + 1)}
        return {key: expand(inner, index) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand(inner, index) for inner in value]
    return index if value == "<index>" else value


def request_bytes(request, index=0):
    if request is None or request == "":
        return b""
    if isinstance(request, dict) and "$raw" in request:
        return request["$raw"].encode()
    if isinstance(request, dict) and "$base64" in request:
        return base64.b64decode(request["$base64"])
    return json.dumps(expand(request, index), ensure_ascii=False).encode()


class Seen:
    """What earlier steps have shown."""

    def __init__(self):
        self.timestamps, self.tokens = [], []

    def matches(self, wanted, found, extra=(), path=""):
        """Whether `found` is what `wanted` describes; `extra` are paths that may be there, too."""
        if isinstance(wanted, str) and wanted.startswith("<") and wanted.endswith(">"):
            return self.placeholder(wanted[1:-1], found)
        if isinstance(wanted, dict) and "$set" in wanted:
            left = list(found)
            for item in wanted["$set"]:
                hit = next((f for f in left if self.matches(item, f, extra, path)), None)
                if hit is None:
                    return False
                left.remove(hit)
            return not left
        if isinstance(wanted, dict) and isinstance(found, dict):
            def inside(key):
                return f"{path}.{key}" if path else key

            return all(
                key in found and self.matches(inner, found[key], extra, inside(key))
                for key, inner in wanted.items()
            ) and all(key in wanted or "*" in extra or inside(key) in extra for key in found)
        if isinstance(wanted, list) and isinstance(found, list):
            return len(wanted) == len(found) and all(
                self.matches(w, f, extra, path) for w, f in zip(wanted, found)
            )
        if isinstance(wanted, bool) or isinstance(found, bool):
            return wanted is found
        return wanted == found

    def placeholder(self, word, found):
        kind, _, rest = word.partition("@" if "@" in word else ":")
        if kind == "any":
            return True
        if kind == "string":
            return isinstance(found, str)
        if kind == "array":
            return isinstance(found, list) and len(found) == int(rest)
        if kind == "nextToken":
            return found == self.tokens[int(rest)]
        number = isinstance(found, int) and not isinstance(found, bool)
        if kind == "ts":
            # A step may end in the second after the one in which it was decided.
            return number and abs(found - self.timestamps[int(rest)]) <= 1
        if kind == "timestamp":
            return number and found > 1_600_000_000
        if kind == "gt":
            return number and found > int(rest)
        assert kind == "int", word
        return number


class Runner:
    """Runs vectors one after the other against one gateway, each on things of its own."""

    def __init__(self, gateway, identity):
        context = ssl.create_default_context(cafile=str(identity.ca))
        context.load_cert_chain(str(identity.certificate), str(identity.key))
        self.https = http.client.HTTPSConnection(
            "localhost", gateway.ports["https"], context=context, timeout=20
        )
        self.state = gateway.data_dir / "state.db"
        self.link = raw.Connection(gateway.ports["mqtt"], deadline=20)
        self.link.connect("vectors")
        self.packet_ids = itertools.cycle(range(1, 60_000))
        self.runs = itertools.count()

    def close(self):
        self.link.close()
        self.https.close()

    def run(self, vector, crossed):
        """The complaints."""
        self.mark = f"-run{next(self.runs)}x"
        self.seen = Seen()
        for thing in {"beside", *(step["thing"] for step in vector["steps"])}:
            self.subscribe(f"$aws/things/{thing}{self.mark}/shadow/#")
        for number, step in enumerate(vector["steps"]):
            via = step.get("via", "mqtt")
            if crossed and step["op"] in METHODS:
                via = "mqtt" if via == "http" else "http"
            done = self.step(step, via)
            answers = [m for _, m in done.messages] + [done.body]
            stamps = [a["timestamp"] for a in answers if isinstance(a, dict) and "timestamp" in a]
            self.seen.timestamps.append(stamps[0] if stamps else None)
            self.seen.tokens.append(done.body.get("nextToken") if isinstance(done.body, dict) else None)
            wrong = self.judge(step, via, done)
            if wrong:
                return [f"step {number} by {via}", *wrong, f"published: {done.messages}", f"body: {done.body}"]
        return []

    def subscribe(self, topic_filter):
        self.link.send(raw.subscribe([(topic_filter, 1)]))
        while (packet := self.link.receive()).kind != raw.SUBACK:
            if packet.kind == raw.PUBLISH:
                self.link.send(raw.puback(packet.packet_id))
        assert packet.body[2:] == b"\1", packet

    def prefix(self, step):
        named = f"name/{step['shadow_name']}/" if "shadow_name" in step else ""
        return f"$aws/things/{step['thing']}{self.mark}/shadow/{named}"

    def publish(self, topic, payload):
        return raw.publish(topic, payload, qos=1, packet_id=next(self.packet_ids))

    def step(self, step, via):
        status = body = None
        prefix, op = self.prefix(step), step["op"]
        if op == "burst":
            packets = [
                self.publish(f"{prefix}update", request_bytes(step["request"], index))
                for index in range(step["count"])
            ]
            # Another holds the store: none is answered before the last of them has come.
            with closing(sqlite3.connect(self.state, isolation_level=None)) as store:
                store.execute("BEGIN IMMEDIATE")
                self.link.send(b"".join(packets))
                early = self.read_until_answered("beside", prefix)
                store.execute("ROLLBACK")
            assert not early, early
        elif via == "http":
            status, body = self.http(step)
        else:
            self.link.send(self.publish(f"{prefix}{op}", request_bytes(step.get("request"))))
        return Step(self.collect(step), status, body)

    def http(self, step):
        query = {}
        for parameter, member in (("name", "shadow_name"), ("pageSize", "page_size"), ("nextToken", "next_token")):
            if member in step:
                value = str(step[member])
                if value.startswith("<nextToken@"):
                    value = self.seen.tokens[int(value[11:-1])]
                query[parameter] = value
        thing = step["thing"] + self.mark
        if step["op"] == "list_named":
            method, path = "GET", f"/api/things/shadow/ListNamedShadowsForThing/{thing}"
        else:
            method, path = METHODS[step["op"]], f"/things/{thing}/shadow"
        if query:
            path += "?" + urllib.parse.urlencode(query)
        self.https.request(method, path, body=request_bytes(step.get("request")))
        answer = self.https.getresponse()
        text = answer.read().decode().replace(self.mark, "")
        return answer.status, json.loads(text)

    def collect(self, step):
        """All that was published up to the answer of a request made now: answers for one thing come in
        the order of its requests."""
        return self.read_until_answered(step["thing"], self.prefix(step))

    def read_until_answered(self, thing, prefix):
        """What is published under `prefix`, without the requests, until a request for `thing` is answered."""
        fence, found = f"fence{next(self.packet_ids)}", []
        topic = f"$aws/things/{thing}{self.mark}/shadow/get"
        self.link.send(self.publish(topic, json.dumps({"clientToken": fence}).encode()))
        while True:
            packet = self.link.receive(20)
            if packet.kind != raw.PUBLISH:
                continue
            self.link.send(raw.puback(packet.packet_id))
            suffix = packet.topic.removeprefix(prefix)
            if suffix in METHODS or packet.topic == topic:
                continue
            payload = json.loads(packet.payload.decode().replace(self.mark, ""))
            if payload.get("clientToken") == fence:
                return found
            found.append((suffix, payload))

    def judge(self, step, via, done):
        wrong, messages = [], done.messages
        op = step["op"]
        asked = "http" if "http_status" in step else "mqtt"
        expect = [(entry["topic_suffix"], entry) for entry in step.get("expect", [])]
        if op in METHODS and via == "http" and asked == "mqtt":
            # The answer is the body; the topics hear of changes only.
            for suffix, entry in expect:
                status = 200
                if suffix == f"{op}/rejected":
                    status = entry["payload"]["code"]
                    if messages:
                        wrong.append("a refusal was published")
                elif suffix != f"{op}/accepted":
                    continue
                if done.status != status:
                    wrong.append(f"status {done.status} for {status}")
                if not self.fits(entry, done.body):
                    wrong.append(f"body does not fit {entry}")
            expect = [e for e in expect if not e[0].endswith("rejected") and e[0] != "get/accepted"]
        if op in METHODS and via == "mqtt" and asked == "http":
            word = "accepted" if step["http_status"] == 200 else "rejected"
            if "http_body" in step:
                expect.append((f"{op}/{word}", step["http_body"]))
        if via == "http" and asked == "http":
            if done.status != step["http_status"]:
                wrong.append(f"status {done.status} for {step['http_status']}")
            if "http_body" in step and not self.fits(step["http_body"], done.body):
                wrong.append(f"body does not fit {step['http_body']}")
        for suffix, entry in expect:
            if not any(s == suffix and self.fits(entry, p) for s, p in messages):
                wrong.append(f"missing {suffix}: {entry}")
        crossed_answer = f"{op}/rejected" if via == "mqtt" and asked == "http" else None
        for suffix in step.get("expect_none", []):
            if suffix != crossed_answer and any(s == suffix for s, _ in messages):
                wrong.append(f"unexpected {suffix}")
        for suffix, count in step.get("expect_counts", {}).items():
            if sum(s == suffix for s, _ in messages) != count:
                wrong.append(f"not {count} of {suffix}")
        for suffix, payload in messages:
            if "rejected_payload" in step and suffix.endswith("rejected"):
                if not self.fits(step["rejected_payload"], payload):
                    wrong.append(f"rejected with {payload}")
        return wrong

    def fits(self, entry, payload):
        return self.seen.matches(expand(entry["payload"]), payload, entry.get("allow_extra", ()))
