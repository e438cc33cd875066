"""A C program written for the AWS IoT Embedded C SDK runs on libiotedge, unchanged."""

import json
import shutil

import pytest

from harness.binaries import ROOT
from harness.clients import Client
from harness.daemon import allow
from harness.pki import make_ca, sign
from harness.process import Process

DEVICE = allow((["iot:*"], ["*"]))

VALGRIND = [
    "valgrind", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite,indirect",
    "--errors-for-leak-kinds=definite,indirect", "--num-callers=40",
    f"--suppressions={ROOT / 'tests' / 'c' / 'valgrind.supp'}",
]
THING = "AWS-IoT-C-SDK"


@pytest.fixture
def sample(c_programs):
    return c_programs("-O0") / "subscribe_publish", c_programs.library


@pytest.fixture
def programs(c_programs):
    """All programs, by the optimisation they are built with."""
    return {optimise: c_programs(optimise) for optimise in ("-O0", "-O2")}, c_programs.library


@pytest.fixture
def certificates(daemon, tmp_path):
    """A gateway, and a folder with the file names of the SDK."""
    gateway = daemon(policies={"sdk": DEVICE}).start()
    device = gateway.cert("sdk", policy="sdk")
    folder = tmp_path / "sdk-certs"
    folder.mkdir()
    shutil.copy(device.ca, folder / "rootCA.crt")
    shutil.copy(device.certificate, folder / "cert.pem")
    shutil.copy(device.key, folder / "privkey.pem")
    return gateway, folder


def argv(program, gateway, folder, count):
    return [program, "-h", "localhost", "-p", gateway.ports["mqtts"], "-c", folder, "-x", count]


def test_c_sample_runs(sample, certificates):
    program, library = sample
    gateway, folder = certificates
    listener = Client("listener", gateway.ports["mqtt"]).connect()
    assert listener.subscribe("#", 1) == 1
    child = Process(
        VALGRIND + argv(program, gateway, folder, 5), "subscribe_publish",
        env={"LD_LIBRARY_PATH": str(library)},
    )
    code = child.wait(120)
    assert code == 0, f"exit {code}"
    assert "ERROR SUMMARY: 0 errors" in child.log
    # It gets its own messages back; others get them too.
    assert "QOS0" in child.log and "QOS1" in child.log, child.log
    payloads = [m.payload for m in listener.drain()]
    assert any(b"QOS0" in p for p in payloads) and any(b"QOS1" in p for p in payloads), payloads
    listener.disconnect()


def test_the_c_sample_says_that_it_was_refused(sample, certificates, daemon):
    """A certificate that may do nothing: the program ends with an error and without a crash."""
    program, library = sample
    gateway, folder = certificates
    bare = gateway.cert("bare")
    shutil.copy(bare.certificate, folder / "cert.pem")
    shutil.copy(bare.key, folder / "privkey.pem")
    child = Process(
        argv(program, gateway, folder, 1), "subscribe_publish",
        env={"LD_LIBRARY_PATH": str(library)},
    )
    code = child.wait(60)
    assert code > 0, f"exit {code}"


def start(programs, optimise, name, gateway, folder, count, checked=False):
    built, library = programs
    command = argv(built[optimise] / name, gateway, folder, count)
    return Process(
        (VALGRIND if checked else []) + command, name, env={"LD_LIBRARY_PATH": str(library)}
    )


@pytest.mark.parametrize("name", ["subscribe_publish_cpp", "v1_subscribe_publish"])
@pytest.mark.parametrize("optimise", ["-O0", "-O2"])
def test_samples_of_other_languages_and_versions_get_their_messages_back(
    programs, certificates, name, optimise
):
    gateway, folder = certificates
    child = start(programs, optimise, name, gateway, folder, 3)
    assert child.wait(60) == 0, child.log
    for number in range(3):
        assert f": {number} " in child.log, child.log
    assert "Publish done" in child.log


