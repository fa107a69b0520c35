"""Weights are read strictly and written whole."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch

from scripts.networks.multitask_unet import MultiTaskUNet, multi_task_unet
from scripts.networks.weights import CheckpointFolder, load_weights, save_weights


@pytest.fixture
def network() -> MultiTaskUNet:
    return multi_task_unet("cpu", channels=(4, 8, 8))


def test_weights_are_loaded_bit_for_bit(network: MultiTaskUNet, tmp_path: Path) -> None:
    save_weights(network, tmp_path / "model.pt")
    other = load_weights(multi_task_unet("cpu", channels=(4, 8, 8)), tmp_path / "model.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_missing_decoder_is_an_error(network: MultiTaskUNet, tmp_path: Path) -> None:
    """Weights with a renamed or missing decoder are never loaded in part."""
    state = network.state_dict()
    renamed = {name.replace("decoder.", "module.decoder."): value for name, value in state.items()}
    missing = {name: value for name, value in state.items() if not name.startswith("decoder.")}
    lost, first = len(state) - len(missing), "decoder.coarser.0.bias"
    reasons = {
        f"{lost} missing, such as {first}; {lost} unknown, such as module.{first}": renamed,
        f"{lost} missing, such as {first}": missing,
        "1 unknown, such as extra": {**state, "extra": torch.zeros(1)},
    }
    for number, (reason, wrong) in enumerate(reasons.items()):
        path = tmp_path / f"{number}.pt"
        torch.save(wrong, path)
        with pytest.raises(
            ValueError, match=rf"^\S+: weights do not fit the network: {reason}; put the report.json of"
        ):
            load_weights(network, path)


def test_another_width_is_an_error(network: MultiTaskUNet, tmp_path: Path) -> None:
    save_weights(multi_task_unet("cpu", channels=(32, 32, 64, 128, 256)), tmp_path / "wide.pt")
    reason = r"\d+ unknown, such as decoder\.levels\S+; \d+ of another shape, such as decoder\.\S+"
    with pytest.raises(ValueError, match=rf"do not fit the network: {reason}; put the report.json of"):
        load_weights(network, tmp_path / "wide.pt")


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def test_a_pickle_with_code_is_refused_and_not_run(network: MultiTaskUNet, tmp_path: Path) -> None:
    """Files that would run code when they are loaded."""
    torch.save({"encoder": Canary(tmp_path / "canary")}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="not a state dict"):
        load_weights(network, tmp_path / "evil.pt")
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100)])
def test_damaged_files_are_named(network: MultiTaskUNet, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.pt: not a state dict"):
        load_weights(network, tmp_path / "bad.pt")


def test_weights_that_are_not_finite_are_refused(network: MultiTaskUNet, tmp_path: Path) -> None:
    state = network.state_dict()
    next(iter(state.values()))[...] = float("nan")
    torch.save(state, tmp_path / "nan.pt")
    with pytest.raises(ValueError, match="is not finite"):
        load_weights(network, tmp_path / "nan.pt")


def test_a_missing_file_names_the_remedy(network: MultiTaskUNet, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="run the stage before"):
        load_weights(network, tmp_path / "none.pt")
    assert load_weights(network, None) is network


def test_the_newest_two_checkpoints_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for epoch in (8, 9, 10, 11):
        folder.save(epoch, {"epoch": epoch})
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["epoch_0010.pt", "epoch_0011.pt"]
    assert folder.latest() == {"epoch": 11}


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [damage_cut, damage_flip, Path.unlink])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(1, {"weights": torch.arange(1000.0)})
    folder.save(2, {"weights": torch.arange(1000.0) + 1})
    damage(tmp_path / "epoch_0002.pt")  # type: ignore[operator]
    content = folder.latest()
    assert content is not None and torch.equal(content["weights"], torch.arange(1000.0))
    told = "epoch_0002.pt: damaged or incomplete, resuming from" in caplog.text and "epoch_0001.pt" in caplog.text
    assert told is (damage is not Path.unlink), "both are named"


def test_a_checkpoint_within_an_epoch_comes_after_those_before_it(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    for epoch, steps in ((9, 0), (9, 5), (10, 0)):
        folder.save(epoch, {"epoch": epoch, "steps": steps}, steps)
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == ["epoch_0009_step_00005.pt", "epoch_0010.pt"]
    damage_cut(tmp_path / "epoch_0010.pt")
    assert folder.latest() == {"epoch": 9, "steps": 5}
    folder.save(9, {"epoch": 9, "steps": 7}, 7)
    assert folder.latest() == {"epoch": 9, "steps": 7}, "damaged, newer ones are removed"


def test_without_checkpoint_none_is_returned_and_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".epoch_0001.pt.123.tmp").write_bytes(b"half")
    assert CheckpointFolder(tmp_path).latest() is None
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_weights(
    network: MultiTaskUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    save_weights(network, path)
    before = path.read_bytes()

    def full_disk(state: object, file: io.BufferedWriter) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_weights(network, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["model.pt"]
