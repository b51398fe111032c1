"""The manifest: what a bundle says of itself.

`manifest.json` is the only thing that passes from the build side to the run side. The models below are its schema;
the field names are normative. Version 1 is described by example in `docs/bundle.md`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from .bundle import SCHEMA_VERSION
from .engine import Precision

TensorType = Literal["float32", "float16", "int64", "int32", "int8", "uint8", "bool"]
Filter = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
AxisName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Role = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$")]


class _Part(BaseModel):
    """Common rules: unknown fields are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TensorSpec(_Part):
    """Name-less description of one input or output: dtype and shape, where a string is a dynamic axis."""

    dtype: TensorType
    shape: tuple[PositiveInt | AxisName, ...]

    @property
    def dynamic_axes(self) -> set[str]:
        """Names of the axes whose size is known only when the component runs."""
        return {size for size in self.shape if isinstance(size, str)}


class StateSpec(_Part):
    """One recurrent tensor: `output` of a step becomes `input` of the next; `init` is a .npy file, or zeros."""

    output: str
    input: str
    init: str | None = None


class MemorySpec(_Part):
    """What kind of memory a recurrent bridge keeps: what the run side has to know to fill and to read its cache.

    An entry of the cache is what one segment leaves behind: `blocks` blocks of tokens, each valid or not on its own.

    Attributes:
        variant: What is cached: the segment's memory tokens (one block), or its patch tokens (a block for each frame).
        capacity: Slots of the cache; 0 for a bridge without retrieval, which has no cache.
        tokens: Memory tokens.
        blocks: Blocks of an entry: 1, or `frames`.
        frames: Most frames of a segment.
        grid: Side of the square of tokens that a frame has after pooling.
        restart_every: Every so many segments the bridge starts from its initial memory, while the cache stays; None:
            only the first does.
        eviction: What happens when every slot is taken: the two most alike neighbours become one, or the oldest goes.
        positions: Embeddings of segment numbers; 0 where there are none. Segments past the last one share it.
    """

    variant: Literal["memories", "patches"] = "memories"
    capacity: NonNegativeInt
    tokens: PositiveInt
    blocks: PositiveInt = 1
    frames: PositiveInt
    grid: PositiveInt
    restart_every: PositiveInt | None = None
    eviction: Literal["merge", "oldest"] = "merge"
    positions: NonNegativeInt = 0

    @model_validator(mode="after")
    def _blocks_follow_variant(self) -> MemorySpec:
        expected = 1 if self.variant == "memories" else self.frames
        if self.blocks != expected:
            raise ValueError(f"a cache of {self.variant} has {expected} blocks in an entry, not {self.blocks}")
        return self


class TrackerSpec(_Part):
    """How a tracker keeps its bank of memories, and how it chooses among the masks that its decoder proposes.

    Attributes:
        conditioning_slots: Prompted frames that stay in the bank; the nearest ones do.
        recent_slots: Tracked frames before the current one that stay in the bank.
        recent_pointers: Frames before the current one whose object pointers stay.
        multimask_points: Least and most points of a prompt for which the best of several masks is taken; None: never.
        multimask_tracking: Whether that is so on frames without a prompt, too.
        stability_delta: Where one mask is taken: how far the threshold is moved to see whether the mask is stable.
        stability_threshold: Least overlap of the two thresholds' masks; a mask below it gives way to the best of the
            others. None: it never does.
        rounding: What memories are rounded to before they are kept, as the original does.
        binarise: Which masks enter the memory as 0 and 1: those of all objects on a frame where one was prompted, or
            only those of objects that were.
    """

    conditioning_slots: PositiveInt = 4
    recent_slots: NonNegativeInt = 6
    recent_pointers: NonNegativeInt = 15
    multimask_points: tuple[NonNegativeInt, NonNegativeInt] | None = None
    multimask_tracking: bool = True
    stability_delta: Annotated[float, Field(ge=0)] = 0.05
    stability_threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    rounding: Literal["none", "bfloat16"] = "bfloat16"
    binarise: Literal["frame", "object"] = "frame"

    @property
    def slots(self) -> int:
        """Most memories of an object."""
        return self.conditioning_slots + self.recent_slots

    @property
    def pointers(self) -> int:
        """Object pointers of an object."""
        return self.conditioning_slots + self.recent_pointers


