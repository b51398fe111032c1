"""Sequences in the folders of DAVIS 2017: pictures as JPEG, objects as palette PNGs.

    JPEGImages/480p/<sequence>/00000.jpg ...
    Annotations/480p/<sequence>/00000.png ...    each pixel's palette index is the number of its object; 255 is void
    ImageSets/2017/val.txt ...                   names of sequences; may be missing

As in DAVIS, the objects are those of the first annotation, and the first and the last frame do not count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image as pillow

from vsdk_runtimes.errors import InputError, SourceEmptyError, SourceNotFoundError, SourceUnreadableError

from ..frame import Image
from ..sources.image_folder import SUFFIXES, ImageFolder, natural_order
from ..sources.paths import kind_of
from .track_sequence import Labels, objects_of

RESOLUTION = "480p"
"""Folder of the pictures that is taken where there are several."""
DEFAULT_SET = "val"
LEAST_FRAMES = 3


class DavisSequence:
    """One sequence of a DAVIS folder. The headers of all its annotations are read at once, the rest when it is needed.

    Args:
        pictures: Folder of its pictures.
        annotations: Folder of its annotations, which have the pictures' names.

    Raises:
        SourceNotFoundError: A folder or an annotation is missing.
        SourceEmptyError: There are fewer than three pictures, or no object is annotated on the first.
        SourceUnreadableError: An annotation has no palette, is damaged, or is not as large as the pictures.
    """

    def __init__(self, pictures: Path, annotations: Path) -> None:
        self.name = pictures.name
        self._pictures = pictures
        names = _listed(pictures)
        if len(names) < LEAST_FRAMES:
            raise SourceEmptyError(
                f"{pictures} has {len(names)} pictures",
                hint=f"A sequence needs at least {LEAST_FRAMES}: the first and the last are not scored.",
            )
        self._annotations = [_annotation_of(name, annotations) for name in names]
        with ImageFolder(pictures) as source:
            size = source.info.width, source.info.height
        for annotation in self._annotations:
            _check_header(annotation, size)
        if not objects_of(_labels(self._annotations[0])):
            raise SourceEmptyError(
                f"{self._annotations[0]} shows no object", hint="Objects are prompted with the first annotation."
            )

    def __len__(self) -> int:
        return len(self._annotations)

    @property
    def scored(self) -> range:
        """All frames but the first and the last."""
        return range(1, len(self) - 1)

    def frames(self) -> Iterator[tuple[Image, Labels]]:
        """See `TrackSequence.frames`."""
        with ImageFolder(self._pictures) as source:
            for frame, annotation in zip(source, self._annotations, strict=True):
                yield frame.image, _labels(annotation)


def davis_sequences(folder: str | os.PathLike[str], image_set: str | None = None) -> list[DavisSequence]:
    """The sequences of a folder in DAVIS format.

    Args:
        folder: With `JPEGImages` and `Annotations` in it.
        image_set: Which file of `ImageSets/2017` names the sequences; None is `val`, or every sequence where there
            is no such file.

    Raises:
        InputError: There are pictures of several resolutions, and none of 480p.
        SourceError: See `DavisSequence`; or the folder or the set is missing, or has no sequence.
    """
    root = Path(folder)
    pictures = _folder(root, "JPEGImages", "This is not a folder in DAVIS format.")
    annotations = _folder(root, "Annotations", "This is not a folder in DAVIS format.")
    resolution = _resolution(pictures)
    names = _set(root, image_set) or _folders(pictures / resolution)
    if not names:
        raise SourceEmptyError(f"{pictures / resolution} has no sequences", hint="Each is a folder of pictures.")
    missing = "Remove its name from the set, or add it."
    return [
        DavisSequence(
            _folder(pictures / resolution, name, missing),
            _folder(annotations / resolution, name, "Sequences without annotations cannot be scored."),
        )
        for name in names
    ]


def _resolution(pictures: Path) -> str:
    found = _folders(pictures)
    if RESOLUTION in found:
        return RESOLUTION
    if len(found) != 1:
        raise InputError(
            f"{pictures} has pictures of {len(found)} resolutions ({', '.join(found) or 'none'})",
            hint=f"There must be a folder {RESOLUTION}, or only one.",
        )
    return found[0]


def _set(root: Path, name: str | None) -> list[str]:
    """Names of the sequences in a set; none where no set is asked for and the default is missing."""
    path = root / "ImageSets" / "2017" / f"{name or DEFAULT_SET}.txt"
    if name is None and not path.exists():
        return []
    kind_of(path)
    return path.read_text(encoding="utf-8").split()


def _folder(parent: Path, name: str, hint: str) -> Path:
    path = parent / name
    if not path.is_dir():
        raise SourceNotFoundError(f"{parent} has no folder {name}", hint=hint)
    return path


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


def _listed(folder: Path) -> list[str]:
    """Names of the pictures in the order in which `ImageFolder` reads them."""
    names = [file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
    return sorted(names, key=lambda name: (natural_order(name), name))


def _annotation_of(picture: str, annotations: Path) -> Path:
    path = (annotations / picture).with_suffix(".png")
    if not path.is_file():
        raise SourceNotFoundError(
            f"{path} does not exist, but there is a picture {picture}",
            hint="Every picture needs an annotation; test sets, which lack all but the first, cannot be scored.",
        )
    return path


def _check_header(path: Path, size: tuple[int | None, int | None]) -> None:
    with _opened(path) as annotation:
        if annotation.mode != "P":
            raise SourceUnreadableError(
                f"{path} has no palette (its mode is {annotation.mode})",
                hint="An annotation is a PNG with a palette, whose indices are the numbers of the objects.",
            )
        if annotation.size != size:
            raise SourceUnreadableError(
                f"{path} is {annotation.width}x{annotation.height}, but the pictures are {size[0]}x{size[1]}",
                hint="Take pictures and annotations of the same resolution.",
            )


def _labels(path: Path) -> Labels:
    with _opened(path) as annotation:
        try:
            return np.array(annotation)
        except (OSError, ValueError, SyntaxError) as error:
            raise _damaged(path, error) from error


def _opened(path: Path) -> pillow.Image:
    try:
        return pillow.open(path, formats=("PNG",))
    except (OSError, ValueError, SyntaxError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> SourceUnreadableError:
    return SourceUnreadableError(f"{path} cannot be read as a PNG: {error}", hint="It is damaged; replace it.")
