"""A worker that dies costs its item a second try, and no other item anything."""

import os
import signal
import time

import pytest
from killed import start, wait_until

from stellarhml._parallel import map_items
from stellarhml.exceptions import WorkerDiedError

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@pytest.fixture
def square(tmp_path):
    """Function that squares, and kills its own process on each `deadly` item as often as stated."""

    def make(deadly):
        # a function of a function travels to the workers by value: these cannot import a test
        def function(item):
            for n in range(deadly.get(item, 0)):
                mark = tmp_path / f"{item}-{n}"
                if not mark.exists():
                    mark.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.02)
            return item * item

        return function

    return make


@pytest.mark.slow
def test_a_dead_worker_costs_a_second_try(square, tmp_path):
    items = iter(range(20))
    found = map_items(square({0: 1, 19: 1}), items, n_jobs=2)
    assert list(found) == [item * item for item in range(20)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-0", "19-0"]


@pytest.mark.slow
def test_an_item_that_kills_twice_is_stated(square):
    seen = []

    def failed(item, error):
        seen.append((item, str(error)))
        return "failed"

    found = list(map_items(square({3: 2, 4: 9}), range(12), n_jobs=2, on_death=failed))
    assert found == ["failed" if item in (3, 4) else item * item for item in range(12)]
    assert [item for item, _ in seen] == [3, 4]
    assert "item 4 was killed, and again when" in seen[0][1]


@pytest.mark.slow
def test_without_a_stand_in_it_is_an_error(square):
    found = map_items(square({5: 2}), range(12), n_jobs=2)
    with pytest.raises(WorkerDiedError, match="item 6 was killed, and again when"):
        list(found)


@pytest.mark.slow
def test_an_error_of_the_function_is_not_tried_again(tmp_path):
    def function(item):
        (tmp_path / f"{item}-{time.monotonic_ns()}").touch()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        list(map_items(function, [1], n_jobs=2))
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_workers_may_have_workers():
    """Which are threads."""

    def inner(item):
        return 2 * item

    def outer(item):
        return sum(map_items(inner, [item, 1], n_jobs=2))

    assert list(map_items(outer, range(4), n_jobs=2)) == [2 * item + 2 for item in range(4)]


WITH_WORKERS = """
import os
import sys
from pathlib import Path

from stellarhml._parallel import map_items

folder = Path(sys.argv[1])


def function(item):
    (folder / str(os.getpid())).touch()
    return b"x" * 1_000_000  # more than fits into a pipe


for _ in map_items(function, range(10_000), n_jobs=2):
    pass
"""


@pytest.mark.slow
def test_workers_end_with_their_parent(tmp_path):
    """Also if it is killed while they hand over results, which nobody reads then."""
    pids = tmp_path / "pids"
    pids.mkdir()
    (tmp_path / "job.py").write_text(WITH_WORKERS)
    job = start([tmp_path / "job.py", pids], tmp_path)
    wait_until(job, lambda: len(list(pids.iterdir())) == 2)
    job.kill()
    job.wait()

    def alive():
        return [path for path in pids.iterdir() if _runs(int(path.name))]

    deadline = time.monotonic() + 30
    while alive() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive()


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
