"""The REST endpoint; docs/app.md describes its JSON.

    POST /api/pictures   pictures as base64 PNGs, with their recipes
    GET  /api/model      stages, resolutions, defaults, limits
    GET  /api/health     whether it draws, and how many wait

Every error is {"error": "one sentence"}: 422 for a field that is wrong, 413 for too
large a request, 415 for what is not JSON, 503 with Retry-After for a full queue.
"""

import asyncio
import base64
import json
import shutil
from typing import Any

from imagen_jax.app.jobs import FullQueueError, GivenUpError, Job
from imagen_jax.app.requests import Request, read_request
from imagen_jax.app.studio import Drawn, Studio
from imagen_jax.errors import UserError
from imagen_jax.optional import import_optional
from imagen_jax.version import __version__

import_optional("fastapi", "app")  # a sentence where it is missing

import fastapi  # noqa: E402
from fastapi.concurrency import run_in_threadpool  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from starlette.exceptions import HTTPException  # noqa: E402

POLL_SEC = 1.0  # how often it is looked whether a visitor is still there
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def make_rest(studio: Studio) -> fastapi.FastAPI:
    """Returns an application with the three routes."""
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/api/pictures")
    async def draw(request: fastapi.Request) -> JSONResponse:
        if request.headers.get("content-type", "").partition(";")[0].strip() != (
            "application/json"
        ):
            # Also keeps other sites' pages out: they may not send this type unasked.
            return _error(415, "the request must have Content-Type: application/json")
        body = await request.body()
        try:
            wanted = await run_in_threadpool(_read, studio, body)
            job = studio.submit(wanted)
            drawn = await _wait(job, request)
            return JSONResponse(await run_in_threadpool(_pack, drawn))
        except FullQueueError as error:
            headers = {"Retry-After": str(error.retry_after_sec)}
            return _error(503, str(error), headers)
        except UserError as error:
            return _error(422, str(error))
        except GivenUpError:
            return _error(503, "the server is stopping, or you left; ask again")
        except Exception:  # its traceback is in the log
            return _error(500, "the drawing failed; see the log of the server")

    @app.get("/api/model")
    def show_model() -> dict[str, Any]:
        return describe(studio)

    @app.get("/api/health")
    def show_health() -> dict[str, Any]:
        queue = studio.queue
        return {
            "status": "ok",
            "drawing": queue.is_busy,
            "waiting": queue.num_waiting,
            "queue_limit": queue.limit,
        }

    @app.exception_handler(HTTPException)
    def on_status(request: fastapi.Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    @app.api_route("/api/{rest:path}", methods=METHODS)
    def refuse(rest: str) -> JSONResponse:
        return _error(
            404,
            "there are POST /api/pictures, GET /api/model and GET /api/health only",
        )

    return app


def describe(studio: Studio) -> dict[str, Any]:
    """Returns what GET /api/model answers."""
    plan = studio.model.plan("")
    stages = [
        {
            "name": loaded.stage.config.name,
            "resolution": loaded.stage.config.resolution,
            "sampler": config.kind,
            "steps": config.num_steps,
            "guidance": config.guidance_weight,
            "aug_level": config.aug_level,
            **studio.model.model[loaded.stage.config.name],
        }
        for loaded, config in zip(studio.model.stages, plan.samplers, strict=True)
    ]
    limits = studio.limits
    return {
        "version": __version__,
        "stages": stages,
        "limits": {
            "pictures": limits.num_pictures,
            "letters": limits.num_letters,
            "bytes": limits.num_bytes,
            "steps": list(limits.steps),
        },
    }


def _read(studio: Studio, body: bytes) -> Request:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"the request is not JSON ({error}); send an object such as "
            '{"prompt": "a panda"}'
        ) from error
    return read_request(fields, studio.limits)


async def _wait(job: Job, request: fastapi.Request) -> Drawn:
    """Returns the result of a job; gives it up if the visitor leaves."""
    result = asyncio.wrap_future(job.done)
    try:
        while not result.done():
            await asyncio.wait({result}, timeout=POLL_SEC)
            if not result.done() and await request.is_disconnected():
                raise GivenUpError
        return result.result()
    finally:
        job.give_up()


def _pack(drawn: Drawn) -> dict[str, Any]:
    """Returns what POST /api/pictures answers; the files are removed."""
    try:
        pictures = [
            {
                "png": base64.b64encode(file.read_bytes()).decode(),
                "seed": recipe.seed,
                "recipe": recipe._asdict(),
            }
            for file, recipe in zip(drawn.stages[-1], drawn.recipes, strict=True)
        ]
    finally:
        shutil.rmtree(drawn.folder, ignore_errors=True)
    return {
        "pictures": pictures,
        "remarks": drawn.remarks,
        "seconds": round(drawn.seconds, 3),
    }


def _error(
    status: int, sentence: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)
