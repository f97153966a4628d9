"""Draw images on request: `make serve CLASS=normal`, or `python -m src.serve --class normal`.

MLflow's own scoring server with the registered generator, behind limits: a request that is too
large is not read to its end, more clients than can be served are asked to come back, and an error
tells its reason without the server's inner life.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from socket import socket
from typing import Any, get_args

import uvicorn

from .common.errors import UserError, report_errors
from .common.paths import HOME
from .config.settings import ClassName
from .tracking.registry import CANDIDATE, CHAMPION, registered_name, scoring_app

MOST_BYTES = 64 * 1024  # of a request; up to some 16,000 images
# Of a request's body: texts, that ask for no more than they are long. MLflow would unpack Parquet.
CONTENT_TYPES = ("application/json", "text/csv")
SECONDS_TO_SEND = 30  # that a request's body may take
MOST_CLIENTS = 200  # at once; others get status 503
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Guarded:
    """An ASGI application behind the limits."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST" and _content_type(scope) not in CONTENT_TYPES:
            reason = f"a request is {' or '.join(CONTENT_TYPES)}, as its Content-Type must say"
            await _refuse(send, 415, reason)
            return
        try:
            async with asyncio.timeout(SECONDS_TO_SEND):  # a client that stalls keeps others out
                body = await _body(receive)
        except TimeoutError:
            reason = f"a request has to arrive within {SECONDS_TO_SEND} seconds"
            await _refuse(send, 408, reason)
            return
        if body is None:
            return
        if len(body) > MOST_BYTES:
            reason = f"a request has at most {MOST_BYTES} bytes; ask for the images in parts"
            await _refuse(send, 413, reason)
            return
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def read_already() -> Message:
            return next(whole, None) or await receive()

        await self._app(scope, read_already, _Answer(send))


class _Answer:
    """Passes an answer on; one that is an error without its stack trace."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None  # of an error, until its whole text is there
        self._body = b""

    async def __call__(self, message: Message) -> None:
        """Pass a part of the answer on."""
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await _tell(self._send, self._start, _without_trace(self._body))


async def _body(receive: Receive) -> bytes | None:
    """A request's body, or its beginning if it is too large; None if the client has gone."""
    body = b""
    while len(body) <= MOST_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _content_type(scope: Message) -> str:
    """A request's content type, without its character set."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()


def _without_trace(body: bytes) -> bytes:
    try:
        told = json.loads(body)
    except ValueError:
        return body
    if not isinstance(told, dict):
        return body
    trace = str(told.pop("stack_trace", "")).strip()
    if trace:  # its last line alone tells what our code refuses
        told["message"] = trace.splitlines()[-1].removeprefix("ValueError: ")
    return json.dumps(told).encode()


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error_code": "BAD_REQUEST", "message": reason}).encode()
    # Closed, since who goes on sending would else keep the connection, and others out.
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    start = {"type": "http.response.start", "status": status, "headers": headers}
    await _tell(send, start, body)


async def _tell(send: Send, start: Message, body: bytes) -> None:
    """Send a whole answer; its start has any length, which is that of another text."""
    headers = [(name, value) for name, value in start["headers"] if name != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, settings: uvicorn.Config, address: str) -> None:
        super().__init__(settings)
        self._address = address

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        if self.started:
            place = f"http://{self.config.host}:{self.config.port}/invocations"
            print(f"{self._address} draws on {place}", flush=True)


def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted.

    Raises:
        UserError: if there is no such model, or the address cannot be had.
    """
    address = f"models:/{registered_name(arguments.label)}@{arguments.alias}"
    app = Guarded(scoring_app(HOME, address))
    settings = uvicorn.Config(
        app,
        host=arguments.host,
        port=arguments.port,
        limit_concurrency=MOST_CLIENTS + 1,  # uvicorn refuses the one that makes it so many
        log_level="warning",
    )
    try:
        _Server(settings, address).run()
    except SystemExit as error:  # it has told why
        raise UserError(f"{arguments.host}:{arguments.port}: nobody can be served there") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one class."""
    parser = argparse.ArgumentParser(prog="python -m src.serve", description=__doc__)
    parser.add_argument("--class", dest="label", required=True, choices=get_args(ClassName))
    parser.add_argument("--alias", default=CANDIDATE, help=f"{CANDIDATE} or {CHAMPION}")
    parser.add_argument("--host", default="127.0.0.1", help="others are let in by another one")
    parser.add_argument("--port", type=int, default=5001)
    arguments = parser.parse_args(argv)
    if not 0 < arguments.port < 1 << 16:
        parser.error(f"--port: it must be from 1 to 65535, not {arguments.port}")
    return report_errors(lambda: serve(arguments))


if __name__ == "__main__":
    sys.exit(main())