@pytest.mark.parametrize("name", ["shadow", "v1_shadow"])
@pytest.mark.parametrize("optimise", ["-O0", "-O2"])
def test_the_shadow_sample_reports_and_obeys_a_delta(programs, certificates, name, optimise):
    gateway, folder = certificates
    child = start(programs, optimise, name, gateway, folder, 40)
    child.wait_for_line(r"Update Accepted !!", deadline=30)
    gateway.ctl_ok("shadow", "update", THING, '{"state":{"desired":{"windowOpen":true}}}')
    child.wait_for_line(r"Delta - Window state changed to 1", deadline=30)
    child.wait_for_line(r"On Device: window state true", deadline=30)
    child.wait_for_line(r'"windowOpen":true\}\}, "clientToken":"c-sdk-client-id-', deadline=30)
    assert child.wait(60) == 0, child.log
    assert "RejectedXX" not in child.log and "Timeout--" not in child.log, child.log
    shadow = json.loads(gateway.ctl_ok("shadow", "get", THING))
    assert shadow["state"]["reported"]["windowOpen"] is True
    assert "delta" not in shadow["state"]


@pytest.mark.parametrize("name", ["shadow_echo", "v1_shadow_echo"])
def test_the_echo_sample_reports_what_a_delta_wants(programs, certificates, name):
    gateway, folder = certificates
    child = start(programs, "-O2", name, gateway, folder, 1, checked=True)
    child.wait_for_line(r"Listening for deltas", deadline=60)
    wanted = {"a": [1, {"b": 2.5}], "text": "warm"}
    gateway.ctl_ok("shadow", "update", THING, json.dumps({"state": {"desired": {"x": wanted}}}))
    assert child.wait(60) == 0, child.log
    assert "ERROR SUMMARY: 0 errors" in child.log, child.log
    shadow = json.loads(gateway.ctl_ok("shadow", "get", THING))
    assert shadow["state"]["reported"] == shadow["state"]["desired"]
    assert "delta" not in shadow["state"]


class Jobs:
    """Plays the jobs of one thing as AWS IoT does."""

    def __init__(self, client, ids):
        self.waiting = list(ids)
        self.updates = []
        self.client = client
        assert client.subscribe(f"$aws/things/{THING}/jobs/#", 1) == 1

    def play(self):
        base = f"$aws/things/{THING}/jobs/"
        while self.waiting:
            message = self.client.next(30)
            topic = message.topic.removeprefix(base)
            if topic == "get":
                assert message.payload == b""
                answer = {"inProgressJobs": [], "queuedJobs": [{"jobId": j} for j in self.waiting]}
                self.client.publish(base + "get/accepted", json.dumps(answer), 1)
            elif topic == "$next/get":
                assert message.payload == b""
                self.client.publish(base + "$next/get/accepted", self.next(), 1)
            elif topic.endswith("/update"):
                self.updates.append((topic, json.loads(message.payload)))
                self.waiting.pop(0)
                self.client.publish(base + topic + "/accepted", "{}", 1)
                self.client.publish(base + "notify-next", self.next(), 1)

    def next(self):
        if not self.waiting:
            return json.dumps({"timestamp": 1})
        execution = {"jobId": self.waiting[0], "status": "QUEUED", "jobDocument": {"do": "it"}}
        return json.dumps({"execution": execution, "timestamp": 1})


def test_the_jobs_sample_ends_each_job_that_it_is_given(programs, upstream, tmp_path):
    """The gateway has no jobs yet, and lets nobody else play them: a scripted client does on a
    broker that knows no reserved topics."""
    folder = tmp_path / "pki"
    authority = make_ca(folder, "jobs")
    broker = upstream(tls=sign(folder, "server", authority, san="DNS:localhost")).start()
    device = sign(folder, "device", authority)
    shutil.copy(device.ca, folder / "rootCA.crt")
    shutil.copy(device.certificate, folder / "cert.pem")
    shutil.copy(device.key, folder / "privkey.pem")
    server = Client("jobs", broker.port, identity=device).connect()
    jobs = Jobs(server, ["first", "second", "third"])
    built, library = programs
    child = Process(
        VALGRIND + [built["-O2"] / "jobs", "-h", "localhost", "-p", broker.port, "-c", folder, "-x", 3],
        "jobs", env={"LD_LIBRARY_PATH": str(library)},
    )
    jobs.play()
    assert child.wait(60) == 0, child.log
    assert "ERROR SUMMARY: 0 errors" in child.log, child.log
    assert [topic for topic, _ in jobs.updates] == [f"{j}/update" for j in ("first", "second", "third")]
    assert all(update["status"] == "SUCCEEDED" for _, update in jobs.updates)
