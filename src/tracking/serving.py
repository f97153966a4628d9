"""HTTP server for a registered generator: MLflow's scoring server behind limits.

A request that is too large is not read to its end, clients beyond the limit are asked to come back,
and an error states its reason without a stack trace.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from socket import socket
from typing import Any

import uvicorn

from ..common.errors import UserError

MAX_BODY_BYTES = 64 * 1024  # of a request; enough for some 16,000 images
# Text formats ask for no more than they are long. MLflow would also unpack Parquet, of any size.
CONTENT_TYPES = ("application/json", "text/csv")
BODY_TIMEOUT = 30  # seconds for a request's body to arrive
MAX_CLIENTS = 200  # at once; others get status 503
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def serve_model(root: Path, address: str, host: str, port: int) -> None:
    """Serve an MLflow model until interrupted.

    Args:
        root: the project's folder.
        address: of the model, "models:/NAME@ALIAS".
        host: address to listen on; 127.0.0.1 admits clients of this machine only.
        port: to listen on.

    Raises:
        UserError: if there is no such model, or the port cannot be opened.
    """
    from .registry import scoring_app  # MLflow imports for seconds; the limits do not need it

    config = uvicorn.Config(
        RequestGuard(scoring_app(root, address)),
        host=host,
        port=port,
        limit_concurrency=MAX_CLIENTS + 1,  # uvicorn refuses the client that reaches it
        log_level="warning",
    )
    try:
        _Server(config, address).run()
    except SystemExit as error:  # uvicorn has printed why
        raise UserError(f"cannot listen on {host}:{port}; choose another port") from error


class RequestGuard:
    """ASGI application that refuses unsuitable requests before the one behind it reads them."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        # Refuse what could ask for more than it is long.
        if scope["method"] == "POST" and _content_type(scope) not in CONTENT_TYPES:
            reason = f"a request is {' or '.join(CONTENT_TYPES)}, as its Content-Type must say"
            await _refuse(send, 415, reason)
            return

        # Read the body, within its limits of time and size.
        try:
            async with asyncio.timeout(BODY_TIMEOUT):  # a stalled client would keep others out
                body = await _read_body(receive)
        except TimeoutError:
            reason = f"a request has to arrive within {BODY_TIMEOUT} seconds"
            await _refuse(send, 408, reason)
            return
        if body is None:
            return
        if len(body) > MAX_BODY_BYTES:
            reason = f"a request has at most {MAX_BODY_BYTES} bytes; ask for the images in parts"
            await _refuse(send, 413, reason)
            return

        # Hand the body to the application.
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_body() -> Message:
            return next(messages, None) or await receive()

        await self._app(scope, receive_body, _ErrorFilter(send))


class _ErrorFilter:
    """ASGI send function that passes an answer on, without the stack trace of an error."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None  # of an error, until its body is complete
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Send one part of the answer."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await _send_answer(self._send, self._start, _without_trace(self._body))


class _Server(uvicorn.Server):
    """Server that prints its address once it listens."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Start to listen."""
        await super().startup(sockets)
        if self.started:
            url = f"http://{self.config.host}:{self.config.port}/invocations"
            print(f"{self._address} is served at {url}", flush=True)


async def _read_body(receive: Receive) -> bytes | None:
    """Read a request's body, or its beginning if it is too large; None if the client has gone."""
    body = b""
    while len(body) <= MAX_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _content_type(scope: Message) -> str:
    """Return a request's content type, without its character set."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


def _without_trace(body: bytes) -> bytes:
    """Replace the message of MLflow's JSON error by the last line of its stack trace.

    That line alone says what the model's code refuses. Other bodies stay as they are.
    """
    try:
        content = json.loads(body)
    except ValueError:
        return body
    if not isinstance(content, dict):
        return body
    trace = str(content.pop("stack_trace", "")).strip()
    if trace:
        content["message"] = trace.splitlines()[-1].removeprefix("ValueError: ")
    return json.dumps(content).encode()


async def _refuse(send: Send, status: int, reason: str) -> None:
    """Answer with an error, and close the connection, on which a client might go on sending."""
    body = json.dumps({"error_code": "BAD_REQUEST", "message": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await _send_answer(send, start, body)


async def _send_answer(send: Send, start: Message, body: bytes) -> None:
    """Send a whole answer, with the length of ``body`` in place of that in the headers."""
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})
