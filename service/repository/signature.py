"""Whether a model file was signed by the key that is trusted, by OpenSSF model signing.

The signature is a Sigstore bundle beside the file, ``model.onnx.sig``, as ``isoserve sign`` and
``model_signing sign key`` write it: a statement that holds the file's SHA-256, signed with ECDSA.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.util
import io
import json
import tempfile
from pathlib import Path

from isoserve.models.errors import InputError
from isoserve.service.inference.model import ModelRefused
from isoserve.service.repository.model_files import signature_of

MOST_SIGNATURE_BYTES = 2**20


def check_trusted_key(key: Path) -> None:
    """Say at the start what would keep every model from being checked.

    Raises:
        InputError: the extra is missing, or the file is not a public key of a curve that is read.
    """
    needs_signing("--trusted-key")
    from model_signing.verifying import Config

    try:
        Config().use_elliptic_key_verifier(public_key=key)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise InputError(f"--trusted-key '{key}' cannot be read: {error.strerror}") from error
    except Exception as error:  # the library and what it calls raise whatever they like
        raise InputError(
            f"--trusted-key '{key}' is not the public key (PEM) of an elliptic curve that is read "
            "(P-256, P-384, P-521)"
        ) from error


def check_signature(path: Path, data: bytes, key: Path | None) -> None:
    """Compare a model file's bytes with the signature beside it; without a key nothing is asked.

    Raises:
        ModelRefused: reason ``signature``: there is none, another key made it, or the file is not
            as it was signed.
    """
    if key is None:
        return
    needs_signing("--trusted-key")
    beside = signature_of(path)
    try:
        with beside.open("rb") as file:
            signature = file.read(MOST_SIGNATURE_BYTES)
    except FileNotFoundError as error:
        raise ModelRefused(
            "signature", f"it is not signed: there is no {beside.name} beside it"
        ) from error
    except OSError as error:
        raise ModelRefused(
            "signature", f"its signature cannot be read: {error.strerror}"
        ) from error
    signed = _signed_digest(path, signature, key)
    digest = hashlib.sha256(data).hexdigest()
    if signed != digest:
        raise ModelRefused(
            "signature",
            f"it is not the file that was signed: its sha256 is {digest[:16]}, signed was "
            f"{signed[:16]}",
        )


def needs_signing(what: str) -> None:
    """Raise :class:`InputError` where the extra is missing.

    Args:
        what: the option or command that needs it.
    """
    for package in ("model_signing", "OpenSSL"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"{what} needs {package}: pip install 'isoserve[signing]'")


def _signed_digest(path: Path, signature: bytes, key: Path) -> str:
    """The SHA-256 that a signature of the file vouches for, once the key has vouched for it.

    The library compares the file on disk, which may be another by now than the bytes that the
    caller has: those have to have this digest.
    """
    from model_signing.verifying import Config

    with tempfile.TemporaryDirectory(prefix="isoserve-signature-") as folder:
        copy = Path(folder, "model.onnx.sig")
        copy.write_bytes(signature)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                config = Config()  # type: ignore[no-untyped-call]
                config.use_elliptic_key_verifier(public_key=key).verify(path.resolve(), copy)
        except Exception as error:  # the library and what it calls raise whatever they like
            raise ModelRefused(
                "signature", f"it is not as {key.name}'s owner signed it: {_said(error)}"
            ) from error
    statement = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    resources = statement["predicate"]["resources"]
    if len(resources) != 1 or resources[0]["algorithm"] != "sha256":
        raise ModelRefused("signature", "its signature is not of this one file's SHA-256")
    return str(resources[0]["digest"])


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
