"""Federated learning by MONAI's own client, as the FLARE job sets it: two sites, two rounds, without FLARE."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject

from bundle.loading import BUNDLE_ROOT, make_importable, parse, suppress_monai_warnings
from scripts.networks.multitask_unet import multi_task_unet
from scripts.networks.weights import load_weights
from tests.federated_sites import FLARE, ROUNDS, SHORT, STEPS, flare_config, write_store

CLIENT, SERVER = "job/app/config/config_fed_client.json", "job/app/config/config_fed_server.json"


def client(name: str, seed: int, place: Path) -> MonaiAlgo:
    """A site with its own data."""
    write_store(place / "data" / name, seed)
    places = {"$BUNDLE_ROOT": str(BUNDLE_ROOT), "$BUNDLE_DATA": str(place / "data")}
    config = flare_config(CLIENT, SITE_NAME=name, WORKSPACE=str(place / name), JOB_ID="job", **places)
    (component,) = config["components"]
    assert component["path"] == "monai.fl.client.MonaiAlgo"
    workflows = {key: {**config["settings"], **SHORT} for key in ("train_kwargs", "eval_kwargs")}
    algorithm = MonaiAlgo(**component["args"] | workflows)
    make_importable(BUNDLE_ROOT)
    with suppress_monai_warnings():
        algorithm.initialize(extra={ExtraItems.CLIENT_NAME: name})
    return algorithm


def mean(exchanged: list[ExchangeObject]) -> dict[str, torch.Tensor]:
    """Mean of the clients' weights, as the server computes it."""
    weights = [{name: torch.as_tensor(value) for name, value in one.weights.items()} for one in exchanged]
    return {
        name: torch.stack([one[name].float() for one in weights]).mean(0).to(weights[0][name]) for name in weights[0]
    }


@pytest.mark.filterwarnings("ignore:executing the bundle config")
def test_two_sites_train_together_for_two_rounds(tmp_path: Path) -> None:
    clients = [client(name, seed, tmp_path) for seed, name in enumerate(("north", "south"))]
    torch.manual_seed(0)
    shared = {name: value.clone() for name, value in multi_task_unet("cpu").state_dict().items()}
    for _ in range(ROUNDS):
        before = shared
        updates = []
        for one in clients:
            one.train(ExchangeObject(weights=shared))
            updates.append(one.get_weights())
        shared = mean(updates)
        for part in ("encoder.", "decoder.", "head."):
            names = [name for name in shared if name.startswith(part) and shared[name].is_floating_point()]
            assert any(not torch.equal(shared[name], before[name]) for name in names), f"{part} did not learn"
        assert all(bool(torch.isfinite(value).all()) for value in shared.values() if value.is_floating_point())
    steps = [int(one.get_weights().weights["encoder.levels.0.conv_0.adn.N.num_batches_tracked"]) for one in clients]
    assert steps == [ROUNDS * STEPS] * 2  # each round went on from the shared weights
    schedules = [one.train_workflow.parser.get_parsed_content("lr_scheduler") for one in clients]
    assert [schedule.t_total for schedule in schedules] == [ROUNDS * STEPS] * 2  # over all rounds, not over each
    metrics = [one.evaluate(ExchangeObject(weights=shared)).metrics for one in clients]
    assert all({"mean_dice", "roc_auc"} <= set(found) for found in metrics)
    for one in clients:
        one.finalize()


def components(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a config of the job builds, by class."""
    built = [*config.get("components", []), *config.get("workflows", [])]
    built += [entry["executor"] for entry in config.get("executors", [])]
    return {entry["path"].rsplit(".", 1)[1]: entry for entry in built}


def test_the_flare_job_uses_allowed_components_and_config_keys() -> None:
    client_config, server_config = flare_config(CLIENT), flare_config(SERVER)
    parts = components(client_config) | components(server_config)
    assert {part["path"] for part in parts.values()} == set(flare_config("local/resources.json")["class_allow_list"])
    ids = {part["id"] for part in parts.values() if "id" in part}
    named = {value for part in parts.values() for key, value in part["args"].items() if key.endswith("_id")}
    assert named <= ids
    inspect.signature(MonaiAlgo).bind(**parts["MonaiAlgo"]["args"])
    config = ConfigParser.load_config_file(str(BUNDLE_ROOT / "configs" / "train.yaml"))
    parser = ConfigParser(config)
    assert [key for key in client_config["settings"] if key not in parser] == []
    metrics = config["validate"]["key_metric"] | config["validate"]["additional_metrics"]
    assert parts["ClientAlgoExecutor"]["args"]["key_metric"] in metrics
    start = parts["MonaiBundlePersistor"]["args"]
    network = parse(Path(start["config_train_filename"]).name, ["network_def"])["network_def"]
    load_weights(network, BUNDLE_ROOT / start["source_ckpt_filename"])


def test_the_flare_jobs_numbers_agree() -> None:
    settings, server = flare_config(CLIENT)["settings"], flare_config(SERVER)
    epochs = components(flare_config(CLIENT))["MonaiAlgo"]["args"]["local_epochs"]
    assert settings["max_epochs"] == server["rounds"] * epochs
    assert flare_config("job/meta.json")["min_clients"] == server["sites"]


def test_the_flare_job_contains_only_settings() -> None:
    assert {path.suffix for path in FLARE.rglob("*") if path.is_file()} == {".json"}
