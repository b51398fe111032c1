"""Saving and going on: bit for bit, or refused; and a process that is killed while it saves."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_bundles import CAPACITY, FRAMES, film, memory_bundle, place, segment

import vsdk
from vsdk.errors import (
    BundleError,
    StateDamagedError,
    StateMismatchError,
    StateNotFoundError,
    StateSchemaError,
)
from vsdk.memory.state_file import read_state, write_state

LIVES = 50


@pytest.fixture(scope="module", params=["memories", "patches"])
def bundle(request: pytest.FixtureRequest) -> vsdk.Bundle:
    return vsdk.load(memory_bundle(variant=request.param))


def memory_of(bundle: vsdk.Bundle, **options: Any) -> vsdk.Memory:
    return vsdk.Memory(bundle, **{"threads": 1, **options})


def scene(number: int) -> vsdk.Scene:
    """A scene with the features that a stream would give it; its depth and times have no short decimal form."""
    rng = np.random.default_rng(number)
    features = vsdk.SceneFeatures(
        (2 * number, 2 * number + 1), rng.standard_normal((2, 16)).astype(np.float32), None, "d"
    )
    return vsdk.Scene(number, 2 * number, 2 * number + 1, number / 3, (number + 1) / 3, 0.1 * number, features)


def live(memory: vsdk.Memory, numbers: range) -> list[vsdk.MemoryUpdate]:
    return [memory.remember(scene(number), segment(number, 1 + number % FRAMES)) for number in numbers]


def everything(memory: vsdk.Memory) -> dict[str, bytes]:
    """All that can be seen of a memory, as bytes."""
    seen: dict[str, Any] = {"tokens": memory.tokens(), "visual": memory.visual_tokens()}
    seen |= {f"state {name}": array for name, array in memory.bridge.state.snapshot().items()}
    seen["language"] = memory.language_tokens()
    for number, entry in enumerate(memory.entries):
        seen |= {f"{number} tokens": entry.tokens, f"{number} blocks": entry.blocks}
        assert entry.scene is not None
        assert entry.scene.features is not None
        seen[f"{number} cls"] = entry.scene.features.cls
    found = {name: array.tobytes() for name, array in seen.items()}
    found["rest"] = repr(
        [(e.slot, e.first, e.last, e.stream, e.scene, e.scene and e.scene.features and e.scene.features.frames)
         for e in memory.entries]
    ).encode()  # fmt: skip
    return found


@pytest.mark.parametrize("segments", [0, 1, CAPACITY - 1, CAPACITY, 3 * CAPACITY])
def test_what_follows_is_what_would_have_followed(bundle: vsdk.Bundle, tmp_path: Path, segments: int) -> None:
    one, other = memory_of(bundle), memory_of(bundle)
    live(one, range(segments))
    one.save(tmp_path / "memory.state")
    live(other, range(100, 107))  # what it remembers so far must leave no trace
    assert other.restore(tmp_path / "memory.state") == ()
    assert everything(other) == everything(one)
    later = range(segments, segments + 2 * CAPACITY)
    assert live(other, later) == live(one, later)
    assert everything(other) == everything(one)


ANOTHER = """
import sys
import numpy as np
import vsdk

memory = vsdk.Memory(vsdk.load(sys.argv[1]), threads=1)
assert memory.restore(sys.argv[2]) == ()
for patches in np.load(sys.argv[3]):
    memory.remember(vsdk.Scene(0, 0, 1, 0.0, 1.0), patches)
