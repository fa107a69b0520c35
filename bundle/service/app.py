"""The service's routes. `create_app` builds the application; `server.py` runs it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from .. import NOTICE, __version__
from ..core import file_types
from ..errors import reason_of
from ..intake.isolation import missing as missing_isolation
from ..predictor import Predictor
from ..warmup import warm_up
from . import schemas
from .access import TokenCheck
from .job_queue import Job, JobQueue, PredictionRequest
from .metrics import Metrics
from .problems import PROBLEM, Problem, problem_response
from .request_guard import RequestGuardMiddleware
from .requests import DICOM, JSON, ZIP, cancel_on_disconnect, flag, received, wanted_kind
from .responses import PredictionResponse
from .settings import Settings

__all__ = ["create_app"]

LOG = logging.getLogger("bundle.service")
KINDS: dict[str, Any] = {ZIP: {}, DICOM: {}}  # beside JSON


class Service:
    """State shared by the routes of one application.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.predictor: Predictor | None = None
        self.queue = JobQueue(settings, self.metrics)
        self.ready = self.failed = False

    def load(self) -> None:
        """Load the weights and test them; takes seconds, runs in a thread of its own."""
        try:
            self._load()
        except Exception as error:
            LOG.error("the weights cannot be loaded: %s", reason_of(error) or type(error).__name__)
            self.failed = True

    def _load(self) -> None:
        for access in missing_isolation():
            LOG.warning("scans are decoded with limits, but without isolation from %s", access)
        self.predictor = self.settings.predictor()
        ready = warm_up(self.predictor)
        gc.collect()
        gc.freeze()  # the collector would hold up all requests while it walks through the modules again
        self.ready = ready

    def close(self) -> None:
        """Finish running scans, end the decoding process."""
        self.ready = False
        self.queue.close()
        if self.predictor is not None:
            self.predictor.intake.close()

    def loaded(self) -> Predictor:
        """The predictor, once it is ready.

        Raises:
            Problem: before that.
        """
        if self.predictor is None or not self.ready:
            if self.failed:
                raise Problem(503, "failed", "the weights cannot be loaded, see the log")
            raise Problem(503, "not_ready", "the weights are being loaded", {"Retry-After": "5"})
        return self.predictor

    async def predict(self, wanted: PredictionRequest) -> PredictionResponse | Job:
        """Predict one scan; return its job if it takes longer than a request may."""
        return await self.queue.predict(self.loaded(), wanted)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Build the application.

    Args:
        settings: of the service.
    """
    service = Service(settings or Settings())

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.get_running_loop().run_in_executor(None, service.load)
        loading.add_done_callback(lambda done: setattr(app.state, "card", _card(service)))
        yield
        await asyncio.get_running_loop().run_in_executor(None, service.close)

    documented = service.settings.token is None
    make = FastAPIOffline if documented else FastAPI  # its scripts do not come from elsewhere
    app = make(
        title="Brain MRI tumor segmentation and classification",
        version=__version__,
        description=NOTICE,
        lifespan=life,
        openapi_url="/openapi.json" if documented else None,
        docs_url="/docs" if documented else None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would repeat the request's host name
        responses={"default": {"model": schemas.ProblemResponse, "description": "the reason of the error"}},
    )
    app.state.service = service
    for kind in (Problem, Exception):
        app.add_exception_handler(kind, problem_response)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    _add_routes(app, service)
    describe = app.openapi
    app.openapi = lambda: _with_problems(describe())  # type: ignore[method-assign]
    app.add_middleware(RequestGuardMiddleware, settings=service.settings, metrics=service.metrics)
    return app


def _with_problems(description: dict[str, Any]) -> dict[str, Any]:
    """Describe every error as application/problem+json; FastAPI describes it as JSON."""
    for operations in description["paths"].values():
        for operation in operations.values():
            content = operation["responses"]["default"]["content"]
            if JSON in content:
                content[PROBLEM] = content.pop(JSON)
    return description


def _card(service: Service) -> dict[str, Any] | None:
    return dict(service.predictor.parts["model_card"]) if service.predictor is not None else None


async def _invalid(request: Request, error: Exception) -> Response:
    """Error of invalid parameters, without their values."""
    where = error.errors()[0]["loc"][-1] if isinstance(error, RequestValidationError) else "request"
    return problem_response(request, Problem(400, "parameter", f"'{where}' cannot be read"))


async def _http(request: Request, error: Exception) -> Response:
    """Starlette's errors: unknown route, wrong method, damaged form."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {404: "no such address", 405: "not by this method", 400: "the form is damaged or has too many parts"}
    headers = dict(getattr(error, "headers", None) or {})
    return problem_response(request, Problem(status, "http", words.get(status, "refused"), headers))


