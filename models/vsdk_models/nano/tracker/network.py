"""The four networks of the nano tracker, and the tracker that holds them.

They have the inputs and outputs that every tracker of this project has (`tracker.encoder`, `tracker.attention`,
`tracker.decoder`, `tracker.memory`), after SAM 2 (Ravi et al., 2024). Inside they follow the matching networks STM
(Oh et al., ICCV 2019) and XMem (Cheng and Schwing, ECCV 2022): what a cell of the picture looks like is its key, the
same for query and memory, and only the value that is read depends on the mask.

A memory token is `[key | mask | presence | value | fine keys]`: the mask at full resolution under the cell,
whether the object was there at all, learnt features, and what each of its mask's pixels looks like. With the last, the
mask of the frame before is carried over pixel by pixel, from where the picture moved, as in the propagation of labels
of STC (Jabri et al., NeurIPS 2020); that tells an object from others that look alike, and keeps its outline sharp.
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
        fine_side: Side f of the finest features.
        coarse: Top features of a whole cell.
        high: Channels of the feature maps at sides f and f / 2.
        key: How many of the top features, the first ones, cells are matched by.
        value: Learnt features in a memory token.
        fine: Features that each pixel of side f is matched by.
        heads: How many ways the memory is read in.
        masks: Masks K that the decoder proposes.
    """

    side: int = 128
    grid: int = 16
    mask_side: int = 128
    fine_side: int = 64
    coarse: int = 128
    high: tuple[int, int] = (32, 64)
    key: int = 64
    value: int = 63
    fine: int = 8
    heads: int = 2
    masks: int = 1

    @property
    def width(self) -> int:
        """Width D of the top features: the coarse ones, then the fine ones of every pixel of a cell."""
        return self.coarse + self.fine * self.patch

    @property
    def cell(self) -> int:
        """Side of a cell of the top feature map in fine pixels."""
        return self.fine_side // self.grid

    @property
    def patch(self) -> int:
        """Fine pixels under one cell."""
        return self.cell**2

    @property
    def parts(self) -> int:
        """Mask logits under one fine pixel."""
        return (self.mask_side // self.fine_side) ** 2

    @property
    def read(self) -> int:
        """What is read of a memory token cell by cell: the mask at side f, the presence and the value."""
        return self.patch + 1 + self.value

    @property
    def memory(self) -> int:
        """Width M of a memory token."""
        return sum(self.token)

    @property
    def token(self) -> list[int]:
        """Widths of the parts of a memory token: key, mask, presence and value, fine keys."""
        return [self.key, self.parts * self.patch, 1 + self.value, self.fine * self.patch]

    @property
    def tokens(self) -> int:
        """Memory tokens T of one frame and object."""
        return self.grid**2


class Encoder(nn.Module):
    """`tracker.encoder`: a convolutional pyramid down to a 16th of the side, read out at a half, a quarter, an 8th."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        first, second = config.high
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(first), nn.ReLU()
        )
        self.quarter = Stage(first, second)
        self.eighth = Stage(second, config.coarse)
        self.sixteenth = Stage(config.coarse, 192)
        self.context = nn.Conv2d(192, config.coarse, 1)
        self.lateral = nn.Conv2d(config.coarse, config.coarse, 1)
        self.merge = nn.Conv2d(config.coarse, config.coarse, 3, padding=1)
        self.high0 = nn.Conv2d(first, first, 1)
        self.high1 = nn.Conv2d(second, second, 1)
        self.fine = nn.ModuleList(nn.Conv2d(width, first, 1) for width in (first, second, config.coarse))
        self.fine_out = nn.Conv2d(first, config.fine, 3, padding=1)
        self.no_memory = nn.Parameter(torch.randn(1, config.coarse, 1, 1) * 0.02)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """`pixels [batch, 3, S, S]` to `high0 [batch, c0, f, f]`, `high1`, `top [batch, D, g, g]` and `initial`.

        The first channels of `top` are the keys of its cells, the last ones those of their pixels; both have a root
        mean square of 1.
        """
        half = self.stem(pixels)
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        context = double(self.context(self.sixteenth(eighth)))
        coarse = self.merge(functional.relu(self.lateral(eighth) + context))
        key = alike(coarse[:, : self.config.key])
        fine = self.fine[0](half) + double(self.fine[1](quarter) + double(self.fine[2](coarse)))
        fine = alike(self.fine_out(functional.relu(fine)))
        fine = functional.pixel_unshuffle(fine, self.config.cell)
        coarse = torch.cat([key, coarse[:, self.config.key :]], 1)
        top = torch.cat([coarse, fine], 1)
        initial = torch.cat([coarse + self.no_memory, torch.zeros_like(fine)], 1)
        return self.high0(half), self.high1(quarter), top, initial


def alike(x: Tensor) -> Tensor:
    """Channels scaled to a root mean square of 1, so that products of them are likenesses."""
    return x * torch.rsqrt((x * x).mean(1, keepdim=True) + 1e-4)


class Attention(nn.Module):
    """`tracker.attention`: reads the memory by likeness, and carries the last mask over pixel by pixel.

    Every head weighs the tokens by `temperature * cosine(keys) - locality * distance**2 + bias`, where locality and
    bias depend on the age of the slot. The square of the distance is a scalar product of positions, up to a term that
    is the same for all tokens, so this is a plain attention with a few more channels.
    """

    ages: Tensor
    cells: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        heads, width, read = config.heads, config.coarse, config.read
        self.temperature = nn.Parameter(torch.full((heads,), 5.0))
        self.locality = nn.Parameter(torch.full((heads, RECENT + 1), -4.0))
        bias = torch.zeros(heads, RECENT + 1)
        bias[0, 1:] = -4.0
        self.bias = nn.Parameter(bias)
        self.absent = nn.Parameter(torch.full((heads,), -2.0))
        position = centres(config.grid, 2.0) - 1
        y, x = torch.meshgrid(position, position, indexing="ij")
        self.register_buffer("ages", torch.arange(RECENT + 1), persistent=False)
        self.register_buffer("cells", torch.stack([x.flatten(), y.flatten()], -1), persistent=False)
        self.follow = Follow(config)
        history = read + (RECENT - 1) * (config.patch + 1)
        followed = (config.parts + 2) * config.patch
        self.merge = nn.Conv2d(width + heads * read + history + followed, width, 1)
        self.position = nn.Parameter(torch.randn(1, width, config.grid, config.grid) * 0.02)
        self.pointer_decay = nn.Parameter(torch.tensor(-2.0))
        self.pointer = nn.Linear(config.width, 2 * width)
        self.likeness = nn.Conv2d(8, width, 1)
        self.near = Residual(width)
        self.out = nn.Conv2d(width, width, 1)
        self.fine = nn.Conv2d(width, config.width - width - followed, 1)

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
            `[batch, D, g, g]`: coarse features, then fine maps, the first of which are the mask carried over.
        """
        config = self.config
        top = top.expand(memory.shape[0], config.width, config.grid, config.grid)
        coarse, fine = top[:, : config.coarse], top[:, config.coarse :]
        memory = torch.where(slot_valid[:, :, None, None] > 0.5, memory, torch.zeros_like(memory))
        slot = torch.eq(slot_age[:, :, None], self.ages).to(memory.dtype) * slot_valid[:, :, None]
        key, mask, value, before = memory.split(config.token, -1)
        followed = self.follow(fine, before, mask, slot, slot_valid)
        memory = torch.cat([key, mask.unflatten(-1, (config.parts, config.patch)).mean(-2), value], -1)
        x = [coarse, self._match(coarse, memory, slot, slot_valid), self._history(memory, slot), followed]
        merged = self.merge(torch.cat(x, 1)) + self.position
        merged = self.near(merged + self._summarise(coarse, pointers, pointer_age, pointer_valid))
        return torch.cat([coarse + self.out(merged), followed, self.fine(merged)], 1)

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
        """`[batch, C, g, g]`: the pointers' mean, the recent ones weighing more, and where the picture is like it."""
        pointers = torch.where(valid[:, :, None] > 0.5, pointers, torch.zeros_like(pointers))
        weight = torch.exp(-functional.softplus(self.pointer_decay) * age.clamp(0, 16)) * valid
        weight = weight / (weight.sum(1, keepdim=True) + 1e-4)
        pointer = self.pointer((weight[:, :, None] * pointers).sum(1))
        shift, wanted = pointer.chunk(2, -1)
        alike = (top * wanted[:, :, None, None]).unflatten(1, (8, -1)).mean(2)
        return cast(Tensor, self.likeness(alike) + shift[:, :, None, None])


class Follow(nn.Module):
    """Carries the mask of the last frame over to this one.

    Every fine pixel looks for its like among those of its own cell and the eight around it, and takes over what they
    had: an attention of `temperature * cosine - locality * distance**2`. It does so twice: most things move by less
    than a pixel from frame to frame, and patterns repeat, so one way keeps near; the other one follows what is fast. As
    above, the distance is two channels of positions and one for what depends on the key alone.
    """

    query_place: Tensor
    key_place: Tensor
    outside: Tensor
    localities = (0.3, 0.03)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.temperature = nn.Parameter(torch.log(torch.tensor([60.0, 60.0])))
        self.resemblance = nn.Parameter(torch.tensor(40.0))
        cell, grid = config.cell, config.grid
        within = centres(cell, cell) - cell / 2
        y, x = torch.meshgrid(within, within, indexing="ij")
        place = torch.stack([x.flatten(), y.flatten()], -1)
        steps = (torch.arange(3.0) - 1) * cell
        row, column = torch.meshgrid(steps, steps, indexing="ij")
        around = (torch.stack([column.flatten(), row.flatten()], -1)[:, None] + place).flatten(0, 1)
        self.register_buffer("query_place", place, persistent=False)
        self.register_buffer("key_place", around, persistent=False)
        inside = self._around(torch.ones(1, config.patch, grid, grid), 1)
        self.register_buffer("outside", (1 - inside) * INVALID, persistent=False)

    def forward(self, fine: Tensor, before: Tensor, mask: Tensor, slot: Tensor, slot_valid: Tensor) -> Tensor:
        """The mask carried over from near, in outline from further off, and how alike what was near looks.

        Args:
            fine: `[batch, fine * patch, g, g]` of this frame.
            before: `[batch, slots, T, fine * patch]` of those in memory.
            mask: `[batch, slots, T, parts * patch]`.
            slot: `[batch, slots, ages]`, 1 at the age of a valid slot.
            slot_valid: `[batch, slots]`, 1 or 0.

        Returns:
            `[batch, (parts + 2) * patch, g, g]`.
        """
        config = self.config
        batch, patch, grid = fine.shape[0], config.patch, config.grid
        last = self._last(fine, before, slot, slot_valid)
        before, mask = (torch.einsum("bs,bstc->bct", last, x).unflatten(-1, (grid, grid)) for x in (before, mask))
        pixel = fine.flatten(2).unflatten(1, (config.fine, patch)).permute(0, 3, 2, 1)
        like = self._around(before, config.fine)
        value = torch.cat([self._around(mask, config.parts), like], -1)
        near, wide = (
            self._attend(pixel, like, value, scale, locality)
            for scale, locality in zip(self.temperature.exp() / config.fine, self.localities, strict=True)
        )
        likeness = (near[..., config.parts :] * pixel).mean(-1, keepdim=True)
        found = torch.cat([near[..., : config.parts], wide[..., : config.parts].mean(-1, keepdim=True), likeness], -1)
        return found.permute(0, 3, 2, 1).reshape(batch, -1, grid, grid)

    def _attend(self, pixel: Tensor, like: Tensor, value: Tensor, scale: Tensor, locality: float) -> Tensor:
        """`[batch, T, patch, channels]` of what is in `value` `[batch, T, 9 * patch, channels]`."""
        batch, tokens, patch, _ = pixel.shape
        ones = torch.ones_like(pixel[..., :1])
        place = (2 * locality * self.query_place).expand(batch, tokens, patch, 2)
        query = torch.cat([pixel * scale, place, ones], -1)
        offset = (self.outside - locality * (self.key_place**2).sum(-1, keepdim=True)).expand(batch, -1, -1, 1)
        key = torch.cat([like, self.key_place.expand(batch, tokens, -1, 2), offset], -1)
        return torch.softmax(query @ key.transpose(2, 3), -1) @ value

    def _last(self, fine: Tensor, before: Tensor, slot: Tensor, slot_valid: Tensor) -> Tensor:
        """`[batch, slots]`: which slot is the frame before: the youngest, or else the prompted one most like this."""
        likeness = torch.einsum("bct,bstc->bs", fine.flatten(2), before) / (before.shape[2] * before.shape[3])
        score = self.resemblance * likeness + slot[:, :, 1] * 1e3 - slot[:, :, 2:].sum(-1) * 1e3
        return torch.softmax(score + (1 - slot_valid) * INVALID, -1)

    def _around(self, x: Tensor, channels: int) -> Tensor:
        """`[batch, channels * patch, g, g]` to `[batch, T, 9 * patch, channels]`: the pixels around each cell."""
        grid, patch = self.config.grid, self.config.patch
        padded = functional.pad(x, (1, 1, 1, 1))
        shifted = [padded[:, :, row : row + grid, column : column + grid] for row in range(3) for column in range(3)]
        pixels = torch.stack(shifted, 1).flatten(3).unflatten(2, (channels, patch))
        return pixels.permute(0, 4, 1, 3, 2).flatten(2, 3)


class Decoder(nn.Module):
    """`tracker.decoder`: prompts are drawn as maps beside the features, which are then decoded up to the mask."""

    centres: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, (first, second) = config.coarse, config.high
        self.register_buffer("centres", centres(config.fine_side, config.side), persistent=False)
        self.spread = config.side / 48
        self.draw0 = nn.Conv2d(4, first, 1)
        self.draw1 = nn.Conv2d(4, second, 3, stride=2, padding=1)
        self.draw2 = nn.Conv2d(second, width, 3, stride=2, padding=1)
        self.kinds = nn.Linear(4, width)
        self.external = nn.Linear(config.width, width)
        self.near = Residual(width)
        self.far = Block(width)
        self.down1 = nn.Conv2d(width, second, 1)
        self.refine1 = Residual(second)
        self.down0 = nn.Conv2d(second, first, 1)
        self.fine = nn.Conv2d((config.width - width) // config.patch, first, 1)
        self.refine0 = nn.Conv2d(first, first, 3, padding=1)
        self.sharpen = nn.Conv2d(first, first, 3, padding=1)
        self.logits = nn.Conv2d(first, config.masks * config.parts, 3, padding=1)
        self.carried = nn.Parameter(torch.tensor(6.0))
        self.judge = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 1 + config.masks))
        self.pointer = nn.Linear(width, config.width)

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
            high0: `[1, c0, f, f]` or one for each object.
            high1: `[1, c1, f / 2, f / 2]`.
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
        fine = functional.pixel_shuffle(features[:, self.config.coarse :], self.config.cell)
        features = features[:, : self.config.coarse]
        x = self.far(self.near(features + self.draw2(drawn1) + told[:, :, None, None]))
        quarter = self.refine1(double(self.down1(x)) + high1 + drawn1)
        half = functional.relu(double(self.down0(quarter)) + high0 + self.draw0(maps) + self.fine(fine))
        half = half + self.refine0(half)
        half = half + self.sharpen(functional.relu(half))
        logits = self.logits(functional.relu(half)) + self.carried * (fine[:, : self.config.parts] - 0.5)
        logits = functional.pixel_shuffle(logits, self.config.mask_side // self.config.fine_side)

        inside = functional.avg_pool2d(logits.sigmoid(), self.config.mask_side // self.config.grid).flatten(2)
        cells = x.flatten(2)
        share = inside / (inside.sum(-1, keepdim=True) + 1e-2)
        summary = torch.einsum("bkt,bct->bkc", share, cells)
        pooled = torch.cat([cells.mean(-1), cells.amax(-1), summary.mean(1)], -1)
        verdict = self.judge(pooled)
        return logits, verdict[:, 1:].sigmoid(), verdict[:, 0], self.pointer(summary)

    def _draw(self, points: Tensor, labels: Tensor, mask: Tensor, mask_given: Tensor) -> tuple[Tensor, Tensor]:
        """The prompts as maps `[batch, 4, f, f]` (mask, box, foreground, background) and what kinds there are."""
        step = self.config.side // self.config.fine_side
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
        self.mix = nn.Conv2d(config.coarse + config.patch + 1, config.value + 1, 1)
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
        parts = functional.pixel_unshuffle(inside, config.mask_side // config.fine_side)
        mask = functional.pixel_unshuffle(parts, config.cell)
        patch = functional.pixel_unshuffle(parts.mean(1, keepdim=True), config.cell)
        top = top.expand(logits.shape[0], config.width, config.grid, config.grid)
        presence = presence.expand(-1, 1, config.grid, config.grid)
        coarse, fine = top[:, : config.coarse], top[:, config.coarse :]
        value = self.out(functional.relu(self.refine(self.mix(torch.cat([coarse, patch, presence], 1)))))
        return torch.cat([coarse[:, : config.key], mask, presence, value, fine], 1).flatten(2).transpose(1, 2)


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
