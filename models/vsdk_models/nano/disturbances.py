"""What goes wrong in front of, inside and behind a camera, applied to clips with known truth.

A disturbance is called with a `Clip` and gives a `Clip`: frames are changed as they are drawn, truth moves along. Each
is a frozen dataclass whose `seed` decides everything random, so that a clip opened twice shows the same. They work on
rendered and on real clips.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from .clips import Clip, Frame
from .shot import place, to_image
from .textures import PROCESSES, spectral_noise

FRAME_RATE = 25.0


class Disturbance(Protocol):
    """Anything that makes a disturbed clip out of a clip."""

    def __call__(self, clip: Clip) -> Clip:
        """The disturbed clip; the frames have the same size."""
        ...


def _per_frame(clip: Clip, change: Callable[[int, Frame], Frame]) -> Clip:
    """A clip whose frame `i` is `change(i, frame)`."""

    def frames() -> Iterator[Frame]:
        for number, frame in enumerate(clip.open()):
            yield change(number, frame)

    return replace(clip, open=frames)


def _tone(frame: Frame, curve: npt.NDArray[np.floating]) -> Frame:
    """The frame through a tone curve `[256]` in 0..1."""
    table = (np.clip(curve, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.asarray(Image.fromarray(frame).point(list(table) * 3))


def _levels() -> npt.NDArray[np.float64]:
    return np.arange(256) / 255


@dataclass(frozen=True)
class Flashes:
    """One- or two-frame flashes over the whole picture or a part of it, like lightning or a photographer's.

    Attributes:
        seed: Decides when and how bright.
        every: Mean seconds between flashes.
        gain: Range of the factor on the light; most of the picture saturates at the upper end.
        local: Share of flashes that light only one side of the picture.
        double: Share of flashes that last two frames.
    """

    seed: int
    every: float = 1.0
    gain: tuple[float, float] = (1.8, 5.0)
    local: float = 0.3
    double: float = 0.3

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        rng = np.random.default_rng(self.seed)
        light: dict[int, tuple[float, float, float | None]] = {}
        position = rng.exponential(self.every * FRAME_RATE / 2)
        while position < clip.frames:
            gain, lift = rng.uniform(*self.gain), rng.uniform(0.05, 0.35)
            side = rng.uniform(0, 2 * np.pi) if rng.random() < self.local else None
            start = int(position)
            light[start] = (gain, lift, side)
            if rng.random() < self.double:
                light[start + 1] = (1 + (gain - 1) * rng.uniform(0.3, 1), lift / 2, side)
            position += 4 + rng.exponential(self.every * FRAME_RATE)

        def flash(number: int, frame: Frame) -> Frame:
            if number not in light:
                return frame
            gain, lift, side = light[number]
            bright = _tone(frame, _levels() * gain + lift)
            if side is None:
                return bright
            height, width = frame.shape[:2]
            y, x = np.mgrid[0:height, 0:width].astype(np.float32)
            across = (x / width - 0.5) * math.cos(side) + (y / height - 0.5) * math.sin(side)
            part = np.clip(across * 4 + 0.5, 0, 1)[..., None]
            return np.asarray(frame * (1 - part) + bright * part, np.uint8)

        return _per_frame(clip, flash)


@dataclass(frozen=True)
class Flicker:
    """Light that pulses: mains light against the shutter, or a lamp about to fail.

    Attributes:
        seed: Decides phase and, for an irregular flicker, each frame's light.
        depth: Amplitude relative to the mean light.
        hertz: Frequency; 0 draws each frame's gain independently.
    """

    seed: int
    depth: float = 0.25
    hertz: float = 8.0

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        rng = np.random.default_rng(self.seed)
        if self.hertz > 0:
            wave = np.sin(2 * np.pi * (self.hertz * np.arange(clip.frames) / FRAME_RATE + rng.random()))
        else:
            wave = rng.uniform(-1, 1, clip.frames)
        gains = 1 + self.depth * wave
        return _per_frame(clip, lambda number, frame: _tone(frame, _levels() * gains[number]))


@dataclass(frozen=True)
class ExposureRamps:
    """Exposure that drifts far up or down and back within seconds, as when clouds pass or a tunnel ends.

    Attributes:
        seed: Decides when and how far.
        factor: Darkest and brightest factor on the light.
        seconds: Range of a ramp's duration.
    """

    seed: int
    factor: tuple[float, float] = (0.35, 2.5)
    seconds: tuple[float, float] = (1.0, 2.0)

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        rng = np.random.default_rng(self.seed)
        stops, target, bends = [0.0], 0.0, [0.0]
        while len(stops) < clip.frames:
            length = int(rng.uniform(*self.seconds) * FRAME_RATE)
            aim = math.log(rng.uniform(self.factor[0], 0.6) if rng.random() < 0.5 else rng.uniform(1.5, self.factor[1]))
            aim = 0.0 if target != 0 and rng.random() < 0.4 else aim
            bend = rng.uniform(-0.25, 0.25)
            ramp = (np.arange(length) + 1) / length
            stops += list(target + (aim - target) * ramp)
            bends += list(bends[-1] + (bend - bends[-1]) * ramp)
            stops += [aim] * int(rng.uniform(0, 15))
            bends += [bend] * (len(stops) - len(bends))
            target = aim
        return _per_frame(
            clip, lambda number, frame: _tone(frame, _levels() ** math.exp(bends[number]) * math.exp(stops[number]))
        )


@dataclass(frozen=True)
class ExposureSteps:
    """An automatic exposure that jumps and settles again within half a second.

    Attributes:
        seed: Decides when and how far.
        every: Mean seconds between jumps.
        factor: Largest jump, up or down.
    """

    seed: int
    every: float = 2.0
    factor: float = 2.0

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        rng = np.random.default_rng(self.seed)
        stops = np.zeros(clip.frames)
        position = rng.exponential(self.every * FRAME_RATE / 2)
        while position < clip.frames:
            jump = math.log(self.factor) * rng.uniform(0.4, 1) * rng.choice([-1, 1])
            after = np.arange(clip.frames - int(position))
            stops[int(position) :] += jump * np.exp(-after / rng.uniform(4, 12))
            position += 10 + rng.exponential(self.every * FRAME_RATE)
        return _per_frame(clip, lambda number, frame: _tone(frame, _levels() * math.exp(stops[number])))


@dataclass(frozen=True)
class SensorNoise:
    """Read noise and shot noise, new in each frame, in each pixel.

    Attributes:
        seed: Decides the noise.
        sigma: Standard deviation of the read noise, in 8-bit steps.
        shot: Standard deviation of the shot noise at full light, in 8-bit steps.
    """

    seed: int
    sigma: float = 15.0
    shot: float = 10.0

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        spread = np.sqrt(self.sigma**2 + self.shot**2 * _levels()).astype(np.float32)

        def noisy(number: int, frame: Frame) -> Frame:
            rng = np.random.default_rng((self.seed, number))
            noise = rng.standard_normal(frame.shape, np.float32)
            noise *= spread.take(frame)
            noise += frame
            noise += 0.5
            return noise.clip(0, 255, out=noise).astype(np.uint8)

        return _per_frame(clip, noisy)


@dataclass(frozen=True)
class Compression:
    """H.264 at a quality where blocks, smearing and pumping are plain to see.

    Attributes:
        crf: Constant rate factor of libx264.
        preset: Speed preset of libx264.
        keyframes: Most frames between key frames; each brings a jump in quality.
    """

    crf: int = 38
    preset: str = "veryfast"
    keyframes: int = 50

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        return replace(clip, open=lambda: self._coded(clip))

    def _coded(self, clip: Clip) -> Iterator[Frame]:
        file = io.BytesIO()
        options = {"crf": str(self.crf), "preset": self.preset, "g": str(self.keyframes), "threads": "1"}
        width, height = clip.size
        with av.open(file, "w", format="matroska") as container:
            stream = container.add_stream("libx264", rate=int(FRAME_RATE), options=options)
            stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
            for frame in clip.open():
                even = np.ascontiguousarray(frame[: stream.height, : stream.width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
            container.mux(stream.encode(None))
        file.seek(0)
        with av.open(file, "r") as coded:
            for decoded in coded.decode(video=0):
                picture = decoded.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
                yield np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@dataclass(frozen=True)
class BlackLeader:
    """Nearly black frames before the clip. They are no scene: no boundary is expected where the clip starts.

    Attributes:
        seed: Decides the noise.
        frames: How many.
        sigma: Standard deviation of the noise on the black, in 8-bit steps.
    """

    seed: int
    frames: int = 30
    sigma: float = 2.0

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`; all truth lies `frames` later."""
        width, height = clip.size

        def frames() -> Iterator[Frame]:
            rng = np.random.default_rng(self.seed)
            for _ in range(self.frames):
                noise = np.abs(rng.standard_normal((height, width, 3), np.float32)) * self.sigma
                yield noise.astype(np.uint8)
            yield from clip.open()

        shifted = tuple((low + self.frames, high + self.frames) for low, high in clip.ignored)
        return replace(
            clip,
            frames=clip.frames + self.frames,
            open=frames,
            transitions=tuple(change.later(self.frames) for change in clip.transitions),
            ignored=((self.frames - 2, self.frames + 2), *shifted),
        )


