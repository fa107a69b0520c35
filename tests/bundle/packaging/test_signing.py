"""A signed folder: one changed byte fails before anything is loaded; the standard's own program agrees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

pytest.importorskip("model_signing", reason="pip install -e '.[sign]'")

from bundle.errors import UserError
from bundle.packaging.signing import SIGNED, BadSignatureError, require_key, sign, verify_signature
from bundle.packaging.static_checks import CheckError, CheckSkipped, Given, model_signature
from bundle.packaging.verify import verify

FILES = {"configs/inference.yaml": b"a: 1\n", "models/model.pt": bytes(range(200)), "scripts/__init__.py": b""}


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Private and public key, as `openssl ecparam -genkey` writes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    form = serialization.PrivateFormat.TraditionalOpenSSL
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    told = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, told))
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"), "own")


@pytest.fixture
def signed(tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    folder = tmp_path / "bundle"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    sign(folder, keys[0])
    return folder


def test_a_signed_folder_verifies_also_in_another_place(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    verify_signature(signed, keys[1])
    verify_signature(shutil.copytree(signed, tmp_path / "elsewhere" / "name"), keys[1])
    assert str(tmp_path) not in (signed / SIGNED).read_text()


@pytest.mark.parametrize("name", [name for name, content in FILES.items() if content])
def test_one_changed_byte_fails(name: str, signed: Path, keys: tuple[Path, Path]) -> None:
    content = bytearray((signed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (signed / name).write_bytes(content)
    with pytest.raises(BadSignatureError, match=name):
        verify_signature(signed, keys[1])


@pytest.mark.parametrize("added", ["scripts/other.py", "scripts/__pycache__/__init__.cpython-311.pyc", ".git/hook"])
def test_an_added_or_removed_file_fails(added: str, signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / added).parent.mkdir(exist_ok=True)
    (signed / added).write_bytes(b"x")
    with pytest.raises(BadSignatureError, match=Path(added).name):
        verify_signature(signed, keys[1])
    (signed / added).unlink()
    verify_signature(signed, keys[1])
    (signed / "models/model.pt").unlink()
    with pytest.raises(BadSignatureError, match=r"models/model\.pt"):
        verify_signature(signed, keys[1])


def test_another_key_and_a_damaged_signature_fail(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BadSignatureError):
        verify_signature(signed, key_pair(tmp_path, "other")[1])
    content = (signed / SIGNED).read_text()
    (entry,) = json.loads(content)["dsseEnvelope"]["signatures"]
    other = entry["sig"][:20] + ("A" if entry["sig"][20] != "A" else "B") + entry["sig"][21:]
    for damaged in (content[:200], "{}", content.replace(entry["sig"], other), ""):
        (signed / SIGNED).write_text(damaged)
        with pytest.raises(BadSignatureError, match=SIGNED):
            verify_signature(signed, keys[1])


def test_the_standards_own_program_verifies_and_signs(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    def theirs(command: str, signature: Path, *options: str) -> int:
        words = [sys.executable, "-m", "model_signing", command, "key", str(signed), "--signature", str(signature)]
        return subprocess.run([*words, *options], capture_output=True, check=False).returncode

    assert theirs("verify", signed / SIGNED, "--public_key", str(keys[1])) == 0
    apart = shutil.move(signed / SIGNED, tmp_path / SIGNED)
    assert theirs("sign", signed / SIGNED, "--private_key", str(keys[0])) == 0
    verify_signature(signed, keys[1])
    (signed / "configs" / "inference.yaml").write_text("a: 2\n")
    assert theirs("verify", Path(apart), "--public_key", str(keys[1])) != 0


def test_keys_that_cannot_sign_are_refused(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    require_key(keys[0])
    large = rsa.generate_private_key(65537, 2048)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (tmp_path / "rsa.pem").write_bytes(large.private_bytes(pem, form, serialization.NoEncryption()))
    locked = serialization.BestAvailableEncryption(b"secret")
    (tmp_path / "locked.pem").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, form, locked))
    for name, reason in {"absent": "no such key", "rsa.pem": "elliptic", "locked.pem": "without a password"}.items():
        with pytest.raises(UserError, match=reason):
            require_key(tmp_path / name)
    with pytest.raises(UserError, match="not the PEM of a private key"):
        require_key(keys[1])


def test_the_check_needs_the_key_and_then_the_signature(signed: Path, keys: tuple[Path, Path]) -> None:
    model_signature(signed, Given(key=keys[1]))
    with pytest.raises(CheckSkipped, match="--key"):
        model_signature(signed, Given())
    with pytest.raises(UserError, match="not the PEM of a public key"):
        model_signature(signed, Given(key=signed / SIGNED))
    (signed / SIGNED).unlink()
    with pytest.raises(CheckError, match="did not sign"):
        model_signature(signed, Given(key=keys[1]))


def test_nothing_of_a_changed_folder_is_run(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / "scripts" / "__init__.py").write_text("raise SystemExit('run')\n")
    results = list(verify(signed, run_code=True, key=keys[1]))
    assert results[0].name == "model signature" and results[0].passed is False
    assert not [result for result in results if result.passed and "random files" in result.name]
