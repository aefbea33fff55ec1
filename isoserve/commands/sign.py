"""``isoserve sign``: a signature beside a model file, by OpenSSF model signing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from isoserve.commands.inspect import open_model
from isoserve.models.errors import InputError
from isoserve.service.repository.model_files import signature_of
from isoserve.service.repository.signature import needs_signing


@click.command()
@click.argument("model_file", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Private key (PEM) of an elliptic curve: P-256, P-384 or P-521.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="File that holds the key's password, if it has one.",
)
def sign(model_file: Path, key: Path, password_file: Path | None) -> None:
    """Sign MODEL: the signature is written beside it, as MODEL.sig.

    A server with --trusted-key PUBLIC_KEY serves only what is signed so. model_signing verify key
    reads the signature too.

    \b
    Examples:
      openssl ecparam -name prime256v1 -genkey -noout -out release.key
      openssl ec -in release.key -pubout -out release.pub
      isoserve sign model.onnx --key release.key
    """
    needs_signing("isoserve sign")
    from model_signing.signing import Config

    model = open_model(model_file)
    # The library hands the password on to cryptography, which takes bytes, whatever its types say.
    password: Any = None if password_file is None else password_file.read_bytes().strip()
    try:
        signer = Config().use_elliptic_key_signer(  # type: ignore[no-untyped-call]
            private_key=key, password=password
        )
    except OSError as error:
        raise InputError(f"--key '{key}' cannot be read: {error.strerror}") from error
    except Exception as error:  # the library and what it calls raise whatever they like
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"--key '{key}' is not a private key (PEM) of P-256, P-384 or P-521: {said}"
        ) from error
    beside = signature_of(model_file)
    part = beside.with_name(f"{beside.name}.part")
    try:
        signer.sign(model_file.resolve(), part)
        part.replace(beside)
    finally:
        part.unlink(missing_ok=True)
    click.echo(f"{beside}  (of sha256 {model.sha256})")