@dataclass(frozen=True)
class Crossings:
    """Large things that pass close to the camera: a passer-by, a pole, a lorry.

    None passes while the scene changes: what it hides could not be dated by anybody.

    Attributes:
        seed: Decides what passes, when and whither.
        every: Mean seconds between two.
        frames: Range of the frames from the first to the last trace.
        cover: Range of the share of the picture that is hidden at most.
    """

    seed: int
    every: float = 2.5
    frames: tuple[int, int] = (6, 30)
    cover: tuple[float, float] = (0.4, 1.0)

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        rng = np.random.default_rng(self.seed)
        passing: dict[int, tuple[Occluder, int]] = {}
        position = int(rng.exponential(self.every * FRAME_RATE / 3)) + 2
        while position < clip.frames:
            length = int(rng.integers(self.frames[0], self.frames[1] + 1))
            seed, cover = int(rng.integers(1 << 31)), rng.uniform(*self.cover)
            end = position + length
            hits = [change for change in clip.transitions if change.first - 2 < end and position <= change.last + 2]
            if hits:
                position = max(change.last for change in hits) + 3
                continue
            if end <= clip.frames - 2:
                occluder = Occluder(seed, cover, length)
                passing.update({position + step: (occluder, step) for step in range(length)})
            position = end + 3 + int(rng.exponential(self.every * FRAME_RATE))

        drawn: dict[Occluder, tuple[Image.Image, Image.Image]] = {}

        def hide(number: int, frame: Frame) -> Frame:
            if number not in passing:
                return frame
            occluder, step = passing[number]
            if occluder not in drawn:
                drawn.clear()  # one at a time: a long clip must not keep them all
                drawn[occluder] = occluder.draw(clip.size)
            return occluder.paste(frame, drawn[occluder], step)

        return _per_frame(clip, hide)


