"""Several serving processes, and the parent that supervises them. The parent makes the listening sockets and keeps them, so that a
worker that dies loses no connection that it had not accepted: the one that takes its place accepts it. The parent has no event loop
and no thread, and forks: a worker begins with everything loaded.

Signals are for the parent. It tells its workers through a channel each, whose end also tells them that it is gone."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, NoReturn

import structlog
from structlog.typing import FilteringBoundLogger

from idemproxy.config.settings import Settings
from idemproxy.errors import StartError
from idemproxy.observe.cells import Board
from idemproxy.runtime import listening, process
from idemproxy.runtime.listening import Bound
from idemproxy.runtime.plan import prepare
from idemproxy.runtime.reload import Reread, read_again

log: FilteringBoundLogger = structlog.get_logger()

STEADY: Final = 10.0
"""Seconds that a worker must have lived for its death to count as the first one."""
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0
"""Seconds before a worker is replaced that died at once, as its predecessor did."""
BEYOND_DRAIN: Final = 15.0
"""Seconds that a worker may take past its drain time to end by itself."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def count(settings: Settings) -> int:
    """How many processes are to serve."""
    if settings.workers is not None:
        return settings.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pause_after(deaths: int) -> float:
    """Seconds before a worker is replaced, after so many deaths in a row. The first one costs nothing."""
    return 0.0 if deaths <= 1 else min(FIRST_PAUSE * 2.0 ** min(deaths - 2, 16), LONGEST_PAUSE)


