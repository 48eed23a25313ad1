"""Serves the live page on this machine alone. Needs the extra `explore`: starlette and uvicorn."""

import base64
import contextlib
import json
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from cnn_jax.errors import UsageError, UserError
from cnn_jax.explore import pages
from cnn_jax.explore.scene import CHANNELS, Scene

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]  # by which the page may be asked for
LARGEST = 64 * 2**20  # bytes of what the page may send, such as a picture that is dropped on it
# Nothing from anywhere else is loaded by the page, and nothing is sent anywhere else.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'self'; frame-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)


class OwnOrigin:
    """Refuses what pages of other origins ask for, and says to browsers that the page is to be left alone."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        """Handles a request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        foreign = origin is not None and origin != f"http://{headers.get('host')}"
        if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            await PlainTextResponse("this page answers no other page", 403)(scope, receive, send)
            return

        async def answer(message):
            if message["type"] == "http.response.start":
                extra = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
                extra |= {"cache-control": "no-store", "referrer-policy": "no-referrer"}
                message["headers"] += [(name.encode(), value.encode()) for name, value in extra.items()]
            await send(message)

        await self._app(scope, receive, answer)


def application(scene: Scene) -> Starlette:
    """Makes the application that answers the page."""

    def page(request: Request):
        del request
        return HTMLResponse(pages.live(scene.describe()))

    def windows(request: Request):
        del request
        return HTMLResponse(pages.windows())

    def example(request: Request):
        pixels, label = scene.example(_whole(request.path_params["number"]))
        return Response(pixels.tobytes(), headers={"x-label": json.dumps(label)})

    async def picture(request: Request):
        data = await _body(request)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "the picture"
            path.write_bytes(data)
            try:
                pixels = await run_in_threadpool(scene.picture, str(path))
            except UserError as error:
                raise UserError(str(error).replace(str(path), path.name).removeprefix("--images: ")) from None
        return Response(pixels.tobytes())

    async def look(request: Request):
        pixels = scene.pixels(await _body(request))
        return JSONResponse(await run_in_threadpool(lambda: [_looked(actor, pixels) for actor in scene.actors]))

    async def unit(request: Request):
        pixels = scene.pixels(await _body(request))
        query = request.query_params
        place = tuple(_whole(each) for each in query.get("place", "").split(","))
        found = await run_in_threadpool(_actor(scene, query).unit, pixels, query.get("layer", ""), place)
        return JSONResponse(
            {
                "value": found.value,
                "window": found.window,
                "lines": found.lines,
                "inputs": [
                    {
                        "channel": each.channel,
                        "values": _numbers(each.values),
                        "weights": None if each.weights is None else _numbers(each.weights),
                    }
                    for each in found.inputs
                ],
            }
        )

    async def evidence(request: Request):
        pixels = scene.pixels(await _body(request))
        label = _whole(request.query_params.get("label", ""))
        network = _actor(scene, request.query_params).network
        found = await run_in_threadpool(network.evidence, pixels, label)
        return JSONResponse({name: _map(values[..., None]) for name, values in found._asdict().items()})

    routes = [
        Route("/", page),
        Route("/windows", windows),
        Route("/examples/{number}", example),
        Route("/picture", picture, methods=["POST"]),
        Route("/look", look, methods=["POST"]),
        Route("/unit", unit, methods=["POST"]),
        Route("/evidence", evidence, methods=["POST"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS, www_redirect=False), Middleware(OwnOrigin)],
        exception_handlers={UserError: lambda _, error: JSONResponse({"error": str(error)}, 400)},
    )


def _actor(scene, query):
    number = _whole(query.get("network", "0"))
    if number >= len(scene.actors):
        raise UsageError(f"there is no network {number}")
    return scene.actors[number]


def _whole(text):
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise UsageError(f"{text[:20]!r} must be a whole number")
    return int(text)


async def _body(request):
    """The body of a request, which is not read on where it is too large."""
    parts, size = [], 0
    with contextlib.suppress(ClientDisconnect):
        async for part in request.stream():
            size += len(part)
            if size > LARGEST:
                raise UsageError(f"this is larger than {LARGEST // 2**20} MiB")
            parts.append(part)
    return b"".join(parts)


def _looked(actor, pixels):
    image, parts = actor.look(pixels)
    logits = np.asarray(parts[actor.stages[-1].shown], np.float64)
    powers = np.exp(logits - logits.max())
    layers = {"input": _map(image)} | {stage.layer.name: _map(parts[stage.shown]) for stage in actor.stages}
    return {"logits": _numbers(logits), "probabilities": _numbers(powers / powers.sum()), "layers": layers}


def _map(values):
    """Maps [height, width, channels] or a vector as bytes from -127, minus the limit, to 127, the limit."""
    shown = np.asarray(values, np.float32)
    if shown.ndim == 3 and shown.shape[:2] != (1, 1):
        shown = shown[..., :CHANNELS]
    finite = np.nan_to_num(shown, nan=0.0, posinf=3e38, neginf=-3e38)
    limit = float(np.abs(finite).max(initial=0.0))
    steps = np.round(finite / limit * 127).astype(np.int8) if limit else np.zeros(shown.shape, np.int8)
    channels_first = np.moveaxis(steps, -1, 0) if steps.ndim == 3 else steps
    data = base64.b64encode(np.ascontiguousarray(channels_first).tobytes()).decode()
    return {"shape": shown.shape, "limit": limit, "data": data}


def _numbers(values):
    """Nested lists of numbers with six digits; null for what is none."""
    array = np.asarray(values, np.float64)
    if array.ndim:
        return [_numbers(each) for each in array]
    return float(f"{float(array):.6g}") if np.isfinite(array) else None


@contextlib.contextmanager
def serving(scene: Scene, port: int):
    """Serves the page in the background, and gives its address.

    Args:
      scene: what is shown.
      port: 0: any that is free.

    Raises:
      UserError: the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"--port={port} cannot be used on {HOST}: {error.strerror}; name another one, or 0 for any that is free"
        ) from None
    server = uvicorn.Server(uvicorn.Config(application(scene), log_level="warning", lifespan="off"))
    # In a thread of its own: signals are heard as everywhere else.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="page")
    thread.start()
    try:
        yield f"http://{HOST}:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(5)
        listener.close()
