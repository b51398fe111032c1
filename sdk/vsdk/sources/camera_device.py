"""What is behind the device file of a camera, and what keeps it from being read."""

from __future__ import annotations

import errno
import fcntl
import grp
import os
import re
import stat
import struct
from pathlib import Path

from ..errors import SourceDeniedError, SourceError, SourceNotFoundError, SourceUnreadableError, SourceUnsupportedError

_QUERYCAP = 0x80685600  # VIDIOC_QUERYCAP of linux/videodev2.h: driver, card, bus, version, capabilities, device_caps
_CAPABILITIES = struct.Struct("=16s32s32sIII12x")
_CAPTURE, _CAPTURE_PLANES, _STREAMING, _OF_THE_DEVICE = 0x1, 0x1000, 0x04000000, 0x80000000
_KINDS = {
    stat.S_IFREG: ("a file", "For a video file give its path alone."),
    stat.S_IFDIR: ("a folder", "For a folder of pictures give its path alone."),
    stat.S_IFIFO: ("a pipe", "Read it with: vsdk run - < PIPE"),
    stat.S_IFSOCK: ("a socket", "Have the sender write to a pipe, and read that with: vsdk run -"),
    stat.S_IFBLK: ("a disk", "Cameras are named /dev/video0 and so on."),
}
_GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO)
_MOST_SHOWN = 8


def check_device_file(device: Path) -> None:
    """Look at the device file without opening it.

    Raises:
        SourceNotFoundError: There is none; the hint lists those that there are.
        SourceUnreadableError: It is a file of another kind.
        SourceDeniedError: This user may not use it.
    """
    try:
        mode = device.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise SourceNotFoundError(f"there is no camera {device}", hint=_there_are()) from error
    except PermissionError as error:
        raise SourceDeniedError(f"{device}: permission denied", hint="Check the folders above it.") from error
    except OSError as error:
        raise SourceUnreadableError(f"{device} cannot be opened: {error.strerror}", hint=_there_are()) from error
    if not stat.S_ISCHR(mode):
        kind, hint = _KINDS.get(stat.S_IFMT(mode), ("something else", _there_are()))
        raise SourceUnreadableError(f"{device} is not a camera but {kind}", hint=hint)
    if not os.access(device, os.R_OK | os.W_OK):
        raise denied(device)


def check_capture(device: Path) -> None:
    """Ask the driver whether the device gives pictures in a way that FFmpeg can read. May block in the driver.

    Raises:
        SourceUnsupportedError: It does not.
        SourceError: See `device_error`.
    """
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise device_error(device, error) from error
    try:
        answer = fcntl.ioctl(descriptor, _QUERYCAP, bytes(_CAPABILITIES.size))
    except OSError as error:
        raise SourceUnsupportedError(f"{device} is a device, but not a camera", hint=_there_are()) from error
    finally:
        os.close(descriptor)
    capabilities = _capabilities(answer)
    if capabilities & _CAPTURE and capabilities & _STREAMING:
        return
    if capabilities & _CAPTURE_PLANES:
        raise SourceUnsupportedError(
            f"{device} gives its pictures in several planes, which FFmpeg cannot read",
            hint=f"GStreamer can: 'gst://v4l2src device={device}'",
        )
    raise SourceUnsupportedError(
        f"{device} belongs to a camera, but gives no pictures (metadata, perhaps)", hint=_there_are()
    )


def device_error(device: Path, error: OSError) -> SourceError:
    """What an error of the operating system means for a camera."""
    if isinstance(error, FileNotFoundError) or error.errno in _GONE:
        return SourceNotFoundError(f"{device}: the camera was disconnected", hint=f"Plug it in again. {_there_are()}")
    if isinstance(error, PermissionError):
        return denied(device)
    if error.errno == errno.EBUSY:
        return SourceError(f"{device} is in use by another program", hint=f"Which one says: fuser -v {device}")
    return SourceUnreadableError(
        f"{device}: {error.strerror}", hint=f"What its driver says shows: v4l2-ctl --all -d {device}"
    )


def denied(device: Path) -> SourceDeniedError:
    """The error for a camera that this user may not use; names the group that may."""
    group = _group(device)
    hint = f"Only root may use it: ls -l {device}"
    if group:
        hint = f"The group '{group}' may use it. Join it with: sudo usermod -aG {group} $USER, then log in again."
    return SourceDeniedError(f"{device}: this user may not use the camera", hint=hint)


def cameras() -> list[str]:
    """The camera devices of this machine with what their drivers call them, for people."""
    found = []
    for device in sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name)):
        if re.fullmatch(r"video\d+", device.name):
            title = Path("/sys/class/video4linux", device.name, "name")
            found.append(f"{device} ({title.read_text().strip()})" if title.is_file() else str(device))
    return found


def _there_are() -> str:
    found = cameras()
    if not found:
        return "This machine has no /dev/video*. Is the camera plugged in? A container needs: --device /dev/video0"
    return f"There is: {', '.join(found[:_MOST_SHOWN])}"


def _capabilities(answer: bytes) -> int:
    *_, all_together, of_the_device = _CAPABILITIES.unpack(answer)
    return int(of_the_device if all_together & _OF_THE_DEVICE else all_together)


def _group(device: Path) -> str | None:
    """The group that may use the device; None where the group may not either."""
    try:
        status = device.stat()
        return grp.getgrgid(status.st_gid).gr_name if status.st_mode & stat.S_IWGRP else None
    except (OSError, KeyError):
        return None
