"""The routes: what is asked of which model, and every way in which that may end.

GET  /models                      what is served
POST /models/NAME/predict         raw inputs to answers
GET  /health /ready /metrics /openapi.json
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from trainyard import __version__
from trainyard.data.problems import printable
from trainyard.serving.answers import Mask, check_finite
from trainyard.serving.bad_input import BadInput
from trainyard.serving.batching import Full
from trainyard.serving.bodies import Malformed, read_body
from trainyard.serving.measures import CONTENT_TYPE, Measures
from trainyard.serving.options import Options
from trainyard.serving.replies import ERROR, about, as_json, request_body, response_schema
from trainyard.serving.served import Served

ERRORS = {
    "400": "The body is not what its content-type says.",
    "401": "The token is missing, or another one.",
    "408": "The body took too long.",
    "413": "The body is too large.",
    "415": "The content-type is not taken.",
    "422": "A field holds something that the model cannot answer.",
    "429": "Too much waits already: try again later.",
    "503": "The answer took too long, or the server is full or about to end: try again later.",
}
RETRY = {"retry-after": "1"}
Handler = Callable[[Request], Awaitable[Response]]


def build_application(
    models: Mapping[str, Served],
    options: Options,
    measures: Measures,
    reader: Executor,
    draining: Callable[[], bool],
) -> FastAPI:
    """Return the application for some models.

    Args:
        models: by their names.
        options: limits.
        measures: counters.
        reader: decodes inputs.
        draining: whether the server is about to end.
    """
    application = FastAPI(
        title="Trainyard",
        version=__version__,
        summary="Raw images, texts and series in; classes, masks and forecasts out.",
        # Their pages would load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    known = [_schema("ok", "Whether this process works.")]

    # Load balancers ask with HEAD, for which a schema has nothing to say.
    @application.head("/health", include_in_schema=False)
    @application.get("/health", summary="Whether this process works", responses=known[0])
    async def health() -> JSONResponse:
        problems = {name: served.problem for name, served in models.items() if served.problem}
        return JSONResponse({"status": "ok", **({"problems": problems} if problems else {})})

    @application.head("/ready", include_in_schema=False)
    @application.get("/ready", summary="Whether new requests are welcome", responses={**known[0], **_errors("503")})
    async def ready() -> JSONResponse:
        if draining():
            return _error(503, "refused", "server", "is about to end", "ask another one", RETRY)
        return JSONResponse({"status": "ready"})

    @application.get("/metrics", summary="Counters for Prometheus", response_class=Response, responses=_TEXT)
    async def metrics() -> Response:
        return Response(measures.text(), media_type=CONTENT_TYPE)

    @application.get("/models", summary="The models that are served")
    async def list_models() -> dict[str, Any]:
        return {"models": [about(served.predictor.signature) for served in models.values()]}

    for name, served in models.items():
        _add_model(application, name, served, options, measures, reader)

    @application.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> JSONResponse:
        expected = f"expected one of /models, {', '.join(f'/models/{name}/predict' for name in models)}"
        field = "method" if error.status_code == 405 else "path"
        return _error(error.status_code, "refused", field, str(error.detail), expected, dict(error.headers or {}))

    return application


def _add_model(application: FastAPI, name: str, served: Served, options: Options, measures: Measures, reader: Executor) -> None:
    signature = served.predictor.signature
    responses: dict[int | str, dict[str, Any]] = {
        200: {"description": "An answer for each input.", "content": _content(response_schema(signature))},
        **_errors(*ERRORS),
    }
    if signature.kind == "segmentation":
        responses[200]["content"]["image/png"] = {"schema": {"type": "string", "format": "binary"}}
    application.add_api_route(
        f"/models/{name}/predict",
        _counted(name, measures, _predicts(served, options, measures, reader)),
        methods=["POST"],
        name=f"predict_{name}",
        summary=f"Ask {name} about {served.predictor.field}",
        response_class=JSONResponse,
        responses=responses,
        openapi_extra={"requestBody": request_body(signature, options)},
    )

    @application.get(f"/models/{name}", name=f"about_{name}", summary=f"What {name} takes and gives")
    async def one_model() -> dict[str, Any]:
        return about(served.predictor.signature)


def _predicts(served: Served, options: Options, measures: Measures, reader: Executor) -> Handler:
    async def predict(request: Request) -> Response:
        body = await request.body()
        # The same one to the end, also where another takes its place meanwhile.
        predictor = served.predictor
        batcher = served.batcher
        if len(batcher.waiting) >= options.waiting:
            raise Full
        loop = asyncio.get_running_loop()
        content_type = request.headers.get("content-type", "")
        batcher.coming += 1
        try:
            async with asyncio.timeout(options.answer_seconds):
                fields, samples = await loop.run_in_executor(reader, _read, predictor, body, content_type, options)
        finally:
            batcher.coming -= 1
        async with asyncio.timeout(options.answer_seconds):
            answers = await batcher.answer(predictor, samples, fields)
        for answer, field in zip(answers, fields, strict=True):
            check_finite(answer, field)
        measures.inputs.labels(served.name).inc(len(answers))
        if len(answers) == 1 and isinstance(answers[0], Mask) and request.headers.get("accept") == "image/png":
            return Response(answers[0].png(), media_type="image/png")
        signature = predictor.signature
        # PNGs of large masks take their time.
        found = await loop.run_in_executor(reader, lambda: [as_json(answer) for answer in answers])
        return JSONResponse({"model": signature.recipe, "fingerprint": signature.fingerprint, "predictions": found})

    return predict


def _read(predictor: Any, body: bytes, content_type: str, options: Options) -> tuple[list[str], list[Any]]:
    raws = read_body(body, content_type, predictor.field, options.inputs_at_once)
    fields = [f"{predictor.field}[{number}]" for number in range(len(raws))]
    return fields, [predictor.sample(raw, field, options.inputs) for raw, field in zip(raws, fields, strict=True)]


def _counted(name: str, measures: Measures, handler: Handler) -> Handler:
    """Say how every request ends, and count it."""

    async def counted(request: Request) -> Response:
        began = time.perf_counter()
        try:
            response = await handler(request)
        except BadInput as error:
            response = _error(422, error.rule, error.field, error.found, error.expected)
        except Malformed as error:
            response = _error(error.status, "malformed", "body", error.found, error.expected)
        except Full:
            response = _error(429, "refused", "server", "too much waits already", "send it again later", RETRY)
        except TimeoutError:
            response = _error(503, "refused", "server", "no answer in time", "send it again later, or less at once", RETRY)
        measures.requests.labels(name, str(response.status_code)).inc()
        measures.seconds.labels(name).observe(time.perf_counter() - began)
        return response

    return counted


def _error(
    status: int, rule: str, field: str, found: str, expected: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    said = {"rule": rule, "field": printable(field), "found": printable(found), "expected": expected.removeprefix("expected ")}
    return JSONResponse({"error": said}, status, headers=dict(headers or {}))


def _errors(*statuses: str) -> dict[int | str, dict[str, Any]]:
    return {int(status): {"description": ERRORS[status], "content": _content(ERROR)} for status in statuses}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _schema(status: str, description: str) -> dict[int | str, dict[str, Any]]:
    schema = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    return {200: {"description": description, "content": _content(schema)}}


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
}
