"""The number of BLAS threads follows what the clock says."""

import numpy as np
import pytest

from command_line import pace
from command_line.pace import KeepPace, choose_blas_threads
from command_line.process import blas_threads, get_blas_threads


class Machine:
    """A BLAS of four threads and a clock that only computing moves.

    seconds(n_threads, now): what a step takes
    """

    def __init__(self, monkeypatch, seconds):
        self.n_threads, self.now, self.seconds = 4, 0.0, seconds
        monkeypatch.setattr(pace, "get_blas_threads", lambda: self.n_threads)
        monkeypatch.setattr(pace, "set_blas_threads", self.set_threads)
        monkeypatch.setattr(pace, "choose_blas_threads", lambda: self.chosen)
        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.now)
        self.chosen = 4

    def set_threads(self, n):
        self.n_threads = n

    def run(self, n_steps, n_prompt=1000):
        """(threads, when it began, seconds) of each step."""

        def steps():
            for _ in range(n_steps):
                began, took = self.now, self.seconds(self.n_threads, self.now)
                self.now += took
                yield self.n_threads, began, took

        return list(KeepPace(steps(), n_prompt))


def quiet(n_threads, now):
    return 0.017 if n_threads == 1 else 0.013


def busy(n_threads, now):
    return 0.018 if n_threads == 1 else 0.4


def share_of_time(taken, n_threads):
    return sum(t for n, _, t in taken if n == n_threads) / sum(t for _, _, t in taken)


def test_on_quiet_cores_it_is_all_threads(monkeypatch):
    taken = Machine(monkeypatch, quiet).run(2000)
    assert taken[0][0] == 4
    assert share_of_time(taken, 1) < 0.02


@pytest.mark.parametrize("chosen", [1, 4])
def test_beside_a_busy_program_it_is_one_whatever_the_first_guess(monkeypatch, chosen):
    machine = Machine(monkeypatch, busy)
    machine.chosen = chosen
    taken = machine.run(2000)
    assert share_of_time(taken, 1) > 0.9
    assert len([n for n, began, _ in taken if n == 4 and began > 3]) <= 3


def test_a_wrong_first_guess_is_mended_within_a_second(monkeypatch):
    machine = Machine(monkeypatch, quiet)
    machine.chosen = 1
    taken = machine.run(1000)
    assert {n for n, began, _ in taken if began > 1.0} == {1, 4}
    assert share_of_time([step for step in taken if step[1] > 1.0], 4) > 0.97


def test_a_program_that_begins_meanwhile_is_noticed_at_once(monkeypatch):
    taken = Machine(monkeypatch, lambda n, now: (quiet if now < 20 else busy)(n, now)).run(3000)
    before = [step for step in taken if step[1] < 20]
    after = [step for step in taken if step[1] >= 20]
    assert share_of_time(before, 4) > 0.97
    assert [n for n, _, _ in after[:3]].count(4) <= 2
    assert share_of_time(after, 1) > 0.9


def test_a_program_that_ends_meanwhile_is_noticed_within_half_a_minute(monkeypatch):
    taken = Machine(monkeypatch, lambda n, now: (busy if now < 20 else quiet)(n, now)).run(6000)
    assert {n for n, began, _ in taken if began > 55} <= {1, 4}
    assert share_of_time([step for step in taken if step[1] > 55], 4) > 0.97


def test_for_a_short_prompt_nothing_is_found_out_beforehand(monkeypatch):
    machine = Machine(monkeypatch, busy)
    monkeypatch.setattr(pace, "choose_blas_threads", lambda: pytest.fail("chosen"))
    taken = machine.run(2000, n_prompt=5)
    assert taken[0][0] == 4 and share_of_time(taken, 1) > 0.9


def test_the_prompts_own_time_is_no_guide(monkeypatch):
    machine = Machine(monkeypatch, lambda n, now: 5.0 if now == 0 else quiet(n, now))
    assert share_of_time(machine.run(500)[1:], 4) > 0.95


def test_a_busy_core_that_shows_only_now_and_then_is_noticed(monkeypatch):
    """Every sixth step waits for a thread's turn; the others are faster with all threads."""
    count = [0]

    def stalling(n_threads, now):
        count[0] += 1
        if n_threads == 1:
            return 0.017
        return 0.15 if count[0] % 6 == 0 else 0.013

    machine = Machine(monkeypatch, stalling)
    assert share_of_time(machine.run(3000), 1) > 0.9


@pytest.mark.parametrize("n_threads", [None, 1])
def test_where_there_is_no_choice_nothing_is_set(monkeypatch, n_threads):
    monkeypatch.setattr(pace, "get_blas_threads", lambda: n_threads)
    monkeypatch.setattr(pace, "set_blas_threads", lambda n: pytest.fail("set"))
    assert list(KeepPace(iter([1, 2, 3]), 1000)) == [1, 2, 3]
    assert choose_blas_threads() == n_threads


def test_what_ends_or_breaks_the_steps_is_passed_on():
    def steps():
        yield 1
        raise KeyboardInterrupt

    paced = KeepPace(steps(), 1000)
    assert next(paced) == 1
    with pytest.raises(KeyboardInterrupt):
        next(paced)
    with pytest.raises(StopIteration):
        next(paced)


@pytest.mark.skipif(get_blas_threads() is None, reason="this BLAS takes no orders")
def test_choosing_leaves_blas_as_it_was():
    with blas_threads(2):
        assert choose_blas_threads() in (1, 2)
        assert get_blas_threads() == 2
    with blas_threads(1):
        assert choose_blas_threads() == 1


@pytest.mark.skipif(get_blas_threads() is None, reason="this BLAS takes no orders")
@pytest.mark.parametrize("slow", [1, 2])
def test_the_faster_one_is_chosen(monkeypatch, slow):
    """With a clock on which each product takes four times as long with so many threads."""
    now = [0.0]

    class Row:
        def __matmul__(self, matrix):
            now[0] += 4e-4 if get_blas_threads() == slow else 1e-4

    monkeypatch.setattr(np, "ones", lambda *arguments: Row())
    monkeypatch.setattr(pace.time, "perf_counter", lambda: now[0])
    with blas_threads(2):
        assert choose_blas_threads() == 3 - slow


def test_choosing_again_and_again_begins_with_all_threads(monkeypatch):
    now, chosen, has = [100.0], iter([1, 2, 2]), [2]

    def choose():
        assert has == [2]
        return next(chosen)

    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(pace, "get_blas_threads", lambda: has[0])
    monkeypatch.setattr(pace, "set_blas_threads", lambda n: has.__setitem__(0, n))
    monkeypatch.setattr(pace, "choose_blas_threads", choose)
    choose_now_and_then = pace.keep_choosing(seconds=5)
    seen = []
    for now[0] in (100.0, 104.9, 105.0, 106.0, 111.0):
        choose_now_and_then()
        seen.append(has[0])
    assert seen == [1, 1, 2, 2, 2]


@pytest.mark.parametrize("n", [None, 1])
def test_where_there_is_nothing_to_choose_nothing_is_chosen(monkeypatch, n):
    monkeypatch.setattr(pace, "get_blas_threads", lambda: n)
    monkeypatch.setattr(pace, "choose_blas_threads", lambda: pytest.fail("chosen"))
    pace.keep_choosing()()
