"""UniFormerV2 (arXiv 2211.09552): an image ViT armed with local and global UniBlocks, in one file.

    patch embedding    3-D; with temporal downsampling 3 frames deep, every second one
    local UniBlock     temporal depth-wise mixing of the patch tokens, then the ViT's own attention
                       inside each frame
    global UniBlock    a side branch: one query gathers what all tokens of all frames hold
    fusion             how the video tokens of several global UniBlocks become one, and the
                       weighted sum with the mean class token

What is unlike other ViTs: tokens stay in one layout from the first block to the last; the global
branch never writes back to the ViT; a fresh model is exactly the image ViT, read frame by frame.

Shapes: N clips, T frames (after downsampling), H x W patches, L = 1 + H W tokens of a frame (its
class token first), C width, Q queries, K classes.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uniformerv2.config import Config
from uniformerv2.depthwise import depthwise_3x1x1, depthwise_3x3x3

__all__ = ["UniFormerV2", "resize_positions"]

# --- parts


def drop_path(x: Tensor, rate: float, mask_shape: tuple[int, ...]) -> Tensor:
    """x, or nothing with probability `rate`, scaled so that the mean stays; for each mask entry."""
    mask = x.new_empty(mask_shape).bernoulli_(1 - rate)
    return x * (mask / (1 - rate))


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI CLIP's approximation of GELU."""
    return x * torch.sigmoid(1.702 * x)


class MLP(nn.Module):
    """Two linear layers with an activation, and in a global UniBlock a dropout, between."""

    def __init__(self, width: int, hidden: int, activation: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.activation = quick_gelu if activation == "quick_gelu" else F.gelu
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.activation(self.fc1(x))))


class Attention(nn.Module):
    """Self-attention of the ViT: among the tokens of one frame."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)
        self.grid = config.size // config.patch
        self.relative: nn.Parameter | None = None
        self.offsets: Tensor
        if config.relative_positions:
            # A row per offset of two patches; then class to patch, patch to class, class to class.
            self.relative = nn.Parameter(torch.zeros((2 * self.grid - 1) ** 2 + 3, self.heads))
            self.remake_offsets()

    def remake_offsets(self) -> None:
        """Fill the buffer that no checkpoint has: after `to_empty`, which leaves it as it was."""
        if self.relative is not None:
            self.register_buffer("offsets", _offsets(self.grid), persistent=False)

    def forward(self, x_NTLC: Tensor) -> Tensor:
        N, T, L, C = x_NTLC.shape
        qkv = self.qkv(x_NTLC).view(N * T, L, 3, self.heads, C // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (N T, heads, L, C / heads)
        bias = None
        if self.relative is not None:
            bias = self.relative[self.offsets].permute(2, 0, 1).unsqueeze(0).to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(mixed.transpose(1, 2).reshape(N, T, L, C))


def _offsets(grid: int) -> Tensor:
    """(L, L): the row of BEiT's table (arXiv 2106.08254) for each pair of tokens of a frame."""
    places = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))
    apart = places[:, None] - places[None] + grid - 1
    side = 2 * grid - 1
    rows = torch.full((grid * grid + 1, grid * grid + 1), side * side + 2)  # class to class
    rows[1:, 1:] = apart[..., 0] * side + apart[..., 1]
    rows[0, 1:] = side * side
    rows[1:, 0] = side * side + 1
    return rows