@dataclass(frozen=True)
class Occluder:
    """One thing that passes close to the camera.

    Attributes:
        seed: Decides its form, texture, light and direction.
        cover: Share of the picture that it hides at most.
        frames: How long it takes to pass.
    """

    seed: int
    cover: float
    frames: int

    def draw(self, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
        """Its colours and its coverage, blurred along its way as its speed demands."""
        rng, (width, height), sideways = self._random(), size, self._sideways()
        # Across the way it is as long as the picture and more; along it, as `cover` asks.
        along = self.cover * (width if sideways else height)
        round_form = self.cover < 0.75 and rng.random() < 0.4
        across = (height if sideways else width) * (1.25 if not round_form else 1.1)
        if round_form:
            along *= 1.25
        box = (int(along), int(across)) if sideways else (int(across), int(along))
        names = tuple(PROCESSES)
        texture = place(rng, (str(rng.choice(names)), str(rng.choice(names))), 192)
        light, contrast = rng.choice([0.12, 0.3, 0.5, 0.8]), rng.uniform(0.1, 0.8)
        picture = (texture - texture.mean()) * contrast + light
        body = to_image(picture).resize((max(box[0], 8), max(box[1], 8)), Image.Resampling.BICUBIC)
        rough = spectral_noise(rng, 128, 1.8) - 0.5
        y, x = np.mgrid[-1:1:128j, -1:1:128j]
        inside = 1 - (np.hypot(x, y) if round_form else np.abs(x if sideways else y)) + 0.15 * rough
        cover = to_image(np.repeat(np.clip(inside * 16, 0, 1)[..., None], 3, -1).astype(np.float32)).convert("L")
        speed = ((width if sideways else height) + along) / self.frames
        margin = int(speed / 2 + 0.03 * width) + 1
        framed = Image.new("L", (body.width + 2 * margin, body.height + 2 * margin), 0)
        framed.paste(cover.resize(body.size, Image.Resampling.BICUBIC), (margin, margin))
        blur = (speed / 4, 1.0) if sideways else (1.0, speed / 4)
        mask = framed.filter(ImageFilter.BoxBlur(blur)).filter(ImageFilter.BoxBlur(0.01 * width))
        colours = Image.new("RGB", framed.size, tuple(int(value) for value in np.asarray(body).mean((0, 1))))
        colours.paste(body, (margin, margin))
        return colours.filter(ImageFilter.BoxBlur(blur)), mask

    def paste(self, frame: Frame, drawn: tuple[Image.Image, Image.Image], step: int) -> Frame:
        """The frame with the thing over it, `step` frames after its first trace."""
        body, mask = drawn
        height, width = frame.shape[:2]
        part = (step + 0.5) / self.frames
        part = part if self._forward() else 1 - part
        x, y = (width - body.width) // 2, (height - body.height) // 2
        if self._sideways():
            x = round(-body.width + part * (width + body.width))
        else:
            y = round(-body.height + part * (height + body.height))
        image = Image.fromarray(frame)
        image.paste(body, (x, y), mask)
        return np.array(image)

    def _random(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    def _sideways(self) -> bool:
        return self.seed % 4 != 0

    def _forward(self) -> bool:
        return self.seed // 4 % 2 == 0


@dataclass(frozen=True)
class Together:
    """Several disturbances, the first nearest to the scene."""

    parts: tuple[Disturbance, ...] = field(default=())

    def __call__(self, clip: Clip) -> Clip:
        """See `Disturbance`."""
        for part in self.parts:
            clip = part(clip)
        return clip