def why_ended(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Phase(Enum):
    """Where a worker's place stands."""

    STARTING = auto()
    SERVING = auto()
    RESTING = auto()
    """Nobody is there until `again_at`."""
    OVER = auto()


@dataclass(slots=True)
class Place:
    """One worker after the other, on the same sockets. `deaths` are those in a row; times are of the monotonic clock."""

    number: int
    bound: Bound
    phase: Phase = Phase.OVER
    pid: int = 0
    channel: socket.socket | None = None
    said: bytes = b""
    began: float = 0.0
    again_at: float = 0.0
    deaths: int = 0

    @property
    def alive(self) -> bool:
        """A process is there."""
        return self.phase in (Phase.STARTING, Phase.SERVING)

    def tell(self, order: bytes) -> None:
        """One that cannot hear it any more is about to be found dead."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.send(order)


class Stage(Enum):
    """What the parent is about."""

    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()


class Parent:
    """Keeps its workers alive until it is told to stop."""

    def __init__(self, settings: Settings, reread: Reread | None, bounds: Sequence[Bound], board: Board) -> None:
        self._settings = settings
        self._reread = reread
        self._board = board
        self._files = bounds[0].files
        self._places = [Place(number, replace(bound, files=())) for number, bound in enumerate(bounds, 1)]
        self._stage = Stage.STARTING
        self._refusal: str | None = None
        self._badly = False
        self._kill_at: float | None = None
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def run(self) -> int:
        """The exit status, once every worker has ended. Raises StartError where a worker could not start."""
        self._listen_to_signals()
        for place in self._places:
            self._start(place)
        while any(place.phase is not Phase.OVER for place in self._places):
            self._wait()
            self._reap()
            self._start_again()
            if self._stage is Stage.STARTING and all(place.phase is Phase.SERVING for place in self._places):
                self._stage = Stage.SERVING
                process.say_where(self._settings, self._places[0].bound.port)
        if self._refusal is not None:
            raise StartError(self._refusal)
        log.info("all workers stopped")
        return 1 if self._badly else 0

    # ----------------------------------------------------------------------------------------------------------------- signals

    def _listen_to_signals(self) -> None:
        """Each one wakes the loop, which reads what it was."""
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for number in _SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)

    def _wait(self) -> None:
        times = [place.again_at for place in self._places if place.phase is Phase.RESTING]
        if self._kill_at is not None:
            times.append(self._kill_at)
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        for key, _ in self._selector.select(timeout):
            if isinstance(key.data, Place):
                self._hear(key.data)
            else:
                self._obey(self._woken.recv(4096))
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill()

    def _obey(self, numbers: bytes) -> None:
        for number in numbers:
            match number:
                case signal.SIGTERM | signal.SIGINT if self._stage is Stage.DRAINING:
                    self._tell_all(process.HURRY)
                case signal.SIGTERM | signal.SIGINT:
                    log.info("draining", workers=len(self._places), patience_s=self._settings.drain_timeout / 1000)
                    self._drain()
                case signal.SIGHUP if self._stage is not Stage.DRAINING:
                    self._reload()
                case _:  # SIGCHLD: the dead are looked for at every turn
                    pass

    def _tell_all(self, order: bytes) -> None:
        for place in self._places:
            place.tell(order)

    # ----------------------------------------------------------------------------------------------------------------- workers

    def _start(self, place: Place) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal between the fork and the worker's own handling would reach the parent's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        place.pid = os.fork()
        if place.pid == 0:
            ours.close()
            self._become(place, theirs, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        place.channel, place.said, place.phase, place.began = ours, b"", Phase.STARTING, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, place)

    def _become(self, place: Place, channel: socket.socket, mask: set[int | signal.Signals]) -> NoReturn:
        """In the child."""
        status = 1
        try:
            self._forget_parent(place)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            cells = self._board.cells(place.number - 1)
            process.run_as_worker(self._settings, self._reread, cells, place.bound, channel, place.number)
            status = 0
        except StartError as error:
            with contextlib.suppress(OSError):
                channel.send(process.FAILED + str(error).encode())
        except BaseException as error:
            log.exception("worker failed", worker=place.number, exc_info=error)
        finally:
            os._exit(status)

    def _forget_parent(self, place: Place) -> None:
        """What the parent holds for itself and for the other workers: while a worker held the parent's end of a channel, that channel
        would not tell its worker of the parent's death; and connections to a socket that it does not serve would wait for ever."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._woken.close()
        self._waker.close()
        for other in self._places:
            if other.channel is not None:
                other.channel.close()
            if other is not place:
                listening.close(set(other.bound.data) - set(place.bound.data))

    def _hear(self, place: Place) -> None:
        assert place.channel is not None
        try:
            said = place.channel.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        place.said += said
        if not said:
            # The worker is ending: its status says how.
            self._selector.unregister(place.channel)
            place.channel.close()
            place.channel = None
        elif place.said == process.READY and place.phase is Phase.STARTING:
            place.phase = Phase.SERVING

    def _reap(self) -> None:
        for place in self._places:
            if place.alive:
                pid, status = os.waitpid(place.pid, os.WNOHANG)
                if pid:
                    self._ended(place, status)

    def _ended(self, place: Place, status: int) -> None:
        while place.channel is not None:
            self._hear(place)
        why, started = why_ended(status), place.phase is Phase.SERVING
        place.phase = Phase.OVER
        match self._stage:
            case Stage.STARTING if not started:
                said = place.said.removeprefix(process.FAILED).decode("utf-8", "replace")
                self._refusal = self._refusal or said or f"worker {place.number} {why} before it could serve"
                self._drain()
                self._tell_all(process.HURRY)
            case Stage.STARTING | Stage.SERVING:
                self._rest(place, why)
            case Stage.DRAINING if status and self._refusal is None:
                self._badly = True
                log.error("worker ended badly", worker=place.number, pid=place.pid, why=why)
            case Stage.DRAINING:
                pass

    def _rest(self, place: Place, why: str) -> None:
        now = time.monotonic()
        place.deaths = 1 if now - place.began >= STEADY else place.deaths + 1
        pause = pause_after(place.deaths)
        place.phase, place.again_at = Phase.RESTING, now + pause
        said = place.said.removeprefix(process.READY).removeprefix(process.FAILED).decode("utf-8", "replace")
        log.error(
            "worker died",
            worker=place.number,
            pid=place.pid,
            why=f"{why}: {said}" if said else why,
            doing="starting another",
            pause_s=pause,
        )

    def _start_again(self) -> None:
        for place in self._places:
            if place.phase is Phase.RESTING and place.again_at <= time.monotonic():
                self._start(place)

    # ---------------------------------------------------------------------------------------------------------- drain, reload

    def _drain(self) -> None:
        """Every worker serves what it has and who waits in its sockets, which are closed once nobody has them any more."""
        self._stage = Stage.DRAINING
        for file in self._files:
            file.remove()
        for place in self._places:
            if place.phase is Phase.RESTING:
                self._start(place)
        for place in self._places:
            for each in place.bound.data:
                listening.refuse_new(each)
        # Closed here before they are closed there: whoever has them last takes the queue with it.
        for place in self._places:
            place.bound.close()
        self._tell_all(process.DRAIN)
        self._kill_at = time.monotonic() + self._settings.drain_timeout / 1000 + BEYOND_DRAIN

    def _kill(self) -> None:
        self._kill_at = None
        for place in self._places:
            if place.alive:
                log.error("worker killed", worker=place.number, pid=place.pid, why="it did not end in time")
                os.kill(place.pid, signal.SIGKILL)

    def _reload(self) -> None:
        """The file is read here first: where it is faulty, no worker hears of it."""
        if self._reread is None:
            process.say_no_file(log)
            return
        try:
            prepared = read_again(self._settings, self._reread)
        except Exception as error:  # whatever it is, everything goes on as it was
            process.say_refused(log, error)
            return
        before, self._settings = self._settings, prepared.settings
        process.say_reloaded(before, self._settings)
        log.info("configuration accepted", doing="telling every worker", workers=len(self._places))
        self._tell_all(process.RELOAD)


def run(settings: Settings, reread: Reread | None, workers: int) -> int:
    """Serve with that many processes until a signal stops them, and give the exit status. Raises StartError."""
    prepare(settings)
    bounds = listening.bind(settings, workers)
    return Parent(settings, reread, bounds, Board(workers)).run()