class LocalMHRA(nn.Module):
    """Local temporal relation aggregator: the patch tokens of one place, mixed over 3 frames."""

    def __init__(self, width: int, reduced: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.reduce = nn.Linear(width, reduced)
        self.mix = nn.Conv1d(reduced, reduced, 3, groups=reduced)  # its parameters: see forward
        self.expand = nn.Linear(reduced, width)

    def forward(self, x_NTPC: Tensor) -> Tensor:
        C = x_NTPC.shape[-1]
        # Over clips, frames and places, as a BatchNorm3d of (N, C, T, H, W) would.
        normed = self.norm(x_NTPC.reshape(-1, C)).view_as(x_NTPC)
        bias = self.mix.bias
        assert bias is not None
        return self.expand(depthwise_3x1x1(self.reduce(normed), self.mix.weight, bias))


class Block(nn.Module):
    """A local UniBlock: local relation, attention inside each frame, (local relation,) FFN."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        kinds = {"none": 0, "single": 1, "double": 2}[config.local]
        reduced = config.local_width or int(width // 1.5)
        self.local_1 = LocalMHRA(width, reduced) if kinds > 0 else None
        self.norm_1 = nn.LayerNorm(width, eps)
        self.attention = Attention(config)
        self.local_2 = LocalMHRA(width, reduced) if kinds > 1 else None
        self.norm_2 = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, 4 * width, config.activation)
        self.scale_1 = nn.Parameter(torch.ones(width)) if config.layer_scale else None
        self.scale_2 = nn.Parameter(torch.ones(width)) if config.layer_scale else None
        self.rate = config.drop_path * index / max(config.depth - 1, 1)
        self.by_sample = config.drop_path_mode == "sample"
        self.keeps_no_activations = index < config.checkpoint_blocks

    def forward(self, x_NTLC: Tensor) -> Tensor:
        x_NTLC = self.mix_frames(x_NTLC, self.local_1)
        x_NTLC = self.add(x_NTLC, self.attention, self.norm_1, self.scale_1)
        x_NTLC = self.mix_frames(x_NTLC, self.local_2)
        return self.add(x_NTLC, self.mlp, self.norm_2, self.scale_2)

    def mix_frames(self, x_NTLC: Tensor, local: LocalMHRA | None) -> Tensor:
        """The class token is left as it is. `local` is never computed twice: it has a BatchNorm."""
        if local is None:
            return x_NTLC
        patches = x_NTLC[:, :, 1:]
        branch = local(patches)
        if self.training and self.rate:
            branch = drop_path(branch, self.rate, (branch.shape[0], 1, 1, 1))
        return torch.cat([x_NTLC[:, :, :1], patches + branch], dim=2)

    def add(
        self, x_NTLC: Tensor, branch: nn.Module, norm: nn.Module, scale: Tensor | None
    ) -> Tensor:
        normed = norm(x_NTLC)
        if self.keeps_no_activations and torch.is_grad_enabled():
            y = checkpoint(branch, normed, use_reentrant=False)
        else:
            y = branch(normed)
        if scale is not None:
            y = y * scale.to(y.dtype)
        if self.training and self.rate:
            # The reference drops along its first axis, which is that of the tokens.
            shape = (y.shape[0], 1, 1, 1) if self.by_sample else (1, 1, y.shape[2], 1)
            y = drop_path(y, self.rate, shape)
        return x_NTLC + y


class CrossAttention(nn.Module):
    """Queries against the tokens of all frames."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, query_NQC: Tensor, tokens_NMC: Tensor) -> Tensor:
        """With few queries less has to be computed if they are brought to the tokens.

        q (W_k y) = (W_k' q) y, and the sum of a (W_v y) is W_v (sum of a y): keys and values are
        the tokens themselves, two matrix products of M tokens with C x C less. The bias of the keys
        adds the same to every score of a query: softmax takes no notice, its gradient is zero.
        """
        N, Q, C = query_NQC.shape
        to_q, to_k, to_v = self.qkv.weight.chunk(3)
        q_bias, _, v_bias = self.qkv.bias.chunk(3)
        q = F.linear(query_NQC, to_q, q_bias).view(N, Q, self.heads, -1).transpose(1, 2)
        size = C // self.heads
        q = (q @ to_k.view(self.heads, size, C).to(q.dtype)).reshape(N, self.heads * Q, C)
        y = tokens_NMC.to(q.dtype)
        # Not scaled_dot_product_attention: heads as wide as C have no quick kernel, and scores of
        # so few queries take no memory.
        scores = q @ y.transpose(1, 2) / math.sqrt(size)  # (N, heads Q, M)
        found = (scores.softmax(-1).to(y.dtype) @ y).view(N, self.heads, Q, C)
        v = found @ to_v.view(self.heads, size, C).transpose(1, 2).to(q.dtype)
        return self.proj(v.transpose(1, 2).reshape(N, Q, C) + v_bias)


class GlobalBlock(nn.Module):
    """A global UniBlock: dynamic position encoding, cross-attention of the queries, FFN."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        width = config.width
        num = len(config.global_layers)
        dropout = config.global_dropout
        rate = dropout[index] if isinstance(dropout, tuple) else dropout
        self.dpe = nn.Conv3d(width, width, 3, padding=1, groups=width)
        self.norm_query = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.attention = CrossAttention(width, config.heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * config.global_mlp_ratio), "quick_gelu", rate)
        self.rate = config.global_drop_path * index / max(num - 1, 1)
        self.by_sample = config.drop_path_mode == "sample"

    def forward(
        self, query_NQC: Tensor, x_NTLC: Tensor, grid: tuple[int, int], more_NMC: Tensor | None
    ) -> Tensor:
        """(N, Q, C). `more` are tokens that are looked at beside those of the frames."""
        N, T, _, C = x_NTLC.shape
        patches = x_NTLC[:, :, 1:]
        bias = self.dpe.bias
        assert bias is not None
        here = depthwise_3x3x3(patches.view(N, T, *grid, C), self.dpe.weight, bias).flatten(2, 3)
        x_NMC = torch.cat([x_NTLC[:, :, :1], patches + here], dim=2).flatten(1, 2)
        if more_NMC is not None:
            x_NMC = torch.cat([more_NMC.to(x_NMC.dtype), x_NMC], dim=1)
        y = self.attention(self.norm_query(query_NQC), self.norm_tokens(x_NMC))
        query_NQC = query_NQC + self.dropped(y)
        return query_NQC + self.dropped(self.mlp(self.norm_mlp(query_NQC)))

    def dropped(self, y_NQC: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return y_NQC
        # The reference has the queries of all clips in one row: it drops all or none.
        return drop_path(y_NQC, self.rate, (y_NQC.shape[0] if self.by_sample else 1, 1, 1))


# --- the model


class UniFormerV2(nn.Module):
    """Logits (N, K) of clips (N, 3, frames, height, width) of floats, normalised RGB.

    Any number of frames; any height and width that the patch divides: the table of positions is
    interpolated. Raises ValueError for other input.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        C, p = config.width, config.patch
        num = len(config.global_layers)
        self.patch_embedding = nn.Conv3d(
            3, C, (3 if config.temporal_downsample else 1, p, p), bias=False
        )
        self.class_token = nn.Parameter(torch.zeros(C))
        self.positions = nn.Parameter(torch.zeros(1 + (config.size // p) ** 2, C))
        self.norm_before = nn.LayerNorm(C, config.norm_eps) if config.norm_before else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.query = nn.Parameter(torch.zeros(1 if config.fusion == "sequential" else num, C))
        self.global_blocks = nn.ModuleList(GlobalBlock(config, index) for index in range(num))
        self.join = nn.Linear(num * C, C) if config.fusion == "parallel" else None
        self.balance = None if config.frozen else nn.Parameter(torch.zeros(C))
        self.norm = nn.LayerNorm(C)
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(C, config.num_classes)
        initialise(self)

    def forward(self, clips: Tensor) -> Tensor:
        """(N, K) of (N, 3, T, height, width)."""
        x_NTLC, grid = self.embed(clips)
        found: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x_NTLC = block(x_NTLC)
            if index in self.config.global_layers:
                found.append(self.look(found, x_NTLC, grid))
        video = found[-1].mean(1)  # one token, but for hierarchical_q
        if self.join is not None:
            video = self.join(torch.cat(found, dim=2)).squeeze(1)
        if self.balance is not None:
            share = self.balance.sigmoid()
            video = (1 - share) * video + share * x_NTLC[:, :, 0].mean(1)
        return self.head(self.dropout(self.norm(video)))

    def tokens(self, clips: Tensor) -> Tensor:
        """(N, T, L, C): what the ViT makes of each frame, after its last block, not normalised."""
        x_NTLC, _ = self.embed(clips)
        for block in self.blocks:
            x_NTLC = block(x_NTLC)
        return x_NTLC

    def look(self, found: list[Tensor], x_NTLC: Tensor, grid: tuple[int, int]) -> Tensor:
        """The video tokens (N, Q, C) of the next global UniBlock, after those `found` so far."""
        fusion, index = self.config.fusion, len(found)
        own = self.query[index if len(self.query) > 1 else 0].expand(x_NTLC.shape[0], 1, -1)
        before = found[-1] if found else None
        query, more = own, None
        if before is not None and fusion == "sequential":
            query = before
        elif before is not None and fusion == "hierarchical_kv":
            more = before
        elif before is not None and fusion == "hierarchical_q":
            query = torch.cat([before, own], dim=1)
        block: nn.Module = self.global_blocks[index]
        return block(query, x_NTLC, grid, more)

    def embed(self, clips: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The tokens (N, T, L, C) that the first block gets, and the patches (H, W) of a frame."""
        if clips.ndim != 5 or clips.shape[1] != 3:
            raise ValueError(f"clips are N, 3, T, height, width: not {tuple(clips.shape)}")
        p = self.config.patch
        N, _, T, height, width = clips.shape
        if height % p or width % p:
            raise ValueError(f"{height} x {width} pixels can't be cut into patches of {p}")
        weight = self.patch_embedding.weight
        grid = (height // p, width // p)
        # (N, T, H, W, 3 p p): a patch as a row, so that the convolution is one matrix product.
        rows = clips.view(N, 3, T, grid[0], p, grid[1], p).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
        if self.config.temporal_downsample:
            taps = weight.unbind(2)
            padded = F.pad(rows, (0, 0, 0, 0, 0, 0, 1, 1))
            parts = [
                F.linear(padded[:, k : k + T : 2], tap.flatten(1)) for k, tap in enumerate(taps)
            ]
            x = parts[0] + parts[1] + parts[2]
        else:
            x = F.linear(rows, weight.flatten(1))
        x = x.flatten(2, 3)
        first = self.class_token.to(x.dtype).expand(*x.shape[:2], 1, -1)
        x = torch.cat([first, x], dim=2) + self.positions_of(grid).to(x.dtype)
        # Under autocast the norm answers in float32; the blocks' stream is as narrow as their work.
        return self.norm_before(x).to(x.dtype), grid

    def positions_of(self, grid: tuple[int, int]) -> Tensor:
        """(1 + H W, C): the table of positions for a frame of that many patches."""
        side = self.config.size // self.config.patch
        if grid == (side, side):
            return self.positions
        if self.config.relative_positions:
            raise ValueError(f"a table of relative positions for {side} x {side} patches: {grid}")
        return torch.cat([self.positions[:1], resize_positions(self.positions[1:], grid)])


def resize_positions(positions_PC: Tensor, grid: tuple[int, int]) -> Tensor:
    """(H W, C) of a square table of patches: bicubic, antialiased where it becomes smaller."""
    side = math.isqrt(len(positions_PC))
    table = positions_PC.float().view(1, side, side, -1).permute(0, 3, 1, 2)
    table = F.interpolate(table, grid, mode="bicubic", antialias=True, align_corners=False)
    return table.permute(0, 2, 3, 1).flatten(0, 2).to(positions_PC.dtype)


@torch.no_grad()
def initialise(model: UniFormerV2) -> None:
    """The initial state. What is added to an image ViT begins as nothing:

    query, balance, the last layer of each local relation, and the output layers of each global
    UniBlock (attention and FFN) are zero, with their biases; their other matrices are Xavier
    uniform, convolutions as PyTorch's. The ViT itself, if no image model is loaded: truncated
    normal 0.02, biases zero.
    """
    block: Any
    for block in model.blocks:
        for layer in (block.attention.qkv, block.attention.proj, block.mlp.fc1, block.mlp.fc2):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        for local in (block.local_1, block.local_2):
            if local is not None:
                nn.init.zeros_(local.expand.weight)
                nn.init.zeros_(local.expand.bias)
    for block in model.global_blocks:
        nn.init.zeros_(block.dpe.bias)
        for layer in (block.attention.qkv, block.mlp.fc1):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        for layer in (block.attention.proj, block.mlp.fc2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    if model.join is not None:
        nn.init.xavier_uniform_(model.join.weight)  # of zeros; if it were zero, nothing would learn
        nn.init.zeros_(model.join.bias)
    nn.init.trunc_normal_(model.class_token, std=0.02)
    nn.init.trunc_normal_(model.positions, std=0.02)
