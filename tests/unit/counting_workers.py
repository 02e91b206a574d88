"""Worker processes that count, for `test_cells.py`: a parent without threads, which forks them from one board. It reads a command a
line from its input, and prints an answer a line.

fork INDEX, kill INDEX; send INDEX COMMAND, receive INDEX: a worker's command, and its answer, which may be asked for much later.
A worker ends when nobody holds the other end of its line, so at the latest with the parent."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
from typing import TextIO

from idemproxy.errors import StartError
from idemproxy.observe import places
from idemproxy.observe.cells import Board
from idemproxy.observe.exposition import exposition
from idemproxy.observe.families import LEASE_LOSSES
from idemproxy.observe.metrics import Metrics


def main(workers: int) -> None:
    board = Board(workers)
    pids: dict[str, int] = {}
    lines: dict[str, TextIO] = {}
    opened: list[TextIO] = []
    for line in sys.stdin:
        command, index, *rest = line.split(maxsplit=2)
        match command:
            case "fork":
                ours, theirs = socket.socketpair()
                pid = os.fork()
                if pid == 0:
                    for other in opened:
                        other.close()
                    ours.close()
                    serve(board, int(index), theirs.makefile("rw"))
                    os._exit(0)
                theirs.close()
                opened.append(ours.makefile("rw"))
                lines[index], answer = opened[-1], "forked"
                pids.setdefault(index, pid)
            case "kill":
                pid = pids.pop(index)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                answer = "killed"
            case "send":
                lines[index].write(rest[0])
                lines[index].flush()
                answer = "sent"
            case "receive":
                answer = lines[index].readline().strip()
            case _:
                raise ValueError(command)
        print(answer, flush=True)


def serve(board: Board, index: int, line: TextIO) -> None:
    """The first answer tells whether it could begin."""
    try:
        metrics = Metrics(board.cells(index))
    except StartError as error:
        print(json.dumps(str(error)), file=line, flush=True)
        return
    print(json.dumps("began"), file=line, flush=True)
    for asked in line:
        print(json.dumps(act(board, index, metrics, asked.split())), file=line, flush=True)


def act(board: Board, index: int, metrics: Metrics, asked: list[str]) -> object:
    match asked:
        case ["lose", rule, count]:
            losses = metrics.rule(rule).lease_losses
            for _ in range(int(count)):
                losses.add()
        case ["wait", rule]:
            metrics.rule(rule).waiters.up()
        case ["leave", rule]:
            metrics.rule(rule).waiters.down()
        case ["upstream", rule, seconds]:
            metrics.rule(rule).upstream_seconds.observe(float(seconds))
        case ["rules", first, last]:
            for number in range(int(first), int(last)):
                metrics.rule(f"rule-{number}").lease_losses.add()
        case ["tear"]:
            place = board._places[index]
            place.add(b'["counter", 1, "' + b"torn" * 100, len(place.lines(0)))
        case ["look", other]:
            fcntl.lockf(board._places[int(other)]._list, fcntl.LOCK_SH, 1, places._ALIVE)
        case ["away", other]:
            fcntl.lockf(board._places[int(other)]._list, fcntl.LOCK_UN, 1, places._ALIVE)
        case ["losses"]:
            return {name[1]: cell for name, (cell, *_) in metrics.sums().items() if name[0] == LEASE_LOSSES.name}
        case ["text"]:
            return exposition(metrics, "")[0].decode()
        case _:
            raise ValueError(asked)
    return "done"


if __name__ == "__main__":
    main(int(sys.argv[1]))
