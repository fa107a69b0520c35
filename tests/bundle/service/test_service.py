"""The service in this process: predictions, errors, limits and privacy."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import socket
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.testclient import TestClient

from bundle import NOTICE, Predictor
from bundle.errors import UserError
from bundle.intake import Limits
from bundle.intake.limits import MIB
from bundle.service import Settings
from bundle.service.app import create_app
from bundle.service.job_queue import JobQueue, PredictionRequest
from bundle.service.metrics import Metrics
from bundle.service.problems import Problem
from bundle.service.requests import cancel_on_disconnect, wanted_kind
from bundle.service.responses import PredictionResponse, response_of
from bundle.service.server import serve
from scripts.core.messages import flag
from scripts.networks.multitask_unet import multi_task_unet
from tests.hostile import OK, Case, sample
from tests.hostile.cases import head
from tests.hostile.dicoms import dicom, mr_dataset, written

HERE = "http://127.0.0.1"
OPEN = {"/livez", "/readyz"}  # need no token
WRONG = (None, "", "Bearer", "Bearer wrong", "Bearer s3cre", "Bearer s3cretx", "s3cret", "bearer s3cret")


def client_of(settings: Settings, **options: Any) -> Iterator[TestClient]:
    """A client of a service that is ready."""
    with TestClient(create_app(settings), base_url=HERE, **options) as client:
        for _ in range(1200):
            if client.get("/readyz").status_code == 200:
                break
            time.sleep(0.1)
        else:
            raise AssertionError("the service did not get ready in two minutes")
        yield client


@pytest.fixture(scope="module")
def settings(pipeline_run: Path) -> Settings:
    return Settings(pipeline_run / "models" / "model.pt", limits=Limits(seconds=60), patience_s=60.0)


@pytest.fixture(scope="module")
def client(settings: Settings) -> Iterator[TestClient]:
    yield from client_of(settings)


@pytest.fixture(scope="module")
def contradicting(settings: Settings, constant_weights: dict[str, Path]) -> Iterator[TestClient]:
    """A client of weights that segment the whole head and whose report leads to the state no tumor."""
    yield from client_of(replace(settings, model=constant_weights["no_tumor"]))


@pytest.fixture(scope="module")
def picture(synthetic: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(sorted((synthetic / "kaggle" / "yes").glob("*.[jJ][pP]*"))[0]).convert("L").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def volume(synthetic: Path) -> bytes:
    return (synthetic / "brats" / "PHANTOM_001" / "PHANTOM_001_flair.nii.gz").read_bytes()


def test_form_body_and_predictor_give_the_same_prediction(
    client: TestClient, settings: Settings, picture: bytes
) -> None:
    by_form = client.post("/predict_multitask", files={"file": ("any name", picture)})
    by_body = client.post("/predict_multitask", content=picture)
    assert by_form.status_code == by_body.status_code == 200 and by_form.json() == by_body.json()
    prediction, predicted = by_body.json(), Predictor(settings.model).predict(picture)
    assert {name: prediction[name] for name in predicted["result"]} == predicted["result"]
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(prediction["pictures"]["mask"]))))
    assert np.array_equal(mask > 0, np.asarray(predicted["pred"][0, :, :, 0]) > 0)
    assert prediction["notice"] == NOTICE and set(prediction["pictures"]) == {"mask"}


def dicom_head() -> bytes:
    """A DICOM file with the attributes that a segmentation needs."""
    references = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
    return dicom(head(160, 160).astype(np.uint16), **references)


def test_thresholds_come_from_the_weights_report_in_every_response_type(
    contradicting: TestClient, constant_weights: dict[str, Path], picture: bytes
) -> None:
    """No fixed 0.3 or 0.5; a mask of the whole head is returned unchanged, with its warning."""
    predictor = Predictor(constant_weights["no_tumor"])
    predicted, ask = predictor.predict(picture), {"url": "/predict_multitask", "content": picture}
    as_json = contradicting.post(**ask).json()
    archive = zipfile.ZipFile(io.BytesIO(contradicting.post(**ask, headers={"Accept": "application/zip"}).content))
    batch = contradicting.post("/predict_multitask/batch", files=[("files", ("a", picture))]).json()["predictions"]
    assert batch == [as_json]
    for result in (as_json, json.loads(archive.read("prediction.json"))):
        assert {name: result[name] for name in predicted["result"]} == predicted["result"]
    assert as_json["state"] == "no_tumor" and flag("mask_too_large") in as_json["flags"]
    masks = base64.b64decode(as_json["pictures"]["mask"]), archive.read("mask.png")
    assert all(np.asarray(Image.open(io.BytesIO(mask))).mean() > 0.8 * 255 for mask in masks)


def test_an_implausible_mask_is_unchanged_in_the_dicom_seg(
    contradicting: TestClient, constant_weights: dict[str, Path]
) -> None:
    """A mask of the whole head is never inverted."""
    import highdicom

    scan = dicom_head()
    prediction = contradicting.post("/predict_multitask", content=scan, headers={"Accept": "application/dicom"})
    mask = highdicom.seg.segread(io.BytesIO(prediction.content)).pixel_array.squeeze()
    expected = Predictor(constant_weights["no_tumor"]).predict(scan)["pred"][0, ..., 0]
    assert np.array_equal(mask, expected) and mask.mean() > 0.5


def test_images_and_files_are_those_of_the_predictor(
    weights_with_cam: Path, volume: bytes, each_slice_once: None
) -> None:
    """The CAM is unchanged, and of the displayed slice."""
    predictor = Predictor(weights_with_cam)
    predictor.parts["postprocessing"].transforms[0].mask_smoothing_mm = 0.0  # these weights segment single slices
    image, expected = predictor.read(volume), predictor.predict(volume, include_cam=True, include_uncertainty=True)
    prediction = response_of(predictor, image, include_cam=True, include_uncertainty=True)
    archive = zipfile.ZipFile(io.BytesIO(prediction.zip()))
    files = predictor.files(expected)
    assert {name: archive.read(name) for name in archive.namelist() if name != "prediction.json"} == files
    for name, key in {"mask": "pred", "cam": "cam", "mask_deviation": "mask_deviation"}.items():
        plane = np.take(np.asarray(expected[key][0]), prediction.shown_slice, axis=prediction.result["slice_axis"])
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(prediction.json()["pictures"][name]))))
        assert np.array_equal(shown, np.round(255 * plane)) and shown.any(), name


def test_each_slice_passes_the_encoder_once_in_every_response_type(
    client: TestClient, picture: bytes, volume: bytes, passes: list[int]
) -> None:
    everything = {"include_cam": True, "include_uncertainty": True}
    response = client.post("/predict_multitask", content=volume, params=everything).json()
    slices = sum(p is not None for p in response["slice_probabilities"])
    assert sum(passes) == slices > 1
    client.post("/predict_multitask", content=volume, params=everything, headers={"Accept": "application/zip"})
    assert sum(passes) == 2 * slices
    client.post("/predict_multitask", content=dicom_head(), headers={"Accept": "application/dicom"})
    assert sum(passes) == 2 * slices + 1
    client.post("/predict_multitask/batch", files=[("files", ("a", picture)), ("files", ("b", volume))])
    assert sum(passes) == 3 * slices + 2


def test_every_response_has_notice_model_and_request_id(client: TestClient, picture: bytes) -> None:
    predictions = [
        client.post("/predict_multitask", content=picture),
        client.get("/nowhere"),
        client.get("/model/info"),
    ]
    for prediction in predictions:
        assert prediction.headers["x-notice"] == NOTICE and prediction.json()["notice"] == NOTICE
        assert (
            len(prediction.headers["x-model-sha256"]) == 64
            and prediction.headers["x-content-type-options"] == "nosniff"
        )
    assert len({prediction.headers["x-request-id"] for prediction in predictions}) == 3


@pytest.mark.parametrize("by_form", [True, False])
def test_a_volume_with_cam_and_uncertainty(client: TestClient, volume: bytes, by_form: bool) -> None:
    wanted = {"include_cam": "true", "include_uncertainty": "true"}
    if by_form:
        prediction = client.post("/predict_multitask", files={"file": volume}, data=wanted).json()
    else:
        prediction = client.post("/predict_multitask", params=wanted, content=volume).json()
    assert set(prediction["pictures"]) == {"mask", "cam", "mask_deviation"} and prediction["volume_ml"] >= 0
    known = [p for p in prediction["slice_probabilities"] if p is not None]
    assert prediction["slice_probabilities"][prediction["shown_slice"]] == max(known)
    sizes = {Image.open(io.BytesIO(base64.b64decode(png))).size for png in prediction["pictures"].values()}
    assert len(sizes) == 1


def test_a_dicom_file_gets_a_dicom_seg(client: TestClient) -> None:
    import highdicom

    ask = {"headers": {"Accept": "application/dicom"}}
    plane = head(160, 160).astype(np.uint16)
    prediction = client.post("/predict_multitask", content=dicom_head(), **ask)
    assert prediction.status_code == 200 and prediction.headers["content-type"] == "application/dicom"
    found = highdicom.seg.segread(io.BytesIO(prediction.content))
    assert found.StudyInstanceUID == "1.2.3.4" and (found.Rows, found.Columns) == (160, 160)
    bare = client.post("/predict_multitask", content=dicom(plane), **ask)
    assert bare.status_code == 422 and "FrameOfReferenceUID is missing" in bare.json()["title"]
    picture = client.post("/predict_multitask", content=b"\x89PNG\r\n\x1a\n", **ask)
    assert picture.status_code == 406 and picture.json()["code"] == "accept"


def test_a_zip_contains_files_on_the_scans_own_grid(client: TestClient, volume: bytes) -> None:
    import nibabel as nib

    ask = {"content": volume, "params": {"include_cam": True}, "headers": {"Accept": "application/zip"}}
    first, again = (client.post("/predict_multitask", **ask) for _ in range(2))
    assert first.content == again.content and first.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(first.content))
    assert set(archive.namelist()) == {"prediction.json", "mask.nii.gz", "cam.nii.gz", "probability.nii.gz"}
    scan, mask = (nib.Nifti1Image.from_bytes(_inflated(data)) for data in (volume, archive.read("mask.nii.gz")))
    assert mask.shape == scan.shape and np.allclose(mask.affine, scan.affine)
    probability = np.asarray(nib.Nifti1Image.from_bytes(_inflated(archive.read("probability.nii.gz"))).dataobj)
    assert (
        probability.min() >= 0
        and probability.max() <= 1
        and json.loads(archive.read("prediction.json"))["notice"] == NOTICE
    )


def _inflated(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def test_a_batch_keeps_the_order_and_gives_reasons(client: TestClient, picture: bytes) -> None:
    files = [("files", ("a", picture)), ("files", ("b", b"no scan")), ("files", ("c", picture))]
    predictions = client.post("/predict_multitask/batch", files=files).json()["predictions"]
    assert predictions[0] == predictions[2] == client.post("/predict_multitask", content=picture).json()
    assert predictions[1]["status"] == 415 and predictions[1]["code"] == "unsupported"
    many = [("files", ("a", picture))] * 17
    assert client.post("/predict_multitask/batch", files=many).status_code == 400


def test_an_internal_error_in_a_batch_affects_one_scan(
    client: TestClient, picture: bytes, volume: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_on_volumes(predictor: Predictor, image: Any, *arguments: Any) -> PredictionResponse:
        if image.shape[-1] > 1:
            raise RuntimeError("a secret of this machine")
        return response_of(predictor, image, *arguments)

    monkeypatch.setattr("bundle.service.job_queue.response_of", fail_on_volumes)
    files = [("files", ("a", picture)), ("files", ("b", volume)), ("files", ("c", picture))]
    with caplog.at_level(logging.INFO, "bundle.service"):
        prediction = client.post("/predict_multitask/batch", files=files)
    first, failed, last = prediction.json()["predictions"]
    assert prediction.status_code == 200 and first == last and first["state"]
    assert (failed["status"], failed["code"]) == (500, "internal")
    assert f"{failed['request_id']} failed: RuntimeError" in caplog.text
    assert "secret" not in prediction.text + caplog.text


def test_weights_of_four_modalities_predict_a_file_of_four_channels(tmp_path: Path) -> None:
    import nibabel as nib

    modalities = ["flair", "t1", "t1ce", "t2"]
    torch.save(multi_task_unet("cpu", in_channels=4).state_dict(), tmp_path / "model.pt")
    (tmp_path / "report.json").write_text(json.dumps({"model": {"modalities": modalities}}))
    plane = head(160, 160).astype(np.float32)[..., None]
    one, four = (nib.Nifti1Image(np.stack([plane] * count, axis=3), np.eye(4)).to_bytes() for count in (1, 4))
    for client in client_of(Settings(tmp_path / "model.pt", limits=Limits(seconds=60), patience_s=60.0)):
        assert client.get("/model/info").json()["modalities"] == modalities
        assert client.post("/predict_multitask", content=four).json()["tumor_probability"] is not None
        unknown = client.post("/predict_multitask", content=one).json()
        assert "sequence_unknown_untrained" in {flag["code"] for flag in unknown["flags"]}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/zip;q=0.1, application/json", "json"),
        ("application/json; q=0.2, application/zip ;q=0.9, application/dicom;Q=0.3", "zip"),
        ("application/zip, application/json", "zip"),
        ("text/html, application/xml;q=0.9, */*;q=0.8", "json"),
        ("application/json;q=0, */*", "zip"),
        ("application/dicom, application/*;q=0.5", "dicom"),
        ("", "json"),
        ("application/zip;q=0.5,", "zip"),
    ],
)
def test_the_response_type_is_the_one_the_client_prefers(accept: str, kind: str) -> None:
    assert wanted_kind(accept) == f"application/{kind}"


def test_a_slow_scan_becomes_a_job_with_an_address(settings: Settings, picture: bytes) -> None:
    for client in client_of(replace(settings, patience_s=0.0)):
        prediction = client.post("/predict_multitask", content=picture)
        assert prediction.status_code == 202 and prediction.headers["location"] == prediction.json()["address"]
        for _ in range(600):
            found = client.get(prediction.headers["location"])
            if found.status_code == 200:
                break
            assert found.status_code == 202
            time.sleep(0.1)
        predicted = Predictor(settings.model).predict(picture)["result"]
        assert {name: found.json()[name] for name in predicted} == predicted
        assert client.get("/predict_multitask/jobs/guessed").json()["code"] == "no_job"


class Scans:
    """A stand-in for the predictor that counts decoded scans that wait for the network."""

    def __init__(self) -> None:
        self.held, self.most, self.lock = 0, 0, threading.Lock()

    def read(self, _: bytes, **__: Any) -> str:
        with self.lock:
            self.held += 1
            self.most = max(self.most, self.held)
        return "image"

    def infer(self, *_: Any) -> PredictionResponse:
        time.sleep(0.02)
        with self.lock:
            self.held -= 1
        return PredictionResponse({"state": "tumor"})


def test_the_number_of_decoded_scans_in_memory_is_limited(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = Scans()
    monkeypatch.setattr("bundle.service.job_queue.response_of", scans.infer)

    async def run() -> None:
        queue = JobQueue(replace(settings, decoders=2), Metrics())
        jobs = [queue.begin(scans, PredictionRequest(b"")) for _ in range(12)]  # type: ignore[arg-type]
        assert queue.waiting == 12
        await asyncio.gather(*(job.future for job in jobs))
        await asyncio.sleep(0)
        assert queue.waiting == 0
        queue.close()

    asyncio.run(run())
    assert scans.held == 0 and 1 < scans.most <= 3


def test_a_prediction_expires_some_time_after_it_is_ready(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time in the queue does not count."""
    now = [1000.0]
    monkeypatch.setattr("bundle.service.job_queue.time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("bundle.service.job_queue.response_of", Scans().infer)

    async def run() -> None:
        queue = JobQueue(replace(settings, keep_s=600.0), Metrics())
        job = queue.begin(Scans(), PredictionRequest(b""))  # type: ignore[arg-type]
        queue.jobs[job.id] = job
        now[0] += 5000.0
        assert queue.job(job.id) is job, "not finished yet"
        await job.future
        await asyncio.sleep(0)
        now[0] += 599.0
        assert queue.job(job.id) is job
        now[0] += 2.0
        with pytest.raises(Problem):
            queue.job(job.id)
        queue.close()

    asyncio.run(run())


def test_with_a_token_any_host_name_is_accepted(settings: Settings) -> None:
    """Behind a proxy or in a container the host name is unknown in advance."""
    for client in client_of(replace(settings, token="s3cret")):
        there = {"Host": "scanner.hospital.example", "Authorization": "Bearer s3cret"}
        assert client.get("/model/info", headers=there).status_code == 200
        assert client.get("/model/info", headers={"Host": there["Host"]}).status_code == 401


def test_a_full_queue_is_an_overload(settings: Settings, picture: bytes) -> None:
    for client in client_of(replace(settings, queue=0)):
        prediction = client.post("/predict_multitask", content=picture)
        assert prediction.status_code == 503 and prediction.headers["retry-after"] == "2"
        assert prediction.json()["code"] == "overload"


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        ({"content": b""}, 400, "no_file"),
        ({"files": {"other": (None, "x")}}, 400, "no_file"),
        ({"files": [("file", b"a"), ("file", b"b")]}, 400, "http"),
        ({"content": b"hello"}, 415, "unsupported"),
        ({"content": b"x", "headers": {"Accept": "text/html"}}, 406, "accept"),
        ({"content": b"x", "headers": {"Accept": "application/json;q=0"}}, 406, "accept"),
        ({"content": b"x", "headers": {"Accept": "application/json;q=high"}}, 400, "parameter"),
        ({"content": b"x", "params": {"include_cam": "maybe"}}, 400, "parameter"),
        ({"files": {"file": b"x"}, "data": {"include_cam": "maybe"}}, 400, "parameter"),
        ({"content": b"x", "headers": {"Host": "evil.example"}}, 400, "host"),
        ({"content": bytes(32 * 2**20 + 2**17)}, 413, "too_large"),
    ],
)
def test_bad_requests_get_a_problem(client: TestClient, ask: dict[str, Any], status: int, code: str) -> None:
    prediction = client.post("/predict_multitask", **ask)
    problem = prediction.json()
    assert (prediction.status_code, problem["code"], problem["status"]) == (status, code, status)
    assert prediction.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == prediction.headers["x-request-id"]


