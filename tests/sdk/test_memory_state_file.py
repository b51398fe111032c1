"""The file of a saved memory: complete or refused, whatever happened to it."""

from __future__ import annotations

import json
import resource
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file

from vsdk.errors import SinkError, StateDamagedError, StateError, StateNotFoundError, StateSchemaError
from vsdk.memory.state_file import read_state, write_state

CONTENT: dict[str, Any] = {"segments": 3, "share": 0.1, "name": 'a \u00e4 "b"', "none": None, "list": [1, [2.5]]}
ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "tokens": np.arange(12, dtype=np.float32).reshape(3, 4),
    "half": np.array([1.5, -0.0], np.float16),
    "counts": np.array([[2**62, -1]], np.int64),
    "nothing": np.zeros((0, 7), np.float32),
    "scalar": np.array(2.0, np.float32),
}

arrays = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__" and name.isprintable()),
    st.sampled_from([np.float32, np.float16, np.int64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    ),
    max_size=5,
)
contents = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=5,
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "memory.state"
    write_state(path, CONTENT, ARRAYS)
    return path


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=contents, tensors=arrays)
def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path, content: dict[str, Any], tensors: dict[str, Any]) -> None:
    path = tmp_path / "memory.state"
    write_state(path, content, tensors)
    again, found = read_state(path)
    assert again == content
    assert found.keys() == tensors.keys()
    for name, array in tensors.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
        assert found[name].flags.writeable


def test_other_programs_can_open_it(saved: Path) -> None:
    found = load_file(saved)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)


def test_the_same_content_gives_the_same_file(saved: Path, tmp_path: Path) -> None:
    write_state(tmp_path / "again", CONTENT, ARRAYS)
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()


def test_every_byte_is_under_the_checksum(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    broken = tmp_path / "broken"
    for position in range(len(data)):
        for flipped in (1, 0x80):
            changed = bytearray(data)
            changed[position] ^= flipped
            broken.write_bytes(changed)
            with pytest.raises(StateError):
                read_state(broken)


def test_every_shorter_file_is_refused(saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    broken = tmp_path / "broken"
    for size in range(len(data)):
        broken.write_bytes(data[:size])
        with pytest.raises(StateDamagedError):
            read_state(broken)
    broken.write_bytes(data + b"\0")
    with pytest.raises(StateDamagedError):
        read_state(broken)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_anything_else_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(data)
    with pytest.raises(StateDamagedError):
        read_state(path)


@pytest.mark.parametrize("header", [[], {}, {"__metadata__": []}, {"__metadata__": {"format": 1}}, 7], ids=str)
def test_a_header_of_another_shape_is_refused(tmp_path: Path, header: Any) -> None:
    text = json.dumps(header).encode()
    (tmp_path / "other").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(StateDamagedError, match="not a memory state"):
        read_state(tmp_path / "other")


def test_a_later_schema_is_refused_as_such(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes().replace(b"vsdk memory 1", b"vsdk memory 2"))
    with pytest.raises(StateSchemaError, match="schema version 2; this vsdk reads version 1") as caught:
        read_state(saved)
    assert "Upgrade" in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateNotFoundError, match=r"memory\.state"):
        read_state(tmp_path / "memory.state")
    with pytest.raises(StateNotFoundError):
        read_state(tmp_path)


def test_a_failed_save_leaves_what_was_there(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        write_state(saved, {"not": float("nan")}, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # as if the disk were full
    try:
        with pytest.raises(SinkError, match="cannot write"):
            write_state(saved, {}, {"large": np.zeros(10_000, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write") as caught:
        write_state(tmp_path / "no" / "memory.state", CONTENT, ARRAYS)
    assert "mkdir" in caught.value.hint
    with pytest.raises(SinkError):
        write_state(tmp_path, CONTENT, ARRAYS)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed(saved: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(saved)
    write_state(link, {"segments": 4}, {})
    assert link.is_symlink()
    assert read_state(saved)[0] == {"segments": 4}


def test_what_a_killed_process_left_is_swept_away(saved: Path) -> None:
    (saved.parent / ".memory.state.deadbeef.part").write_bytes(b"half a file")
    other = saved.parent / ".other.state.deadbeef.part"
    other.write_bytes(b"of another file")
    write_state(saved, CONTENT, ARRAYS)
    assert sorted(saved.parent.iterdir()) == sorted([saved, other])


def test_several_may_save_to_one_file(saved: Path) -> None:
    """Each finds a complete file at any time, and nobody sweeps away what another one is writing."""
    failures: list[BaseException] = []

    def save(number: int) -> None:
        try:
            for _ in range(25):
                write_state(saved, {"number": number}, {"all": np.full(5000, number)})
                content, arrays = read_state(saved)
                assert (arrays["all"] == content["number"]).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(saved.parent.iterdir()) == [saved]
