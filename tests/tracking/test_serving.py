import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from src.tracking import registry, serving
from src.tracking.serving import MAX_BODY_BYTES, RequestGuard, serve_model

JSON = "application/json; charset=utf-8"


def scope(content_type: str = JSON, method: str = "POST") -> Any:
    headers = [(b"content-type", content_type.encode())] if content_type else []
    return {"type": "http", "method": method, "headers": headers}


def answer(app: Any, parts: Sequence[bytes], request: Any) -> tuple[Any, bytes]:
    """Start and text of the answer to a request that comes in parts."""
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(RequestGuard(app)(request, receive, send))
    start, *rest = sent
    return start, b"".join(message["body"] for message in rest)


def asked(app: Any, parts: Sequence[bytes], content_type: str = JSON) -> tuple[int, bytes]:
    """Status and text of the answer to a request that comes in parts."""
    start, text = answer(app, parts, scope(content_type))
    return start["status"], text


async def never(scope: Any, receive: Any, send: Any) -> None:
    pytest.fail("it was read")


def answering(status: int, *parts: bytes) -> Any:
    """An application that reads a request and answers it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": status, "headers": []})
        for number, part in enumerate(parts, 1):
            text = part.replace(b"BODY", str(len(body)).encode())
            more = number < len(parts)
            await send({"type": "http.response.body", "body": text, "more_body": more})

    return app


def test_what_is_small_enough_passes_in_parts_as_it_came() -> None:
    assert asked(answering(200, b"BODY ", b"read"), [b"a" * MAX_BODY_BYTES]) == (200, b"65536 read")
    assert asked(answering(200, b"BODY"), [b"ab", b"", b"c"]) == (200, b"3")


def test_what_is_too_large_is_not_read_to_its_end() -> None:
    endless = [b"a" * 40_000] * 1000
    status, text = asked(never, endless)
    assert status == 413
    assert "at most 65536 bytes" in json.loads(text)["message"]


def test_a_client_that_goes_away_is_not_answered() -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pytest.fail("there is nobody")

    asyncio.run(RequestGuard(answering(200))(scope(), receive, send))


def test_a_client_that_stalls_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some hundred of them would keep all others out."""
    monkeypatch.setattr(serving, "BODY_TIMEOUT", 0.01)
    parts = [{"type": "http.request", "body": b"a", "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        if parts:
            return parts.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(RequestGuard(never)(scope(), receive, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]  # whatever else it sends
    assert "has to arrive within 0.01 seconds" in json.loads(sent[1]["body"])["message"]


@pytest.mark.parametrize("content_type", ["application/vnd.apache.parquet", "", "json"])
def test_what_could_ask_for_more_than_it_is_long_is_not_read(content_type: str) -> None:
    status, text = asked(never, [], content_type)  # not a part is there
    assert status == 415
    assert "application/json or text/csv" in json.loads(text)["message"]


def test_an_error_keeps_its_headers_but_for_its_length() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"allow", b"GET"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 405, "headers": headers})
        await send({"type": "http.response.body", "body": b"text"})

    start, text = answer(app, [b""], scope("", "GET"))
    assert start["headers"] == [(b"allow", b"GET"), (b"content-length", b"4")]
    assert text == b"text"


def test_an_error_tells_its_reason_without_a_trace() -> None:
    trace = "Traceback (most recent call last):\n  File ...\nValueError: seed: not -1\n"
    told = json.dumps({"message": "unexpected", "stack_trace": trace}).encode()
    status, text = asked(answering(400, told[:20], told[20:]), [b""])
    assert status == 400
    assert json.loads(text) == {"message": "seed: not -1"}
    for other in (b"no json", b"[1]", b'{"message": "m"}'):
        assert asked(answering(500, other), [b""]) == (500, other)


def test_it_listens_on_this_machine_alone_and_holds_so_many_clients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[Any] = []

    class Server:
        def __init__(self, config: Any, address: str) -> None:
            started.append(config)

        def run(self) -> None:
            """At once done."""

    monkeypatch.setattr(registry, "scoring_app", lambda root, address: never)
    monkeypatch.setattr(serving, "_Server", Server)
    serve_model(Path(), "models:/any@candidate", "127.0.0.1", 5001)
    (config,) = started
    assert config.host == "127.0.0.1"
    assert config.limit_concurrency == serving.MAX_CLIENTS + 1
    assert isinstance(config.app, RequestGuard)
