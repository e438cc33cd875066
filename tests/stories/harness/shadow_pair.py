"""A gateway and the cloud above it, which another gateway plays: their shadows are kept together."""

import json

from .daemon import allow
from .wait import until

SHADOWS = "$aws/things/lamp/shadow/*"
EDGE = allow(
    (["iot:Connect"], ["arn:aws:iot:*:*:client/edge*"]),
    (["iot:Publish", "iot:Receive"], [f"arn:aws:iot:*:*:topic/{SHADOWS}"]),
    (["iot:Subscribe"], [f"arn:aws:iot:*:*:topicfilter/{SHADOWS}"]),
)


SELECT = [{"thing": "lamp", "named": ["cfg", "net-*"]}]


def edge_of(cloud, daemon, name="edge", upstream=None, **shadows):
    """A gateway below the cloud."""
    identity = cloud.cert(name, policy="edge")
    gateway = daemon(config={"upstream": [{
        "name": "cloud",
        "url": f"mqtts://localhost:{cloud.ports['mqtts']}",
        "client_id": name,
        "keep_alive": "5s",
        "ca": str(identity.ca),
        "certificate": str(identity.certificate),
        "key": str(identity.key),
        **(upstream or {}),
        "shadows": {"select": SELECT, "answer_timeout": "2s", "refresh": "10s", "rate": 100, **shadows},
    }]}).start()
    gateway.wait_link("cloud")
    return gateway


class Pair:
    """The cloud and a gateway below it."""

    def __init__(self, daemon, cloud=None, upstream=None, policy=EDGE, **shadows):
        self.cloud = daemon(policies={"edge": policy}, config=cloud).start()
        self.edge = edge_of(self.cloud, daemon, upstream=upstream, **shadows)

    def status(self):
        return self.edge.link("cloud")["shadows"]

    def in_step(self):
        def equal():
            status = self.status()
            return status["in_step"] == status["shadows"] and status["shadows"] > 0
        until(equal, "all shadows are in step", every=0.1)

    def offline(self):
        self.edge.ctl_ok("bridge", "pause", "cloud")
        self.edge.wait_link("cloud", "paused")

    def online(self):
        self.edge.ctl_ok("bridge", "resume", "cloud")
        self.edge.wait_link("cloud")

    def same(self, wanted, name=None):
        """Both sides have the state, in the end."""
        def equal():
            return state(self.edge, name) == wanted and state(self.cloud, name) == wanted
        try:
            until(equal, "both sides are equal", every=0.1, deadline=60)
        except AssertionError:
            raise AssertionError((state(self.edge, name), state(self.cloud, name), self.status()))


def named(name):
    return ["--name", name] if name else []


def update(gateway, new, name=None):
    gateway.ctl_ok("shadow", "update", "lamp", *named(name), json.dumps({"state": new}))


def delete(gateway, name=None):
    gateway.ctl_ok("shadow", "delete", "lamp", *named(name))


def state(gateway, name=None):
    done = gateway.ctl("shadow", "get", "lamp", *named(name), "--json")
    if done.returncode != 0:
        return None
    found = json.loads(done.stdout)["state"]
    found.pop("delta", None)
    return found
