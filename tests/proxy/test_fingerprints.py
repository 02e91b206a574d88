"""What may differ in a retry, and what may not, on the wire: bodies by what they say (docs/keys.md)."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from structlog.testing import capture_logs

from tests.proxy.product import Exchange, created, post, problem, serving

_NUMBERS = itertools.count()


def rules(fingerprint: str) -> str:
    return f"""
  - name: charges
    match: {{path: /x}}
    fingerprint: {fingerprint}
"""


def multipart(boundary: str, value: str = "1", end: str = "--") -> tuple[str, bytes]:
    part = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{value}\r\n'
    return f"Content-Type: multipart/form-data; boundary={boundary}\r\n", f"{part}--{boundary}{end}\r\n".encode()


async def same(store_url: str, fingerprint: str, first: bytes, second: bytes) -> bool:
    """Whether the second request is a retry of the first; if it is not, nothing was executed for it."""
    key = b"key-%d" % next(_NUMBERS)
    first, second = (each.replace(b"k1", key, 1) for each in (first, second))
    async with serving(store_url, rules=rules(fingerprint)) as product:
        assert (await product.ask(first)).status == 201
        reply = await product.ask(second)
        assert len(product.api.requests) == 1
        if reply.status == 201:
            assert reply.values(b"idempotent-replayed") == [b"true"]
            return True
        assert problem(reply)["slug"] == "key-reused"
        return False


JSON = [
    (b'{"a":1,"b":[true,null,"x"]}', b'{ "b" : [ true, null, "\\u0078" ],\n "a" : 1 }', True),
    (b'{"a":1}', b'{"a":1.0}', False),
    (b'{"a":1e2}', b'{"a":1E2}', False),
    (b'{"a":0}', b'{"a":-0}', False),
    (b'{"a":-0}', b'{ "a": -0 }', True),
    (b'{"a":9007199254740993}', b'{"a":9007199254740992}', False),
    (b'{"a":123456789012345678901234567890}', b'{"a": 123456789012345678901234567890}', True),
    (b'{"a":1}', b'{"a":"1"}', False),
    (b'{"a":1}', b'{"a":true}', False),
    (b'{"a":[1,2]}', b'{"a":[2,1]}', False),
    (b'{"a":null}', b"{}", False),
    (b'{"a":1,"a":2}', b'{"a":1,"a":2}', True),
    (b'{"a":1,"a":2}', b'{"a":1, "a":2}', False),
    (b'{"a":1,"a":2}', b'{"a":2}', False),
    (b'{"a":NaN}', b'{"a": NaN}', False),
    (b'{"a":"\\u0000"}', b'{"a": "\\u0000"}', True),
    (b'"\\ud800"', b' "\\ud800"', False),
    (b'"\xff"', b' "\xff"', False),
]


@pytest.mark.parametrize(("first", "second", "equal"), JSON, ids=range(len(JSON)))
async def test_json_is_compared_by_value(store_url: str, first: bytes, second: bytes, equal: bool) -> None:
    assert await same(store_url, "{body: json}", post(body=first, path="/x"), post(body=second, path="/x")) is equal


async def test_what_is_ignored_may_differ(store_url: str) -> None:
    recipe = '{body: json, ignore: ["json:/sentAt", /data/nonce, "query:t", "header:Content-Type"]}'
    first = post(body=b'{"id":1,"sentAt":1,"data":{"nonce":"a"}}', path="/x?a=1&t=1", more="Content-Type: a/b\r\n")
    second = post(body=b'{"data":{"nonce":[1]},"id":1}', path="/x?t=2&a=1", more="Content-Type: c/d\r\n")
    assert await same(store_url, recipe, first, second)
    assert not await same(store_url, recipe, first, post(body=b'{"id":2,"data":{}}', path="/x?a=1"))
    assert not await same(store_url, recipe, first, post(body=b'{"data":{"nonce":[1]},"id":1}', path="/x?t=2&a=2"))


async def test_a_form_is_compared_by_its_pairs(store_url: str) -> None:
    recipe = '{body: form, ignore: ["form:nonce"]}'
    first = post(body=b"a=1&b=x+y&b=2&nonce=1", path="/x")
    assert await same(store_url, recipe, first, post(body=b"b=%78%20y&b=2&a=1&nonce=9", path="/x"))
    assert not await same(store_url, recipe, first, post(body=b"a=1&b=2&b=x+y", path="/x"))
    assert not await same(store_url, "{body: form}", first, post(body=b"a=1&b=x+y&b=2&nonce=2", path="/x"))


async def test_a_boundary_does_not_count(store_url: str) -> None:
    (type_one, one), (type_two, two), (_, other) = multipart("aaa"), multipart("bbb"), multipart("aaa", "2")
    first = post(body=one, path="/x", more=type_one)
    again = post(body=two, path="/x", more=type_two)
    assert await same(store_url, "{body: multipart}", first, again)
    assert not await same(store_url, "{body: raw}", first, again)
    assert not await same(store_url, "{body: multipart}", first, post(body=other, path="/x", more=type_one))


async def test_a_multipart_body_that_cannot_be_read_is_compared_raw(store_url: str) -> None:
    many = b"--aaa\r\n\r\nx\r\n" * 10_000 + b"--aaa--"
    kind, endless = multipart("aaa", end="")
    for body in (many, endless):
        first = post(body=body, path="/x", more=kind)
        assert await same(store_url, "{body: multipart}", first, first)
        moved = body.replace(b"aaa", b"bbb")
        other = post(body=moved, path="/x", more=kind.replace("aaa", "bbb"))
        assert not await same(store_url, "{body: multipart}", first, other)


async def test_a_deep_body_is_compared_raw(store_url: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000 + b" " * 800_000
    first = post(body=deep, path="/x")
    assert await same(store_url, "{body: json}", first, first)
    assert not await same(store_url, "{body: json}", first, post(body=deep[:-1] + b"\n", path="/x"))


async def test_a_record_is_compared_by_the_recipe_that_made_it(store_url: str) -> None:
    """The rule changed between the attempts."""
    first, again = post(body=b'{"a":1,"t":1}', path="/x"), post(body=b'{"t":2, "a":1}', path="/x")
    async with serving(store_url, rules=rules('{body: json, ignore: ["json:/t"]}')) as product:
        assert (await product.ask(first)).status == 201
    async with serving(store_url, rules=rules("{body: raw}")) as product:
        assert (await product.ask(again)).values(b"idempotent-replayed") == [b"true"]
        assert problem(await product.ask(post(body=b'{"a":2}', path="/x")))["slug"] == "key-reused"
        assert product.api.requests == []


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (post(path="/v1/other"), ["path"]),
        (post(path="/v1/charges?secret"), ["query"]),
        (post(method="PUT", body=b"secret"), ["method", "body"]),
        (post(more="Content-Type: text/secret\r\n"), ["header:content-type"]),
    ],
    ids=range(4),
)
async def test_the_log_says_what_differs_and_never_how(store_url: str, other: bytes, differs: list[str]) -> None:
    async with serving(store_url, rules="\n  - {name: all, match: {path: /v1/**}}\n") as product:
        with capture_logs() as lines:
            assert (await product.ask(post())).status == 201
            assert problem(await product.ask(other))["slug"] == "key-reused"
    executed, reused = [line for line in lines if line["event"] == "decision"]
    assert "differs" not in executed
    assert reused["differs"] == differs
    assert "secret" not in str(reused)


async def test_the_log_says_what_differs_from_an_operation_that_still_runs(store_url: str) -> None:
    async with serving(store_url) as product:
        answer = asyncio.Event()

        async def late(exchange: Exchange) -> None:
            await answer.wait()
            await created(exchange)

        product.api.respond = late
        first = asyncio.ensure_future(product.ask(post()))
        await product.api.got(1)
        with capture_logs() as lines:
            assert problem(await product.ask(post(body=b"amount=6")))["slug"] == "key-reused"
        answer.set()
        assert (await first).status == 201
    assert [line["differs"] for line in lines if line["event"] == "decision"] == [["body"]]


async def test_a_fingerprint_of_very_many_headers(store_url: str) -> None:
    """What differs is told of the first parts only; the answer is right for all."""
    names = ", ".join(f"X-Part-{number}" for number in range(90))
    rule = f"""
  - name: charges
    match: {{path: /v1/charges}}
    fingerprint: {{headers: [{names}]}}
"""
    async with serving(store_url, rules=rule) as product:
        first, other = post("k", more="X-Part-89: a\r\n"), post("k", more="X-Part-89: b\r\n")
        assert [(await product.ask(each)).status for each in (first, first, other)] == [201, 201, 422]
