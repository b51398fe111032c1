"""Every error that vsdk raises on purpose.

All of them derive from `Error`, so that one `except vsdk.Error` is enough at the edge of an application. The message
says what happened and to which file, stream or tensor; `hint` says what to do about it. An error of a library below
(PyAV, ONNX Runtime, the operating system) is never let through bare: it is mapped here and kept as `__cause__`.

```
Error
├── BundleError                     a bundle folder cannot be used
│   ├── BundleNotFoundError           no such folder, or no manifest.json in it
│   ├── BundleSchemaError             the manifest is not valid JSON, not of a known schema version, or inconsistent
│   ├── BundleDamagedError            a listed file is missing, cut short or altered; or the pinned digest differs
│   └── BundlePathError               a listed path leaves the folder
├── EngineError                     a component cannot be run as asked
│   ├── EngineUnavailableError        engine not installed, device not there, or another one would be used silently
│   ├── PrecisionUnavailableError     the component has no graph of this precision
│   ├── GraphError                    the engine refuses the graph, or the graph contradicts the manifest
│   └── EngineRunError                the engine failed while running
├── InputError (also ValueError)    an array, a time stamp or an option handed in is not acceptable
├── ClosedError                     used after close()
├── SourceError                     frames cannot be read
│   ├── SourceNotFoundError           no such file, folder or device
│   ├── SourceUnreadableError         not a video, damaged beyond use, or without a video stream
│   │   ├── SourceDeniedError           access is refused: permissions, or user name and password
│   │   └── SourceUnsupportedError      needs a decoder, container or protocol that is not there
│   ├── SourceEmptyError              readable, but without a single frame
│   ├── SourceChangedError            frame size changed where the consumer cannot follow
│   └── SourceTimeoutError            nothing arrived in time
├── SinkError                       results cannot be written
├── StateError                      a saved memory cannot be used
│   ├── StateNotFoundError            no such file, or it cannot be read
│   ├── StateDamagedError             not such a file, cut short or altered
│   ├── StateSchemaError              of a schema version that is not known
│   └── StateMismatchError            saved with another bundle
└── ExportError                     a checkpoint cannot be turned into a bundle
    ├── CheckpointError               missing, incomplete, or not of the stated format
    │   └── UnsafeCheckpointError     weights only as a pickle, which can run code when opened
    ├── UnsupportedModelError         a model family or an option that the toolchain does not know
    └── ParityError                   the exported graph does not reproduce its reference
```
"""

from __future__ import annotations


class Error(Exception):
    """Root of all vsdk errors.

    Args:
        message: What happened, naming the file, stream or tensor.
        hint: What the reader can do next; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class BundleError(Error):
    """A bundle folder cannot be used."""


class BundleNotFoundError(BundleError):
    """No such folder, or no manifest.json in it."""


class BundleSchemaError(BundleError):
    """The manifest is not valid JSON, not of a known schema version, or contradicts itself."""


class BundleDamagedError(BundleError):
    """A listed file is missing, cut short or altered, or the digest is not the pinned one."""


class BundlePathError(BundleError):
    """A listed path leaves the bundle folder."""


class EngineError(Error):
    """A component cannot be run as asked."""


class EngineUnavailableError(EngineError):
    """The engine is not installed, its device is not there, or it would silently use another one."""


class PrecisionUnavailableError(EngineError):
    """The component has no graph of the precision asked for."""


class GraphError(EngineError):
    """The engine refuses the graph, or the graph contradicts the manifest."""


class EngineRunError(EngineError):
    """The engine failed while running."""


class InputError(Error, ValueError):
    """An array, a time stamp or an option handed in is not acceptable."""


class ClosedError(Error):
    """A session, pipeline, stream or sink was used after it was closed."""


class SourceError(Error):
    """Frames cannot be read from a source."""


class SourceNotFoundError(SourceError):
    """No such file, folder or device."""


class SourceUnreadableError(SourceError):
    """Not a video, damaged beyond use, or without a video stream."""


class SourceDeniedError(SourceUnreadableError):
    """Access is refused: permissions, or user name and password."""


class SourceUnsupportedError(SourceUnreadableError):
    """It needs a decoder, container or protocol that is not there."""


class SourceEmptyError(SourceError):
    """Readable, but without a single frame."""


class SourceChangedError(SourceError):
    """The frame size changed where the consumer cannot follow."""


class SourceTimeoutError(SourceError):
    """Nothing arrived in time."""


class SinkError(Error):
    """Results cannot be written."""


class StateError(Error):
    """A saved memory cannot be used."""


class StateNotFoundError(StateError):
    """No such file, or it cannot be read."""


class StateDamagedError(StateError):
    """The file is not a saved memory, or it was cut short or altered."""


class StateSchemaError(StateError):
    """The file has a schema version that this vsdk does not know."""


class StateMismatchError(StateError):
    """The file was saved with another bundle."""


class ExportError(Error):
    """A checkpoint cannot be turned into a bundle."""


class CheckpointError(ExportError):
    """A checkpoint is missing, incomplete, or not of the stated format."""


class UnsafeCheckpointError(CheckpointError):
    """The weights exist only as a pickle, which can run code when it is opened."""


class UnsupportedModelError(ExportError):
    """A model family or an option that the toolchain does not know."""


class ParityError(ExportError):
    """The exported graph does not reproduce its reference within the limit."""