class Resize(_Part):
    """Either `shortest_edge` (keeps the aspect) or `height` and `width`; the filter is Pillow's, with antialiasing.

    `reducing_gap` is Pillow's term: a large picture is first reduced by an integer factor to no less than this many
    times the final size. Faster and a little less exact; None is the exact way.
    """

    shortest_edge: PositiveInt | None = None
    height: PositiveInt | None = None
    width: PositiveInt | None = None
    filter: Filter = "bicubic"
    reducing_gap: Annotated[float, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Resize:
        given = tuple(size is not None for size in (self.shortest_edge, self.height, self.width))
        if given not in ((True, False, False), (False, True, True)):
            raise ValueError("resize needs either shortest_edge, or height and width")
        return self


class Preprocessing(_Part):
    """From an RGB uint8 image to the encoder's pixels: resize, centre crop, `(value * scale - mean) / std`."""

    resize: Resize
    crop: tuple[PositiveInt, PositiveInt] | None = None
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class TextInput(_Part):
    """How a text tower's tokenizer is to be used: fixed length, padding token, whether to lower-case first."""

    length: PositiveInt
    pad_id: int = 0
    lower_case: bool = False


class Origin(_Part):
    """Where a component's weights come from, and under which licence they may be used."""

    checkpoint: str
    revision: str = ""
    sha256: str = ""
    license: str = "unknown"


class Deviation(_Part):
    """Measured distance of one output from its reference: largest absolute error, relative to RMS, worst cosine."""

    max_abs: float
    relative: float
    cosine: float


class QuantisedSpec(_Part):
    """How the int8 graph of a component came about: evidence, like the parity.

    Attributes:
        nodes: Nodes with weights that run in int8.
        share: Share of the multiply-adds with weights that they do, 0..1.
        left: Nodes with weights that stayed in float, the costliest first: 1 - cosine of the worst output when the node
            alone is in int8.
        calibration: What it was calibrated with, for people.
    """

    nodes: NonNegativeInt
    share: Annotated[float, Field(ge=0, le=1)]
    left: dict[str, float] = {}
    calibration: str = ""


class ComponentSpec(_Part):
    """One exported network with its contract."""

    role: Role
    family: str
    source: Origin
    files: Annotated[dict[Precision, str], Field(min_length=1)]
    inputs: Annotated[dict[str, TensorSpec], Field(min_length=1)]
    outputs: Annotated[dict[str, TensorSpec], Field(min_length=1)]
    state: tuple[StateSpec, ...] = ()
    frames_per_call: PositiveInt = 1
    look_ahead: NonNegativeInt = 0
    layer: int | Literal["last"] | None = None
    preprocessing: Preprocessing | None = None
    text: TextInput | None = None
    memory: MemorySpec | None = None
    tracker: TrackerSpec | None = None
    assets: dict[str, str] = {}
    parity: dict[Precision, dict[str, Deviation]] = {}
    quantised: QuantisedSpec | None = None

    @model_validator(mode="after")
    def _outputs_follow_inputs(self) -> ComponentSpec:
        known = {axis for tensor in self.inputs.values() for axis in tensor.dynamic_axes}
        for name, tensor in self.outputs.items():
            if unknown := tensor.dynamic_axes - known:
                raise ValueError(f"output {name!r} has the dynamic axis {min(unknown)!r}, which no input has")
        return self

    @model_validator(mode="after")
    def _states_connect(self) -> ComponentSpec:
        for item in self.state:
            if item.input not in self.inputs or item.output not in self.outputs:
                raise ValueError(f"state {item.output} -> {item.input} names a tensor that the component lacks")
            if self.inputs[item.input] != self.outputs[item.output]:
                raise ValueError(f"state {item.output} -> {item.input} joins tensors of different dtype or shape")
        for names in ([item.input for item in self.state], [item.output for item in self.state]):
            if len(set(names)) != len(names):
                raise ValueError("a tensor is named by two states")
        return self

    def paths(self) -> tuple[str, ...]:
        """Every file that this component refers to."""
        states = tuple(item.init for item in self.state if item.init is not None)
        return (*self.files.values(), *self.assets.values(), *states)


class SceneSettings(_Part):
    """How SceneTilling is to be set for this bundle's encoder: see `vsdk.SceneTillingSettings` and `vsdk.Confirmation`.

    What is None is the SDK's own default.
    """

    look_ahead: NonNegativeInt | None = None
    floor: float | None = None
    min_length: PositiveInt | None = None
    gradual: bool | None = None
    spans: tuple[PositiveInt, ...] | None = None
    gradual_floor: float | None = None
    distance: float | None = None
    sharp_distance: float | None = None
    sharpness: float | None = None
    intercut: float | None = None
    before: PositiveInt | None = None
    horizon: PositiveInt | None = None
    steady: PositiveInt | None = None


class GateSettings(_Part):
    """How the gate is to be set for this bundle's encoder: see `vsdk.GateSettings`; None is the SDK's own default."""

    enabled: bool | None = None
    mean: float | None = None
    peak: float | None = None
    interval: float | None = None
    flat: float | None = None


class PipelineSettings(_Part):
    """Settings of the stages around the encoder."""

    scenes: SceneSettings = SceneSettings()
    gate: GateSettings = GateSettings()


class FileEntry(_Part):
    """Size and SHA-256 (64 hexadecimal digits) of one file."""

    bytes: NonNegativeInt
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Part):
    """The whole of `manifest.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Field(min_length=1, max_length=200)]
    created_with: dict[str, str]
    components: Annotated[dict[str, ComponentSpec], Field(min_length=1)]
    pipeline: PipelineSettings = PipelineSettings()
    default_precision: dict[Literal["cpu", "cuda"], Precision] = {"cpu": "fp32"}
    files: dict[str, FileEntry]

    @model_validator(mode="after")
    def _every_path_is_listed(self) -> Manifest:
        for name, component in self.components.items():
            for path in component.paths():
                if path not in self.files:
                    raise ValueError(f"component {name!r} refers to {path!r}, which is not listed in files")
        return self
