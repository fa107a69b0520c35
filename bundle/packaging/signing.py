"""Sign a packed bundle by OpenSSF model signing with a key of one's own, and check the signature.

The signature is over the names and hashes of all files. Any program of the same standard checks it, such as
`model_signing verify key FOLDER --signature FOLDER/model.sig --public_key PUBLIC`.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError

__all__ = ["SIGNED", "BadSignatureError", "require_key", "sign", "verify_signature"]

SIGNED = "model.sig"
MAKE_KEY = "make one: openssl ecparam -name prime256v1 -genkey -noout -out KEY"


class BadSignatureError(Exception):
    """The folder is not what was signed by this key; the message is one line."""


def require_key(key: Path) -> None:
    """Check that a private key can sign, before any work.

    Raises:
        UserError: when it is missing, or not the PEM of an elliptic-curve private key without a password.
        ModuleNotFoundError: when the extra `sign` is not installed.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from model_signing import signing

    if not key.is_file():
        raise UserError(f"{key}: no such key; {MAKE_KEY}")
    try:
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError):
        raise UserError(f"{key}: not the PEM of a private key without a password; {MAKE_KEY}") from None
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise UserError(f"{key}: not of an elliptic curve; {MAKE_KEY}")
    signing.Config().use_elliptic_key_signer(private_key=key)


def sign(folder: Path, key: Path) -> Path:
    """Write `model.sig` into a folder, over all its other files.

    Args:
        folder: a packed bundle.
        key: PEM of an elliptic-curve private key.
    """
    from model_signing import hashing, signing

    signature = folder / SIGNED
    named = hashing.Config().set_ignored_paths(paths=[Path(SIGNED)], ignore_git_paths=False)
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(named).sign(folder, signature)
    return signature


def verify_signature(folder: Path, public_key: Path) -> None:
    """Check that all files of a folder are those that the owner of a key signed.

    Args:
        folder: a packed bundle with `model.sig`.
        public_key: PEM.

    Raises:
        BadSignatureError: when a file was changed, added or removed, or another key signed.
        UserError: when the key cannot be read.
    """
    from cryptography.hazmat.primitives import serialization
    from model_signing import hashing, verifying

    try:
        serialization.load_pem_public_key(public_key.read_bytes())
    except (OSError, ValueError):
        raise UserError(f"{public_key}: not the PEM of a public key; openssl ec -in KEY -pubout -out PUBLIC") from None
    signature = folder / SIGNED
    named = hashing.Config().set_ignored_paths(paths=[Path(SIGNED)], ignore_git_paths=False)
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).set_hashing_config(named).verify(
            folder, signature
        )
    except Exception as error:  # whatever the library raises, the folder is not shown to be the signed one
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise BadSignatureError(f"{SIGNED}: {reason}") from None