np.savez(sys.argv[4], tokens=memory.tokens(), visual=memory.visual_tokens(), **memory.bridge.state.snapshot())
"""


def test_another_process_goes_on_bit_for_bit(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    memory = memory_of(bundle)
    live(memory, range(CAPACITY + 2))
    memory.save(tmp_path / "memory.state")
    later = np.stack([segment(number) for number in range(50, 53)])
    np.save(tmp_path / "later.npy", later)
    files = [str(tmp_path / name) for name in ("memory.state", "later.npy", "found.npz")]
    subprocess.run([sys.executable, "-c", ANOTHER, str(bundle.folder), *files], check=True, timeout=120)
    for patches in later:
        memory.remember(vsdk.Scene(0, 0, 1, 0.0, 1.0), patches)
    expected = {"tokens": memory.tokens(), "visual": memory.visual_tokens(), **memory.bridge.state.snapshot()}
    with np.load(tmp_path / "found.npz") as found:
        assert set(found.files) == set(expected)
        for name, array in expected.items():
            assert found[name].tobytes() == array.tobytes()


def test_saving_changes_nothing(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    one, other = memory_of(bundle), memory_of(bundle)
    for number in range(2 * CAPACITY):
        live(one, range(number, number + 1))
        live(other, range(number, number + 1))
        one.save(tmp_path / "memory.state")
    assert everything(one) == everything(other)


def test_saving_from_another_thread_catches_whole_segments(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    memory, expected = memory_of(bundle), memory_of(bundle)
    seen: dict[int, dict[str, bytes]] = {}
    for number in range(60):
        live(expected, range(number, number + 1))
        seen[number + 1] = everything(expected)
    saved: list[Path] = []

    def save() -> None:
        while memory.segments < 60:
            saved.append(tmp_path / f"{len(saved)}.state")
            memory.save(saved[-1])

    thread = threading.Thread(target=save)
    live(memory, range(1))
    thread.start()
    live(memory, range(1, 60))
    thread.join()
    again = memory_of(bundle)
    for path in saved:
        again.restore(path)
        assert everything(again) == seen[again.segments]


def test_a_stream_goes_on_where_the_last_one_ended(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    saved = tmp_path / "memory.state"
    for day, expected in enumerate(([0, 1], [2, 3], [4, 5])):
        with vsdk.Stream(bundle, film(range(2 * day, 2 * day + 2)), threads=1) as stream:
            memory = stream.memory
            assert memory is not None
            if day:
                memory.restore(saved)
            updates = [event for event in stream if isinstance(event, vsdk.MemoryUpdate)]
            memory.save(saved)
        assert [update.segment for update in updates] == expected
        assert memory.entries[-1].stream == day
        assert memory.search(image=place(2 * day + 1))[0].scene.index == 1


def test_it_says_what_differs(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    one = memory_of(bundle)
    live(one, range(3))
    one.save(tmp_path / "memory.state")
    assert memory_of(bundle, threads=2).restore(tmp_path / "memory.state") == ("threads 2 instead of 1",)


def altered(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    content, arrays = read_state(path)
    change(content, arrays)
    write_state(path, content, arrays)


def drop(name: str) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda content, arrays: (content if name in content else arrays).pop(name)


@pytest.mark.parametrize(
    "change",
    [
        drop("entries"),
        drop("segments"),
        drop("runs_on"),
        drop("visual"),
        drop("state.memory_in"),
        drop("entries.0.tokens"),
        drop("entries.1.cls"),
        lambda content, arrays: content["entries"][0].update(slot=CAPACITY),
        lambda content, arrays: content["entries"].reverse(),
        lambda content, arrays: content.update(segments=77),
        lambda content, arrays: content["entries"][0]["scene"].update(unknown=1),
        lambda content, arrays: arrays.update({"state.memory_in": np.zeros((1, 1, 1), np.float32)}),
        lambda content, arrays: arrays.update({"visual": np.zeros((1, 1), np.float32)}),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_whole(
    bundle: vsdk.Bundle, tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]
) -> None:
    path = tmp_path / "memory.state"
    one, other = memory_of(bundle), memory_of(bundle)
    live(one, range(3))
    one.save(path)
    altered(path, change)
    live(other, range(50, 55))
    before = everything(other)
    with pytest.raises(StateDamagedError):
        other.restore(path)
    assert everything(other) == before


def test_each_kind_of_bad_file_has_its_own_error(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    path = tmp_path / "memory.state"
    one = memory_of(bundle)
    live(one, range(CAPACITY + 1))
    one.save(path)
    good = path.read_bytes()
    before = everything(one)
    for data, error in (
        (good[: len(good) // 2], StateDamagedError),
        (good[:-1] + bytes([good[-1] ^ 1]), StateDamagedError),
        (b"", StateDamagedError),
        (good.replace(b"vsdk memory 1", b"vsdk memory 9"), StateSchemaError),
    ):
        path.write_bytes(data)
        with pytest.raises(error):
            one.restore(path)
    path.write_bytes(good)
    altered(path, lambda content, arrays: content.update(bundle="0" * 64))
    with pytest.raises(StateMismatchError, match="000000000000"):
        one.restore(path)
    with pytest.raises(StateNotFoundError):
        one.restore(tmp_path / "missing")
    assert everything(one) == before


def test_a_memory_of_another_bundle_is_refused(bundle: vsdk.Bundle, tmp_path: Path) -> None:
    other = memory_of(vsdk.load(memory_bundle(capacity=3)))
    live(other, range(2))
    other.save(tmp_path / "memory.state")
    with pytest.raises(StateMismatchError):
        memory_of(bundle).restore(tmp_path / "memory.state")


def test_language_tokens_need_a_projector() -> None:
    memory = memory_of(vsdk.load(memory_bundle(projector=False)))
    live(memory, range(1))
    with pytest.raises(BundleError, match="projector"):
        memory.language_tokens()


KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
import numpy as np, onnxruntime
import vsdk
from vsdk.memory.memory import Memory

folder, saved = sys.argv[1], Path(sys.argv[2])

def live(report):
    memory = Memory(vsdk.load(folder), threads=1)
    if saved.exists():
        memory.restore(saved)
    os.write(report, b"%d\\n" % memory.segments)
    rng = np.random.default_rng(memory.segments)
    while True:
        patches = rng.standard_normal((8, memory.bridge.patches, memory.bridge.width)).astype(np.float32)
        number = memory.segments
        memory.remember(vsdk.Scene(number, number, number, number, number + 1.0), patches)
        memory.save(saved)
        os.write(report, b"%d\\n" % memory.segments)

chance = random.Random(0)
lives = []
for _ in range(int(sys.argv[3])):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            live(writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as lines:
        reported = [lines.readline()]
        for _ in range(chance.randint(1, 3)):
            begin = time.perf_counter()
            reported.append(lines.readline())
        time.sleep(chance.uniform(0.0, 1.5) * (time.perf_counter() - begin))  # within the next save, or the one after
        os.kill(child, signal.SIGKILL)
        reported += lines.readlines()
    _, status = os.waitpid(child, 0)
    lives.append({"signal": os.WTERMSIG(status), "segments": [int(line) for line in reported if line.strip()]})
print(json.dumps(lives))
"""


def test_a_process_killed_while_it_saves_loses_nothing(tmp_path: Path) -> None:
    """Fifty lives, each ended by SIGKILL; each goes on from what the one before had saved, or was just saving."""
    folder, saved = memory_bundle(), tmp_path / "state" / "memory.state"
    saved.parent.mkdir()
    command = [sys.executable, "-c", KILLED, str(folder), str(saved), str(LIVES)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    lives = json.loads(done.stdout)
    assert [life["signal"] for life in lives] == [9] * LIVES
    for before, after in pairwise(lives):
        assert before["segments"][-1] <= after["segments"][0] <= before["segments"][-1] + 1
    assert lives[-1]["segments"][-1] > LIVES  # many saves took place
    memory = memory_of(vsdk.load(folder))
    memory.restore(saved)
    assert lives[-1]["segments"][-1] <= memory.segments <= lives[-1]["segments"][-1] + 1
    memory.save(saved)
    assert list(saved.parent.iterdir()) == [saved]
