"""Signed models: signed, altered, unsigned and signed by another key are four answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from signing_key import write_key
from tiny_model import TinyModel, write_tiny_model

from isoserve.commands.sign import sign
from isoserve.models.errors import InputError
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.repository.signature import check_trusted_key
from isoserve.service.settings import Settings

pytest.importorskip("model_signing")


def signed_by(key: Path, model: Path) -> Result:
    return CliRunner().invoke(sign, [str(model), "--key", str(key)])


def answer(root: Path, key: Path) -> tuple[str, str, str]:
    """State, reason and detail of the one version, of a repository that trusts the key."""
    settings = Settings(repository=root, max_batch=2, trusted_key=key)
    repository = Repository(settings, 1, Metrics())
    repository.scan()
    known = repository.models["m"].versions[1]
    repository.close()
    return known.state, known.reason, known.detail


def test_signed_altered_unsigned_and_another_key(tmp_path: Path) -> None:
    ours, ours_public = write_key(tmp_path, "ours")
    theirs, theirs_public = write_key(tmp_path, "theirs")
    model = write_tiny_model(tmp_path / "root/m/1/model.onnx")
    root = tmp_path / "root"

    state, reason, detail = answer(root, ours_public)
    assert (state, reason) == ("refused", "signature")
    assert "not signed" in detail

    done = signed_by(ours, model)
    assert done.exit_code == 0, done.output
    assert answer(root, ours_public)[0] == "serving"
    assert answer(root, theirs_public)[:2] == ("refused", "signature")

    write_tiny_model(model, TinyModel(seed=1))
    state, reason, detail = answer(root, ours_public)
    assert (state, reason) == ("refused", "signature")
    assert "Hash mismatch" in detail

    assert signed_by(theirs, model).exit_code == 0
    assert answer(root, ours_public)[:2] == ("refused", "signature")


def test_the_signature_is_one_that_model_signing_itself_verifies(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    model = write_tiny_model(tmp_path / "model.onnx")
    assert signed_by(private, model).exit_code == 0
    done = subprocess.run(
        [
            *(sys.executable, "-m", "model_signing", "verify", "key", str(model)),
            *("--signature", f"{model}.sig", "--public_key", str(public)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_version_that_is_signed_later_serves_without_a_restart(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours")
    model = write_tiny_model(tmp_path / "root/m/1/model.onnx")
    settings = Settings(repository=tmp_path / "root", max_batch=2, trusted_key=public)
    repository = Repository(settings, 1, Metrics())
    repository.scan()
    assert repository.models["m"].versions[1].state == "refused"
    assert signed_by(private, model).exit_code == 0
    repository.scan()
    assert repository.models["m"].versions[1].state == "serving"
    repository.close()


def test_a_key_with_a_password_signs(tmp_path: Path) -> None:
    private, public = write_key(tmp_path, "ours", b"secret")
    model = write_tiny_model(tmp_path / "root/m/1/model.onnx")
    assert isinstance(signed_by(private, model).exception, InputError)
    (tmp_path / "password").write_text("secret\n")
    done = CliRunner().invoke(
        sign,
        [str(model), "--key", str(private), "--password-file", str(tmp_path / "password")],
    )
    assert done.exit_code == 0, done.output
    assert answer(tmp_path / "root", public)[0] == "serving"


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no key")
    for key in (junk, tmp_path / "missing.pem"):
        with pytest.raises(InputError, match=key.name):
            check_trusted_key(key)
        done = signed_by(key, write_tiny_model(tmp_path / "model.onnx"))
        assert isinstance(done.exception, InputError)
        assert key.name in str(done.exception)
    assert not (tmp_path / "model.onnx.sig").exists()
