"""The four networks of the nano tracker, and the tracker that holds them.

They have the inputs and outputs that every tracker of this project has (`tracker.encoder`, `tracker.attention`,
`tracker.decoder`, `tracker.memory`), after SAM 2 (Ravi et al., 2024). Inside they follow the matching networks STM
(Oh et al., ICCV 2019) and XMem (Cheng and Schwing, ECCV 2022): what a cell of the picture looks like is its key, the
same for query and memory, and only the value that is read depends on the mask.

A memory token is `[key | mask patch | presence | value]`: the mask at full resolution under the cell, whether the
object was there at all, and learnt features. So the mask of the frame before is at hand when the next one is decoded,
which is what tells an object from others that look alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .layers import Block, Residual, Stage, centres, double

WEIGHTS = Path(__file__).parent.parent / "weights" / "tracker.safetensors"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Preprocessing: RGB in 0..1, minus the mean, over the deviation."""
RECENT = 6
"""The oldest tracked frame in the memory, in frames back."""
INVALID = -1e4
"""Attention logit of what must not be read: finite in half precision."""


@dataclass(frozen=True)
class Config:
    """Sizes of a nano tracker.

    Attributes:
        side: Side S of the square input, in pixels.
        grid: Side g of the top feature map; a frame has `grid**2` memory tokens.
        mask_side: Side m of the mask logits.
        width: Width D of the top features.
        high: Channels of the feature maps at sides m and m / 2.
        key: How many of the top features, the first ones, cells are matched by.
        value: Learnt features in a memory token.
        heads: How many ways the memory is read in.
        masks: Masks K that the decoder proposes.
    """

    side: int = 128
    grid: int = 16
    mask_side: int = 64
    width: int = 128
    high: tuple[int, int] = (32, 64)
    key: int = 64
    value: int = 63
    heads: int = 3
    masks: int = 1

    @property
    def patch(self) -> int:
        """Mask logits under one cell of the top feature map."""
        return (self.mask_side // self.grid) ** 2

    @property
    def read(self) -> int:
        """What is read of a memory token: the mask patch, the presence and the value."""
        return self.patch + 1 + self.value

    @property
    def memory(self) -> int:
        """Width M of a memory token."""
        return self.key + self.read

    @property
    def tokens(self) -> int:
        """Memory tokens T of one frame and object."""
        return self.grid**2


class Encoder(nn.Module):
    """`tracker.encoder`: a convolutional pyramid down to a 16th of the side, read out at a half, a quarter, an 8th."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.key = config.key
        first, second = config.high
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.quarter = Stage(first, second)
        self.eighth = Stage(second, config.width)
        self.sixteenth = Stage(config.width, 192)
        self.context = nn.Conv2d(192, config.width, 1)
        self.lateral = nn.Conv2d(config.width, config.width, 1)
        self.merge = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.high0 = nn.Conv2d(first, first, 1)
        self.high1 = nn.Conv2d(second, second, 1)
        self.no_memory = nn.Parameter(torch.randn(1, config.width, 1, 1) * 0.02)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`pixels [batch, 3, S, S]` to `high0 [batch, c0, m, m]`, `high1`, `top [batch, D, g, g]` and `initial`.

        The first channels of `top` are the keys, of unit root mean square.
        """
        half = self.stem(pixels)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        context = double(self.context(self.sixteenth(eighth)))
        top = self.merge(functional.relu(self.lateral(eighth) + context))
        key = top[:, : self.key]
        key = key * torch.rsqrt((key * key).mean(1, keepdim=True) + 1e-4)
        top = torch.cat([key, top[:, self.key :]], 1)
        return self.high0(half), self.high1(quarter), top, top + self.no_memory


class Attention(nn.Module):
    """`tracker.attention`: reads the memory by likeness and nearness, and the last masks where they are.

    Every head weighs the tokens by `temperature * cosine(keys) - locality * distance**2 + bias`, where locality and
    bias depend on the age of the slot. The square of the distance is a scalar product of positions, up to a term that
    is the same for all tokens, so this is a plain attention with a few more channels.
    """

    ages: Tensor
    cells: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        heads, width, read = config.heads, config.width, config.read
        self.temperature = nn.Parameter(torch.full((heads,), 5.0))
        locality = torch.full((heads, RECENT + 1), -4.0)
        locality[-1, 1:] = 8.0
        self.locality = nn.Parameter(locality)
        bias = torch.zeros(heads, RECENT + 1)
        bias[0, 1:] = -4.0
        self.bias = nn.Parameter(bias)
        self.absent = nn.Parameter(torch.full((heads,), -2.0))
        position = centres(config.grid, 2.0) - 1
        y, x = torch.meshgrid(position, position, indexing="ij")
        self.register_buffer("ages", torch.arange(RECENT + 1), persistent=False)
        self.register_buffer("cells", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)
        history = read + (RECENT - 1) * (config.patch + 1)
        self.merge = nn.Conv2d(width + heads * read + history, width, 1)
        self.position = nn.Parameter(torch.randn(1, width, config.grid, config.grid) * 0.02)
        self.pointer_decay = nn.Parameter(torch.tensor(-2.0))
        self.pointer = nn.Linear(width, 2 * width)
        self.likeness = nn.Conv2d(8, width, 1)
        self.near = nn.Sequential(Residual(width), Residual(width))
        self.far = Block(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(
        self,
        top: Tensor,
        memory: Tensor,
        slot_age: Tensor,
        slot_valid: Tensor,
        pointers: Tensor,
        pointer_age: Tensor,
        pointer_valid: Tensor,
    ) -> Tensor:
        """The features of a frame, informed by the memory.

        Args:
            top: `[1, D, g, g]` or one for each object.
            memory: `[batch, slots, T, M]`.
            slot_age: `[batch, slots]` int64: 0 a prompted frame, k a tracked frame k back.
            slot_valid: `[batch, slots]`, 1 or 0; what is in an invalid slot does not matter.
            pointers: `[batch, P, D]`.
            pointer_age: `[batch, P]` in frames.
            pointer_valid: `[batch, P]`, 1 or 0.

        Returns:
            `[batch, D, g, g]`.
        """
        grid, width = self.config.grid, self.config.width
        top = top.expand(memory.shape[0], width, grid, grid)
        memory = torch.where(slot_valid[:, :, None, None] > 0.5, memory, torch.zeros_like(memory))
        slot = torch.eq(slot_age[:, :, None], self.ages).to(memory.dtype) * slot_valid[:, :, None]
        maps = [top, self._match(top, memory, slot, slot_valid), self._history(memory, slot)]
        x = self.merge(torch.cat(maps, 1)) + self.position
        x = x + self._summarise(top, pointers, pointer_age, pointer_valid)
        return top + self.out(self.far(self.near(x)))

    def _match(self, top: Tensor, memory: Tensor, slot: Tensor, slot_valid: Tensor) -> Tensor:
        """`[batch, heads * read, g, g]`: what every head finds in the memory."""
        config = self.config
        batch, heads, tokens, grid = memory.shape[0], config.heads, config.tokens, config.grid
        query = top[:, : config.key].flatten(2).transpose(1, 2) * config.key**-0.5
        key = memory[..., : config.key] * config.key**-0.5
        value = memory[..., config.key :]

        locality = torch.einsum("bsa,ha->bhs", slot, functional.softplus(self.locality))[..., None, None]
        presence = value[..., config.patch].mean(-1)
        bias = torch.einsum("bsa,ha->bhs", slot, self.bias)
        bias = bias + (1 - presence[:, None]) * self.absent[:, None] + (1 - slot_valid[:, None]) * INVALID
        near = 2 * locality * self.cells
        offset = bias[..., None, None] - locality * (self.cells * self.cells).sum(-1, keepdim=True)

        spare = config.read - config.key - 3
        ones = torch.ones_like(query[..., :1])
        place = torch.cat([self.cells.expand(batch, tokens, 2), ones, torch.zeros_like(query[..., :spare])], -1)
        like = query[:, None] * functional.softplus(self.temperature)[:, None, None] * 4
        query = torch.cat([like, place[:, None].expand(batch, heads, tokens, spare + 3)], -1)
        key = key[:, None].expand(batch, heads, -1, tokens, config.key)
        key = torch.cat([key, near, offset, torch.zeros_like(key[..., :spare])], -1)
        value = value[:, None].expand(batch, heads, -1, tokens, config.read)
        found = functional.scaled_dot_product_attention(query, key.flatten(2, 3), value.flatten(2, 3), scale=1.0)
        return found.transpose(2, 3).reshape(batch, heads * config.read, grid, grid)

    def _history(self, memory: Tensor, slot: Tensor) -> Tensor:
        """`[batch, read + 5 * (patch + 1), g, g]`: the last frames cell by cell, all of the last, the masks before."""
        config = self.config
        last = torch.einsum("bs,bstc->bct", slot[:, :, 1], memory[..., config.key :])
        masks = memory[..., config.key : config.key + config.patch + 1]
        before = torch.einsum("bsa,bstc->bact", slot[:, :, 2:], masks).flatten(1, 2)
        return torch.cat([last, before], 1).unflatten(-1, (config.grid, config.grid))

    def _summarise(self, top: Tensor, pointers: Tensor, age: Tensor, valid: Tensor) -> Tensor:
        """`[batch, D, g, g]`: the pointers' mean, the recent ones weighing more, and where the picture is like it."""
        pointers = torch.where(valid[:, :, None] > 0.5, pointers, torch.zeros_like(pointers))
        weight = torch.exp(-functional.softplus(self.pointer_decay) * age.clamp(0, 16)) * valid
        weight = weight / (weight.sum(1, keepdim=True) + 1e-4)
        pointer = self.pointer((weight[:, :, None] * pointers).sum(1))
        shift, wanted = pointer.chunk(2, -1)
        alike = (top * wanted[:, :, None, None]).unflatten(1, (8, -1)).mean(2)
        return cast(Tensor, self.likeness(alike) + shift[:, :, None, None])


class Decoder(nn.Module):
    """`tracker.decoder`: prompts are drawn as maps beside the features, which are then decoded up to the mask."""

    centres: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, (first, second) = config.width, config.high
        self.register_buffer("centres", centres(config.mask_side, config.side), persistent=False)
        self.spread = config.side / 48
        self.draw0 = nn.Conv2d(4, first, 1)
        self.draw1 = nn.Conv2d(4, second, 3, stride=2, padding=1)
        self.draw2 = nn.Conv2d(second, width, 3, stride=2, padding=1)
        self.kinds = nn.Linear(4, width)
        self.external = nn.Linear(width, width)
        self.near = Residual(width)
        self.far = Block(width)
        self.down1 = nn.Conv2d(width, second, 1)
        self.refine1 = Residual(second)
        self.down0 = nn.Conv2d(second, first, 1)
        self.refine0 = nn.Conv2d(first, first, 3, padding=1)
        self.logits = nn.Conv2d(first, config.masks, 3, padding=1)
        self.judge = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1 + config.masks))
        self.pointer = nn.Linear(width, width)

    def forward(
        self,
        features: Tensor,
        high0: Tensor,
        high1: Tensor,
        points: Tensor,
        labels: Tensor,
        embeddings: Tensor,
        embedding_valid: Tensor,
        mask: Tensor,
        mask_given: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The mask of an object on a frame, with or without prompts.

        Args:
            features: `[batch, D, g, g]`: `initial` or what the attention returned.
            high0: `[1, c0, m, m]` or one for each object.
            high1: `[1, c1, m / 2, m / 2]`.
            points: `[batch, points, 2]`, x and y in pixels of the input.
            labels: `[batch, points]` int64: 1 foreground, 0 background, 2 and 3 corners of a box, below 0 nothing.
            embeddings: `[batch, embeddings, D]`, prompts from elsewhere; the shipped weights were trained without any.
            embedding_valid: `[batch, embeddings]`, 1 or 0.
            mask: `[batch, 1, S, S]`, 1 inside and 0 outside.
            mask_given: `[batch]`, 1 or 0.

        Returns:
            Logits `[batch, K, m, m]`, predicted IoU `[batch, K]` in 0..1, logit of the object being visible `[batch]`,
            and pointers `[batch, K, D]`, which sum up what is inside the masks.
        """
        maps, kinds = self._draw(points, labels, mask, mask_given)
        drawn1 = functional.relu(self.draw1(maps))
        embeddings = torch.where(embedding_valid[:, :, None] > 0.5, embeddings, torch.zeros_like(embeddings))
        told = self.kinds(kinds) + self.external(embeddings.sum(1))
        x = self.far(self.near(features + self.draw2(drawn1) + told[:, :, None, None]))
        quarter = self.refine1(double(self.down1(x)) + high1 + drawn1)
        half = functional.relu(double(self.down0(quarter)) + high0 + self.draw0(maps))
        half = half + self.refine0(half)
        logits = self.logits(functional.relu(half))

        inside = functional.avg_pool2d(logits.sigmoid(), self.config.mask_side // self.config.grid).flatten(2)
        cells = x.flatten(2)
        share = inside / (inside.sum(-1, keepdim=True) + 1e-2)
        summary = torch.einsum("bkt,bct->bkc", share, cells)
        pooled = torch.cat([cells.mean(-1), cells.amax(-1), summary.mean(1)], -1)
        verdict = self.judge(pooled)
        return logits, verdict[:, 1:].sigmoid(), verdict[:, 0], self.pointer(summary)

    def _draw(self, points: Tensor, labels: Tensor, mask: Tensor, mask_given: Tensor) -> tuple[Tensor, Tensor]:
        """The prompts as maps `[batch, 4, m, m]` (mask, box, foreground, background) and what kinds there are."""
        step = self.config.side // self.config.mask_side
        kept = torch.where(mask_given[:, None, None, None] > 0.5, mask, torch.zeros_like(mask))
        painted = functional.avg_pool2d(kept, step)

        spots = torch.exp(-(((points[..., None] - self.centres) / self.spread) ** 2) / 2)
        clicks = []
        for label in (1, 0):
            chosen = (labels == label).to(points.dtype)
            drawn = torch.einsum("bny,bnx->byx", spots[:, :, 1] * chosen[..., None], spots[:, :, 0])
            clicks.append(drawn.clamp(max=1.0)[:, None])

        low, high = ((labels == corner).to(points.dtype) for corner in (2, 3))
        start = (points * low[..., None]).sum(1)[..., None]
        end = (points * high[..., None]).sum(1)[..., None]
        has_box = low.sum(1).clamp(max=1.0)
        within = ((self.centres - start) / step + 0.5).clamp(0, 1) * ((end - self.centres) / step + 0.5).clamp(0, 1)
        box = within[:, 1, :, None] * within[:, 0, None, :] * has_box[:, None, None]

        clicked = ((labels == 1) | (labels == 0)).to(points.dtype).sum(1).clamp(max=1.0)
        given = (mask_given > 0.5).to(points.dtype)
        none = (1 - given) * (1 - has_box) * (1 - clicked)
        return torch.cat([painted, box[:, None], *clicks], 1), torch.stack([given, has_box, clicked, none], -1)


class Memory(nn.Module):
    """`tracker.memory`: what a frame looked like and where the object was, as tokens."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.mix = nn.Conv2d(config.width + config.patch + 1, config.value + 1, 1)
        self.refine = Residual(config.value + 1)
        self.out = nn.Conv2d(config.value + 1, config.value, 1)

    def forward(
        self, top: Tensor, logits: Tensor, mask: Tensor, mask_given: Tensor, binarise: Tensor, object_score: Tensor
    ) -> Tensor:
        """Tokens `[batch, T, M]` of a frame and an object.

        Args:
            top: `[1, D, g, g]` or one for each object.
            logits: `[batch, 1, m, m]` of the chosen mask.
            mask: `[batch, 1, S, S]`, 1 inside and 0 outside.
            mask_given: `[batch]`: 1 to take `mask` instead of the logits.
            binarise: `[batch]`: 1 for a hard mask.
            object_score: `[batch]`, logit of the object being visible.
        """
        config = self.config
        step = config.side // config.mask_side
        soft, hard = logits.sigmoid(), (logits > 0).to(logits.dtype)
        inside = torch.where(binarise[:, None, None, None] > 0.5, hard, soft)
        given = mask_given[:, None, None, None] > 0.5
        inside = torch.where(given, functional.avg_pool2d(mask, step), inside)
        presence = torch.maximum(object_score.sigmoid(), mask_given)[:, None, None, None]
        patch = functional.pixel_unshuffle(inside, config.mask_side // config.grid)
        top = top.expand(logits.shape[0], config.width, config.grid, config.grid)
        where = torch.cat([patch, presence.expand(-1, 1, config.grid, config.grid)], 1)
        value = self.out(functional.relu(self.refine(self.mix(torch.cat([top, where], 1)))))
        return torch.cat([top[:, : config.key], where, value], 1).flatten(2).transpose(1, 2)


class NanoTracker(nn.Module):
    """The four networks together: `encoder`, `attention`, `decoder` and `memory`, and their `config`."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.encoder = Encoder(self.config)
        self.attention = Attention(self.config)
        self.decoder = Decoder(self.config)
        self.memory = Memory(self.config)


def load_tracker(path: Path = WEIGHTS) -> NanoTracker:
    """The trained nano tracker, in evaluation mode."""
    tracker = NanoTracker()
    tracker.load_state_dict(load_file(path))
    return tracker.eval()
