"""Servers that fail in real ways: each fault is seen, and over in time. `live_faults.py` injects hundreds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from live_injection import FAULTS, LONGEST_RECOVERY, SETTINGS, Fault, Injector
from live_tools import Taken, TestCamera, running_camera

from vsdk.sources.network import open_network

SHORT = {
    "tcp": ("connection cut", "slow server", "other codec within the stream", "damaged packets"),
    "http": ("server stopped and started", "stream stops for a moment", "silent server", "not found"),
    "rtsp": ("connection cut", "stream stops for long", "other frame size", "login refused", "time stamps go back"),
    "udp": ("packets lost", "packets out of order", "network gone"),
}
LOADED = 10.0
"""Seconds that a machine which does other things as well may take longer."""

BY_NAME: dict[str, Fault] = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def camera() -> Iterator[TestCamera]:
    with running_camera(udp=True) as made:
        yield made


@pytest.mark.parametrize("scheme", list(SHORT))
def test_every_fault_is_seen_and_over_in_time(camera: TestCamera, scheme: str) -> None:
    camera.recover()
    with open_network(camera.url(scheme), SETTINGS) as source:
        injector = Injector(camera, Taken(source), scheme)
        for name in SHORT[scheme]:
            outcome = injector.inject(BY_NAME[name])
            assert outcome.recovered < LONGEST_RECOVERY + LOADED, outcome


def test_the_faults_are_many_and_each_has_its_place() -> None:
    assert len(BY_NAME) == len(FAULTS) >= 15
    assert set(SHORT) == {scheme for fault in FAULTS for scheme in fault.schemes}
