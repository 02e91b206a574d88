"""An API behind idemproxy that takes effect exactly once: `python exactly_once_api.py --port 9000 --database orders.db`.

The effect, the key and the answer are written in one transaction, with the key unique. So a request that comes again, after an answer that
nobody saw, finds what it did. The attempt's number is a fence: an attempt that was overtaken by a later one is refused, however late
it arrives. `--careless N` breaks every Nth connection after the commit, to show what this is for."""

from __future__ import annotations

import argparse
import json
import sqlite3

from aiohttp import web

SCHEMA = """
CREATE TABLE IF NOT EXISTS operation (key TEXT PRIMARY KEY, attempt INTEGER NOT NULL, answer TEXT);
CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, amount INTEGER NOT NULL);
"""


class Overtaken(Exception):
    """A later attempt of the same operation has begun."""


def take(database: sqlite3.Connection, key: str, attempt: int, item: str, amount: int) -> str:
    """Take `amount` of `item` from stock, once for each key. Gives the answer, the same one each time."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        row = database.execute("SELECT attempt, answer FROM operation WHERE key = ?", (key,)).fetchone()
        if row is not None and row[1] is not None:
            return str(row[1])
        if row is not None and row[0] > attempt:
            raise Overtaken
        database.execute(
            "INSERT INTO stock VALUES (?, ?) ON CONFLICT (item) DO UPDATE SET amount = amount + excluded.amount",
            (item, -amount),
        )
        (left,) = database.execute("SELECT amount FROM stock WHERE item = ?", (item,)).fetchone()
        answer = json.dumps({"key": key, "item": item, "taken": amount, "left": left})
        database.execute("INSERT OR REPLACE INTO operation VALUES (?, ?, ?)", (key, attempt, answer))
    return answer


def application(path: str, careless: int) -> web.Application:
    """`POST /take` with the fields Idempotency-Key and X-Attempt, and a JSON body of item and amount."""
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(SCHEMA)
    served = 0

    async def post(request: web.Request) -> web.Response:
        nonlocal served
        served += 1
        wanted = await request.json()
        key, attempt = request.headers["Idempotency-Key"], int(request.headers.get("X-Attempt", "1"))
        try:
            answer = take(database, key, attempt, wanted["item"], wanted["amount"])
        except Overtaken:
            return web.json_response({"error": "a later attempt has begun"}, status=409)
        if careless and served % careless == 0 and request.transport is not None:
            request.transport.abort()
        return web.Response(text=answer, content_type="application/json")

    async def close(_: web.Application) -> None:
        database.close()

    app = web.Application()
    app.router.add_post("/take", post)
    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--database", default="orders.db")
    parser.add_argument("--careless", type=int, default=0)
    given = parser.parse_args()
    web.run_app(application(given.database, given.careless), host="127.0.0.1", port=given.port)
