"""The features file: what was encoded, read back with NumPy alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsdk.events import Start
from vsdk.sinks.features import FeaturesFile
from vsdk_runtimes.errors import ClosedError, InputError, SinkError


def test_encoded_frames_come_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    vectors = np.random.default_rng(0).normal(size=(300, 192)).astype(np.float32)
    encoded = np.arange(300) % 3 == 0
    with FeaturesFile(path) as sink:
        sink.write_event(Start("été.mp4", "nano", "ab" * 32, "onnxruntime"))
        for number, vector in enumerate(vectors):
            sink.write_features(number * 2, number / 30, vector, bool(encoded[number]))
    with np.load(path, allow_pickle=False) as content:
        assert set(content) == {"frame", "time", "cls", "source", "bundle", "digest"}
        np.testing.assert_array_equal(content["frame"], np.arange(300)[encoded] * 2)
        np.testing.assert_array_equal(content["time"], np.arange(300)[encoded] / 30)
        np.testing.assert_array_equal(content["cls"], vectors[encoded])
        assert content["frame"].dtype == np.int64
        assert content["time"].dtype == np.float64
        assert content["cls"].dtype == np.float32
        assert (str(content["source"]), str(content["bundle"])) == ("été.mp4", "nano")
        assert str(content["digest"]) == "ab" * 32
    assert list(tmp_path.iterdir()) == [path]


def test_without_features_the_file_is_empty_but_valid(tmp_path: Path) -> None:
    with FeaturesFile(tmp_path / "features.npz"):
        pass
    with np.load(tmp_path / "features.npz") as content:
        assert len(content["frame"]) == len(content["time"]) == len(content["cls"]) == 0


def test_what_is_so_far_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "features.npz"
    with FeaturesFile(path) as sink:
        for number in range(12):
            sink.write_features(number, number / 30, np.full(4, number, np.float32), True)
            rows = np.load(tmp_path / "features.npz.rows.npy")
            np.testing.assert_array_equal(rows["frame"], np.arange(number + 1))
            np.testing.assert_array_equal(rows["cls"][-1], np.full(4, number))
        assert not path.exists()


def test_the_same_features_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        with FeaturesFile(tmp_path / name) as sink:
            sink.write_features(0, 0.0, np.ones(3, np.float32), True)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_features_of_another_type_or_width_are_refused(tmp_path: Path) -> None:
    with FeaturesFile(tmp_path / "features.npz") as sink:
        wrongs: tuple[Any, ...] = (np.ones(4), np.ones((1, 4), np.float32), np.ones(0, np.float32))
        for wrong in wrongs:
            with pytest.raises(InputError, match="features must be float32"):
                sink.write_features(0, 0.0, wrong, True)
        sink.write_features(0, 0.0, np.ones(4, np.float32), True)
        with pytest.raises(InputError, match=r"\[4\]"):
            sink.write_features(1, 0.1, np.ones(5, np.float32), True)
    with pytest.raises(ClosedError):
        sink.write_features(2, 0.2, np.ones(4, np.float32), True)


def test_when_the_final_file_cannot_be_written_the_rows_are_kept_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    sink = FeaturesFile(folder / "features.npz")
    sink.write_features(7, 0.5, np.ones(4, np.float32), True)
    (folder / "features.npz").mkdir()  # somebody puts a folder where the file should go
    with pytest.raises(SinkError, match=r"features\.npz\.rows\.npy"):
        sink.close()
    assert np.load(folder / "features.npz.rows.npy")["frame"].tolist() == [7]
    sink.close()