TOO_MUCH = bytes(32 * MIB + MIB // 8)


@pytest.mark.parametrize(
    "ask",
    [
        {"url": "/predict_multitask", "files": {"file": TOO_MUCH}},
        {"url": "/predict_multitask/batch", "files": [("files", ("a", TOO_MUCH[: 16 * MIB])) for _ in range(3)]},
    ],
    ids=["form", "batch of allowed files"],
)
def test_too_many_bytes_are_refused_in_forms_and_batches(client: TestClient, ask: dict[str, Any]) -> None:
    prediction = client.post(**ask)
    assert (prediction.status_code, prediction.json()["code"]) == (413, "too_large")


def test_a_body_without_content_length_is_read_up_to_the_limit() -> None:
    """Without the test client, which reads a whole body before it sends it."""
    received, sent = [], []

    async def receive() -> dict[str, Any]:
        received.append(MIB)
        return {"type": "http.request", "body": bytes(MIB), "more_body": len(received) < 64}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict_multitask", "query_string": b""}
    asyncio.run(create_app()({**scope, "headers": [(b"host", b"127.0.0.1")]}, receive, send))
    assert sent[0]["status"] == 413 and sum(received) == 33 * MIB


def test_the_message_of_an_internal_error_is_not_returned(
    client: TestClient, picture: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a secret of this machine")

    monkeypatch.setattr("bundle.service.job_queue.response_of", fail)
    prediction = client.post("/predict_multitask", content=picture)
    assert prediction.status_code == 500 and prediction.json()["code"] == "internal" and "secret" not in prediction.text


@pytest.mark.parametrize("case", sample(24, seed=1), ids=str)
def test_a_malformed_file_gets_its_status_and_does_not_affect_the_next(
    case: Case, client: TestClient, picture: bytes
) -> None:
    expected = client.post("/predict_multitask", content=picture).content
    prediction = client.post("/predict_multitask", files={"file": (case.filename, case.bytes())})
    found = OK if prediction.status_code == 200 else prediction.json()["code"]
    assert found in case.expected and prediction.status_code != 500
    assert client.post("/predict_multitask", content=picture).content == expected


def test_all_routes_but_health_need_the_token(settings: Settings) -> None:
    for client in client_of(replace(settings, token="s3cret")):
        routes = [route for route in client.app.routes if isinstance(route, Route)]  # type: ignore[attr-defined]
        paths = {route.path for route in routes}
        assert paths == {
            *OPEN,
            *("/metrics", "/model/info"),
            *("/predict_multitask", "/predict_multitask/batch", "/predict_multitask/jobs/{job}"),
        }, "no docs if there is a token"
        for route in routes:
            for method in route.methods or ():
                for words in WRONG:
                    headers = {} if words is None else {"Authorization": words}
                    status = client.request(method, route.path, headers=headers).status_code
                    assert (status in (401, 429)) is (route.path not in OPEN), (route.path, words)
                good = client.request(method, route.path, headers={"Authorization": "Bearer s3cret"})
                assert good.status_code not in (401, 403, 500)


CANARY = "CNRY7"  # short enough for every field


def with_canaries(picture: bytes) -> dict[str, bytes]:
    """Files with the canary in every field that may be personal."""
    import nibabel as nib

    dataset = mr_dataset(head(160, 160).astype(np.uint16), PatientName=CANARY, PatientID=CANARY)
    dataset.PatientBirthDate, dataset.AccessionNumber, dataset.PatientComments = "19770707", CANARY, CANARY
    dataset.private_block(0x0011, CANARY, create=True).add_new(0x01, "LO", CANARY)
    exif, text = Image.Exif(), PngInfo()
    exif[0x013B], exif[0x9286], exif[0xA430] = CANARY, CANARY.encode(), CANARY  # artist, comment, owner
    exif.get_ifd(0x8825)[0x001C] = CANARY.encode()  # GPS area
    text.add_text("Comment", CANARY)
    image, files = Image.open(io.BytesIO(picture)), {}
    for kind, options in {"JPEG": {"exif": exif}, "PNG": {"pnginfo": text}}.items():
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files[kind] = buffer.getvalue()
    nifti = nib.Nifti1Image(head(160, 160).astype(np.float32)[..., None], np.eye(4))
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        nifti.header[name] = CANARY.encode()
    return {**files, "NIfTI": nifti.to_bytes(), "DICOM": written(dataset)}


@pytest.mark.parametrize("damage", ["none", "cut", "random"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "NIfTI", "DICOM"])
def test_personal_data_is_not_logged_returned_or_kept(
    client: TestClient,
    picture: bytes,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    damage: str,
) -> None:
    """In files, and in name, query and header of the request; for predicted and refused files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = with_canaries(picture)[kind]
    assert CANARY.encode() in content
    content = {"none": content, "cut": content[: len(content) * 2 // 3], "random": CANARY.encode() + content}[damage]
    returned = b""
    with caplog.at_level(logging.DEBUG):
        for accept in ("application/json", "application/zip"):
            prediction = client.post(
                f"/predict_multitask?patient={CANARY}&include_cam=true",
                files={"file": (f"{CANARY}.png", content)},
                headers={"X-Name": CANARY, "Accept": accept},
            )
            assert prediction.status_code == {"none": 200, "cut": 422, "random": 415}[damage]
            returned += prediction.content + str(prediction.headers).encode()
            if prediction.headers["content-type"] == "application/zip":
                archive = zipfile.ZipFile(io.BytesIO(prediction.content))
                files = {name: archive.read(name) for name in archive.namelist()}
                returned += b"".join(_inflated(data) if name.endswith(".gz") else data for name, data in files.items())
    shown = [one for one in caplog.records if one.name.startswith("bundle") or one.levelno >= logging.WARNING]
    ours = "".join(record.getMessage() for record in shown)
    assert CANARY.encode() not in returned and b"19770707" not in returned
    assert CANARY not in ours and "predict_multitask" in ours and CANARY not in client.get("/metrics").text
    assert not list(tmp_path.iterdir())


# attributes whose values highdicom or pydicom would repeat in a message
REPEATED = (
    *("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientSex", "PatientBirthDate", "StudyDate"),
    *("StudyTime", "PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName"),
)


@pytest.mark.parametrize("accept", ["application/dicom", "application/json", "application/zip"])
def test_no_attribute_of_a_dicom_file_is_in_a_refusal_or_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], accept: str
) -> None:
    """Neither in a message of ours nor in one of a library; a DICOM SEG has them, as the standard demands."""
    references = {"StudyInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.3.5"}
    plane, value = head(160, 160).astype(np.uint16), f"{CANARY}.19770707.{CANARY}"
    contents = [dicom(plane, **{**references, name: value}) for name in REPEATED]
    caplog.clear()
    capfd.readouterr()
    shown, statuses = "", set()
    with caplog.at_level(logging.INFO):
        for content in (*contents, *(content[: len(content) // 2] for content in contents)):
            answer = client.post("/predict_multitask", content=content, headers={"Accept": accept})
            statuses.add(answer.status_code)
            if answer.headers["content-type"] != "application/dicom":
                shown += answer.text + str(answer.headers)
    shown += "".join(record.getMessage() for record in caplog.records) + "".join(capfd.readouterr())
    assert CANARY not in shown and "19770707" not in shown
    assert 422 in statuses and statuses <= {200, 422}


@pytest.mark.parametrize("disconnects", [True, False])
def test_a_disconnect_cancels_the_prediction(disconnects: bool) -> None:
    class Client:
        async def receive(self) -> dict[str, str]:
            if not disconnects:
                await asyncio.sleep(60)
            return {"type": "http.disconnect"}

    async def run() -> list[str]:
        events = ["begun"]

        async def work() -> str:
            await asyncio.sleep(0.05)
            events.append("done")
            return "prediction"

        try:
            events.append(await cancel_on_disconnect(Client(), work()))  # type: ignore[arg-type]
        except ClientDisconnect:
            events.append("disconnected")
        await asyncio.sleep(0.1)
        return events

    assert asyncio.run(run()) == (["begun", "disconnected"] if disconnects else ["begun", "done", "prediction"])


def test_a_used_address_or_invalid_weights_end_the_service(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"no weights")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="Address already in use"):
            serve(Settings(tmp_path / "model.pt", port=taken.getsockname()[1]))
        free = taken.getsockname()[1]
    with pytest.raises(UserError, match="0-65535"):
        serve(Settings(tmp_path / "model.pt", port=99999999))
    with pytest.raises(UserError, match="cannot be loaded"):
        serve(Settings(tmp_path / "model.pt", port=free))


def test_metrics_count_and_the_description_has_types(client: TestClient) -> None:
    text = client.get("/metrics").text
    assert 'bundle_requests_total{route="/predict_multitask",status="200"}' in text and "bundle_waiting 0.0" in text
    description = client.get("/openapi.json").json()
    predict = description["paths"]["/predict_multitask"]["post"]
    assert {"multipart/form-data", "application/octet-stream"} <= set(predict["requestBody"]["content"])
    assert predict["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].endswith("Prediction")


def test_model_info_is_the_weights_report(client: TestClient, settings: Settings) -> None:
    info = client.get("/model/info").json()
    assert settings.model is not None
    report = json.loads((settings.model.parent / "report.json").read_text())
    assert info["model"]["sha256"] == report["model"]["sha256"]
    assert info["decision"] == report["decision"], "thresholds, each with sensitivity, specificity and n"
    assert info["model"].pop("learned") is None, "both tasks"
    assert info == {**Predictor(settings.model).describe(), "notice": NOTICE}


def test_errors_are_described_as_problem_documents(client: TestClient) -> None:
    for operations in client.get("/openapi.json").json()["paths"].values():
        for operation in operations.values():
            assert set(operation["responses"]["default"]["content"]) == {"application/problem+json"}
