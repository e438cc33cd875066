"""A C program written for the AWS IoT Embedded C SDK runs on libiotedge, unchanged."""

import os
import pathlib
import shutil

import pytest

from harness.binaries import ROOT, build_dir
from harness.clients import Client
from harness.daemon import allow
from harness.process import Process, run

DEVICE = allow((["iot:*"], ["*"]))


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The program, built against the headers and the shared library of this tree."""
    out = tmp_path_factory.mktemp("c")
    library = pathlib.Path(os.environ.get("IOTEDGE_LIB_DIR") or build_dir()).resolve()
    assert (library / "libiotedge.so").exists(), f"build it first: cargo build -p iotedge-ffi ({library})"
    done = run([ROOT / "tests" / "c" / "build.sh", out, library], deadline=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "subscribe_publish", library


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
    valgrind = [
        "valgrind", "--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite,indirect",
        "--errors-for-leak-kinds=definite,indirect", "--num-callers=40",
        f"--suppressions={ROOT / 'tests' / 'c' / 'valgrind.supp'}",
    ]
    child = Process(
        valgrind + argv(program, gateway, folder, 5), "subscribe_publish",
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
