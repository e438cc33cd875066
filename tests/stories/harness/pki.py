"""Certificates that do not come from the gateway, made with openssl."""

import dataclasses
import pathlib

from .process import run


@dataclasses.dataclass
class Identity:
    """What a client shows and whom it trusts."""

    ca: pathlib.Path
    certificate: pathlib.Path
    key: pathlib.Path
    id: str = ""


def _openssl(*argv):
    done = run(["openssl", *argv])
    assert done.returncode == 0, done.stderr


def make_ca(folder, name):
    """A certificate authority of its own; returns (certificate, key)."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / f"{name}.ca.pem", folder / f"{name}.ca.key"
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-days", "30", "-subj", f"/CN={name}", "-keyout", key, "-out", cert,
    )
    return cert, key


def sign(folder, name, authority, san=None):
    """A key and a certificate signed by `authority` (certificate, key)."""
    ca, ca_key = authority
    cert, key, request = (folder / f"{name}.{e}" for e in ("pem", "key", "csr"))
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", f"/CN={name}", "-keyout", key, "-out", request,
    )
    extensions = folder / f"{name}.ext"
    text = "basicConstraints=CA:FALSE\n"
    if san:
        text += f"subjectAltName={san}\n"
    extensions.write_text(text)
    _openssl(
        "x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
        "-days", "30", "-extfile", extensions, "-out", cert,
    )
    return Identity(ca=ca, certificate=cert, key=key)
