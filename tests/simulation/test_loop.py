"""Virtual time and simulated processes: what stopping, going on and crashing mean to the code that runs in them."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.simulation.loop import Clocks, Moment, ProcessLoop, TooLong, World

EXACT = Clocks(rate=1.0, loop_base=100.0, boot_base=5_000.0)


class Setting:
    """A world, a process or two, and what they say."""

    def __init__(self, seed: int = 0, most_steps: int = 10_000) -> None:
        self.world = World(seed, most_steps)
        self.failed: list[str] = []
        self.said: list[str] = []

    def process(self, name: str = "p", clocks: Clocks = EXACT) -> ProcessLoop:
        return ProcessLoop(self.world, name, clocks, self.failed.append)

    async def sleeper(self, name: str, *pauses: float) -> None:
        for pause in pauses:
            await asyncio.sleep(pause)
            self.said.append(f"{name} {self.world.now:g}")


@pytest.fixture
def setting() -> Setting:
    return Setting()


def begin(setting: Setting, loop: ProcessLoop, coro: object, at: float = 0.0) -> None:
    setting.world.deliver(at, loop, loop.create_task, coro)


def test_time_jumps_to_what_happens_next(setting: Setting) -> None:
    loop = setting.process()
    began = time.monotonic()
    begin(setting, loop, setting.sleeper("a", 3600, 1800))
    begin(setting, loop, setting.sleeper("b", 4000))
    setting.world.run()
    assert setting.said == ["a 3600", "b 4000", "a 5400"]
    assert time.monotonic() - began < 60


def test_a_time_limit_is_of_virtual_time(setting: Setting) -> None:
    loop = setting.process()

    async def limited() -> None:
        try:
            async with asyncio.timeout(10):
                await asyncio.sleep(11)
        except TimeoutError:
            setting.said.append(f"late {setting.world.now:g}")

    begin(setting, loop, limited())
    setting.world.run()
    assert setting.said == ["late 10"]


def test_clocks_run_at_their_own_pace(setting: Setting) -> None:
    loop = setting.process(clocks=Clocks(rate=1.25, loop_base=7.0, boot_base=1_000.0))
    begin(setting, loop, setting.sleeper("a", 100))
    setting.world.run()
    assert setting.said == ["a 80"]
    assert (loop.time(), loop.clock()) == (107.0, 1_100.0)


def test_what_comes_for_a_stopped_process_waits(setting: Setting) -> None:
    first, second = setting.process("first"), setting.process("second")
    begin(setting, first, setting.sleeper("first", 1, 1))
    begin(setting, second, setting.sleeper("second", 1.5, 1.5))
    setting.world.after(0.5, first.stop)
    setting.world.after(10, first.go_on)
    setting.world.run()
    assert setting.said == ["second 1.5", "second 3", "first 10", "first 11"]


def test_a_process_that_goes_on_in_mid_turn_reads_an_old_loop_time_and_a_fresh_clock(setting: Setting) -> None:
    loop = setting.process()
    read: list[tuple[float, float]] = []
    loop.call_soon(loop.stop)
    loop.steps_left, loop.at_step = 1, loop.stop
    loop.call_soon(lambda: read.append((loop.time() - 100.0, loop.clock() - 5_000.0)))
    setting.world.after(30, loop.go_on)
    setting.world.run()
    assert read == [(0.0, 30.0)]


def test_nothing_of_a_crashed_process_runs_again(setting: Setting) -> None:
    loop = setting.process()

    async def careful() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            setting.said.append("cleaned up")

    begin(setting, loop, careful())
    setting.world.after(1, loop.kill)
    setting.world.run()
    assert setting.said == []
    assert loop.bury() == []
    assert all(task.done() for task in loop.tasks)


def test_a_fault_hits_after_so_many_callbacks_or_at_a_moment(setting: Setting) -> None:
    loop = setting.process()
    for number in range(4):
        loop.call_soon(setting.said.append, str(number))
    loop.steps_left, loop.at_step = 2, loop.kill
    setting.world.run()
    assert setting.said == ["0", "1"]
    loop.moments[Moment.SENT] = lambda: setting.said.append("sent")
    loop.reached(Moment.CLAIMED)
    loop.reached(Moment.SENT)
    loop.reached(Moment.SENT)
    assert setting.said == ["0", "1", "sent"]


def test_what_nobody_handles_is_told(setting: Setting) -> None:
    loop = setting.process()

    def broken() -> None:
        raise RuntimeError("a defect")

    loop.call_soon(broken)
    loop.call_exception_handler({"message": "never retrieved", "exception": ValueError("x")})
    setting.world.run()
    assert setting.failed == ["never retrieved: ValueError('x')", "a callback raised RuntimeError('a defect')"]


def test_a_world_that_does_not_come_to_rest_is_an_error() -> None:
    setting = Setting(most_steps=1_000)
    loop = setting.process()

    def again() -> None:
        loop.call_later(1, again)

    loop.call_soon(again)
    with pytest.raises(TooLong):
        setting.world.run()


def test_the_order_of_what_happens_at_once_is_drawn_and_repeats() -> None:
    def order(seed: int) -> str:
        setting = Setting(seed)
        loops = [setting.process(name) for name in "abcdef"]
        for loop in loops:
            setting.world.deliver(1, loop, setting.said.append, loop.name)
        setting.world.run()
        return "".join(setting.said)

    orders = [order(seed) for seed in range(20)]
    assert orders == [order(seed) for seed in range(20)]
    assert len(set(orders)) > 10


def test_the_same_tasks_lie_in_a_set_in_the_same_order() -> None:
    def numbers() -> list[int]:
        setting = Setting(7)
        loop = setting.process()
        for _ in range(50):
            begin(setting, loop, asyncio.sleep(1))
        setting.world.run()
        return [loop.tasks.index(task) for task in set(loop.tasks)]

    kept = [object() for _ in range(1_000)]
    assert numbers() == numbers()
    assert kept