def _add_routes(app: FastAPI, service: Service) -> None:
    """Add all routes; those without `guard` need no token."""
    tokens = TokenCheck(service.settings.token, service.settings.wrong_tokens)

    async def authorized(request: Request, authorization: Annotated[str, Header(include_in_schema=False)] = "") -> None:
        tokens.require(authorization, request.client.host if request.client else "")

    guard = [Depends(authorized)]

    @app.get("/livez", response_model=schemas.Status, tags=["health"])
    async def livez() -> dict[str, str]:
        """Report that the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz", response_model=schemas.Status, tags=["health"])
    async def readyz() -> dict[str, str]:
        """Report that the weights are loaded and predict a test image reproducibly."""
        service.loaded()
        return {"status": "ready"}

    @app.get("/metrics", dependencies=guard, response_class=Response, tags=["health"])
    async def metrics() -> Response:
        """Return the counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/model/info", dependencies=guard, response_model=schemas.ModelInfo, tags=["model"])
    async def model_info() -> dict[str, Any]:
        """Return version and hash of the weights, their thresholds and the scores of their report."""
        predictor = service.loaded()
        return {**predictor.describe(), "notice": NOTICE}

    @app.post(
        "/predict_multitask",
        dependencies=guard,
        response_model=schemas.Prediction,
        responses={200: {"content": KINDS}, 202: {"model": schemas.JobStatus, "description": "not finished yet"}},
        openapi_extra=schemas.ONE_FILE,
        tags=["predict"],
    )
    async def predict_multitask(
        request: Request,
        include_cam: Annotated[bool, Query(description="add the class activation map")] = False,
        include_uncertainty: Annotated[bool, Query(description="add Monte-Carlo dropout deviations")] = False,
        accept: Annotated[str, Header()] = JSON,
    ) -> Response:
        """Classify a scan (tumor or none) and segment the tumor. Takes NIfTI, NRRD, MetaImage, DICOM, pictures."""
        wanted = wanted_kind(accept)
        files, fields = await received(request, 1)
        if len(files) != 1:
            raise Problem(400, "no_file", "one file is expected, as the body or as the form's field 'file'")
        cam, uncertainty = (
            flag(fields, name, default)
            for name, default in (("include_cam", include_cam), ("include_uncertainty", include_uncertainty))
        )
        if wanted == DICOM and file_types.file_type_of(files[0].head(file_types.HEAD_BYTES)) != "dicom":
            raise Problem(406, "accept", f"{DICOM} needs a DICOM file")
        scan = PredictionRequest(files[0], cam, uncertainty, wanted == DICOM, request.scope["upload"])
        found = await cancel_on_disconnect(request, service.predict(scan))
        return _working(request, found) if isinstance(found, Job) else _encoded(found, wanted)

    @app.post(
        "/predict_multitask/batch",
        dependencies=guard,
        response_model=schemas.Batch,
        openapi_extra=schemas.MANY_FILES,
        tags=["predict"],
    )
    async def predict_batch(request: Request) -> Response:
        """Predict several scans; a refused file has an error in its place."""
        files, _ = await received(request, service.settings.batch)
        if not files:
            raise Problem(400, "no_file", "the form's field 'files' is expected, once or more")
        service.loaded()
        scans = [PredictionRequest(file, upload=request.scope["upload"]) for file in files]
        pending = asyncio.gather(*(service.predict(scan) for scan in scans), return_exceptions=True)
        found = await cancel_on_disconnect(request, pending)
        return JSONResponse({"predictions": [_entry(request, one) for one in found], "notice": NOTICE})

    @app.get(
        "/predict_multitask/jobs/{job}",
        dependencies=guard,
        response_model=schemas.Prediction,
        responses={200: {"content": KINDS}, 202: {"model": schemas.JobStatus, "description": "not finished yet"}},
        tags=["predict"],
    )
    async def predict_job(request: Request, job: str, accept: Annotated[str, Header()] = JSON) -> Response:
        """Return the prediction of a scan that took longer than a request may."""
        found = service.queue.job(job)
        return _encoded(await found.future, wanted_kind(accept)) if found.future.done() else _working(request, found)


def _encoded(prediction: PredictionResponse, wanted: str) -> Response:
    if wanted == DICOM and prediction.dicom is None:  # a job of a request for another type
        raise Problem(406, "accept", f"{DICOM} was not requested with the scan")
    if wanted == DICOM:
        return Response(prediction.dicom, media_type=DICOM)
    return Response(prediction.zip(), media_type=ZIP) if wanted == ZIP else JSONResponse(prediction.json())


def _working(request: Request, job: Job) -> Response:
    """The address of a prediction that takes longer than a request may."""
    address = request.app.url_path_for("predict_job", job=job.id)
    content = {"status": "working", "job": job.id, "address": str(address), "notice": NOTICE}
    return JSONResponse(content, 202, {"Location": str(address), "Retry-After": "2"})


def _entry(request: Request, found: PredictionResponse | Job | BaseException) -> dict[str, Any]:
    """One entry of a batch's response."""
    if isinstance(found, PredictionResponse):
        return found.json()
    if isinstance(found, Job):
        address = request.app.url_path_for("predict_job", job=found.id)
        return {"status": "working", "job": found.id, "address": str(address)}
    number = request.scope["request_id"]
    if not isinstance(found, Problem):
        LOG.error("%s failed: %s", number, type(found).__name__)  # its message may contain content of the file
        found = Problem.internal()
    return found.content(number)
