"""Cameras at this machine: V4L2 devices, through FFmpeg."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import av
import av.error
from av.container import InputContainer

from ..errors import SourceError, SourceUnsupportedError
from .camera_address import CameraAddress, camera_number, parse_camera_address
from .camera_device import check_capture, check_device_file, device_error
from .connection import Picture
from .container_connection import ContainerConnection
from .container_video import fraction_of, video_stream
from .live import LiveSource
from .live_settings import LiveSettings

logger = logging.getLogger(__name__)


def open_camera(address: CameraAddress | Path | str | int, settings: LiveSettings | None = None) -> LiveSource:
    """A camera as a live source.

    Stamps are those that the driver gives when it has filled a buffer. Pictures are converted at once, so that the
    driver has its buffers back. The size is the one that was asked for, or it is an error; the rate may be another one,
    which `info` tells: drivers lower it in the dark.

    A driver that hangs cannot be interrupted. Then the source reports a stall, and tries again in a new thread.

    Args:
        address: A number (0 is `/dev/video0`), the path of a device, or an address, for which see
            `camera_address.parse_camera_address`.
        settings: None takes the defaults.

    Raises:
        SourceNotFoundError: No such device; the hint lists those that there are.
        SourceUnreadableError: Not a device.
        SourceDeniedError: This user may not use it; the hint names the group.
        SourceError: The address is not acceptable.

    `read` raises `SourceUnsupportedError` where the device is not a camera, or cannot do what was asked for. That it is
    in use, or was disconnected, is tried again as with all live sources.
    """
    if isinstance(address, int):
        address = camera_number(address)
    elif isinstance(address, str):
        address = parse_camera_address(address)
    elif isinstance(address, Path):
        address = CameraAddress(address)
    where, how = address, settings or LiveSettings()
    check_device_file(where.device)
    return LiveSource(where.name, lambda: CameraConnection(where, how), how)


class CameraConnection(ContainerConnection):
    """An open V4L2 device.

    Args:
        address: The device and its mode.
        settings: For their time-outs.

    Raises:
        SourceError: See `open_camera`.
    """

    def __init__(self, address: CameraAddress, settings: LiveSettings) -> None:
        self._address = address
        super().__init__(
            address.name,
            lambda: _open(address, settings),
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            convert_at_once=True,
            hint=f"What its driver says shows: v4l2-ctl --all -d {address.device}",
        )

    def receive(self) -> Sequence[Picture] | None:
        """See `Connection.receive`."""
        try:
            return super().receive()
        except SourceError as error:
            if isinstance(error.__cause__, OSError):
                raise device_error(self._address.device, error.__cause__) from error.__cause__
            raise


def _open(address: CameraAddress, settings: LiveSettings) -> InputContainer:
    check_device_file(address.device)
    check_capture(address.device)
    try:
        container: InputContainer = av.open(
            str(address.device),
            format="v4l2",
            container_options=_options(address),
            timeout=(settings.connect_timeout, settings.read_timeout),
        )
    except av.error.ArgumentError as error:
        raise _refused(address, "refuses") from error
    except OSError as error:
        raise device_error(address.device, error) from error
    try:
        _compare(address, container)
    except BaseException:
        container.close()
        raise
    return container


def _options(address: CameraAddress) -> dict[str, str]:
    options = {}
    if address.size is not None:
        options["video_size"] = "{}x{}".format(*address.size)
    if address.rate is not None:
        options["framerate"] = str(address.rate)
    if address.format is not None:
        options["input_format"] = address.format
    return options


def _compare(address: CameraAddress, container: InputContainer) -> None:
    """Drivers take another size or rate without a word, if they do not have the one that was asked for."""
    stream = video_stream(container, address.name)
    size = stream.codec_context.width, stream.codec_context.height
    if address.size is not None and size != address.size:
        raise _refused(address, "has {}x{} instead of".format(*size))
    rate = fraction_of(stream.average_rate)
    if address.rate is not None and rate is not None and abs(rate / address.rate - 1) > 0.01:
        logger.warning("%s: %.4g frames/s were asked for, the driver gives %.4g", address.name, address.rate, rate)


def _refused(address: CameraAddress, does: str) -> SourceUnsupportedError:
    wanted = ", ".join(f"{key}={value}" for key, value in _options(address).items()) or "its own default mode"
    return SourceUnsupportedError(
        f"{address.name}: the camera {does} {wanted}",
        hint=f"What it can do says: v4l2-ctl --list-formats-ext -d {address.device}",
    )
