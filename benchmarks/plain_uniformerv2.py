"""A plain UniFormerV2, as it would be written in 2022: what benchmarks/train_step.py compares with.

It computes the same function as uniformerv2.model, for the Kinetics models: sequential fusion, no
local relation, layer scale, relative positions or drop path. It differs in how: tokens come first,
(L, N T, C), as in CLIP; attention is nn.MultiheadAttention, the global one with keys and values of
all tokens; patches and position encoding are nn.Conv3d.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uniformerv2.config import Config

__all__ = ["PlainUniFormerV2", "from_ours", "plain_name"]


class LayerNorm(nn.LayerNorm):
    """In float32, then back: the ViT's stream stays as narrow as it came."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.activation = QuickGELU()
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.activation(self.fc1(x))))


class Block(nn.Module):
    """Attention inside each frame, FFN."""

    def __init__(self, config: Config, index: int) -> None:
        super().__init__()
        self.norm_1 = LayerNorm(config.width, config.norm_eps)
        self.attention = nn.MultiheadAttention(config.width, config.heads)
        self.norm_2 = LayerNorm(config.width, config.norm_eps)
        self.mlp = MLP(config.width, 4 * config.width)
        self.keeps_no_activations = index < config.checkpoint_blocks

    def forward(self, x_LBC: Tensor) -> Tensor:
        if self.keeps_no_activations and torch.is_grad_enabled():
            x_LBC = x_LBC + checkpoint(self.attend, self.norm_1(x_LBC), use_reentrant=False)
            return x_LBC + checkpoint(self.mlp, self.norm_2(x_LBC), use_reentrant=False)
        x_LBC = x_LBC + self.attend(self.norm_1(x_LBC))
        return x_LBC + self.mlp(self.norm_2(x_LBC))

    def attend(self, y_LBC: Tensor) -> Tensor:
        found: Tensor = self.attention(y_LBC, y_LBC, y_LBC, need_weights=False)[0]
        return found


class GlobalBlock(nn.Module):
    """Dynamic position encoding, attention of one query to the tokens of all frames, FFN."""

    def __init__(self, config: Config, dropout: float) -> None:
        super().__init__()
        width = config.width
        self.dpe = nn.Conv3d(width, width, 3, padding=1, groups=width)
        self.norm_query = nn.LayerNorm(width)
        self.norm_tokens = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, config.heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width, int(width * config.global_mlp_ratio), dropout)

    def forward(self, query_1NC: Tensor, x_LNTC: Tensor, grid: tuple[int, int]) -> Tensor:
        _, N, T, C = x_LNTC.shape
        patches = x_LNTC[1:]
        volume = patches.permute(1, 3, 2, 0).reshape(N, C, T, *grid)
        patches = patches + self.dpe(volume).flatten(3).permute(3, 0, 2, 1)
        x_LNTC = torch.cat([x_LNTC[:1], patches])
        y_MNC = self.norm_tokens(x_LNTC.permute(0, 2, 1, 3).flatten(0, 1))
        found = self.attention(self.norm_query(query_1NC), y_MNC, y_MNC, need_weights=False)[0]
        query_1NC = query_1NC + found
        return query_1NC + self.mlp(self.norm_mlp(query_1NC))


class PlainUniFormerV2(nn.Module):
    """Logits (N, K) of clips (N, 3, T, height, width). NotImplementedError for other configs."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        # What the Kinetics models don't have.
        for name in ("temporal_downsample", "layer_scale", "relative_positions", "frozen"):
            _refuse(config, name, False)
        for name in ("drop_path", "global_drop_path"):
            _refuse(config, name, 0.0)
        _refuse(config, "local", "none")
        _refuse(config, "fusion", "sequential")
        _refuse(config, "activation", "quick_gelu")
        _refuse(config, "norm_before", True)
        self.config = config
        C, p = config.width, config.patch
        rates = config.global_dropout
        if not isinstance(rates, tuple):
            rates = (rates,) * len(config.global_layers)
        self.patch_embedding = nn.Conv3d(3, C, (1, p, p), stride=(1, p, p), bias=False)
        self.class_token = nn.Parameter(torch.zeros(C))
        self.positions = nn.Parameter(torch.zeros(1 + (config.size // p) ** 2, C))
        self.norm_before = LayerNorm(C, config.norm_eps)
        self.blocks = nn.ModuleList(Block(config, index) for index in range(config.depth))
        self.query = nn.Parameter(torch.zeros(1, C))
        self.global_blocks = nn.ModuleList(GlobalBlock(config, rate) for rate in rates)
        self.balance = nn.Parameter(torch.zeros(C))
        self.norm = nn.LayerNorm(C)
        self.dropout = nn.Dropout(config.head_dropout)
        self.head = nn.Linear(C, config.num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        volume = self.patch_embedding(clips)
        N, C, T, H, W = volume.shape
        x = volume.permute(0, 2, 3, 4, 1).reshape(N * T, H * W, C)
        x = torch.cat([self.class_token.to(x.dtype).expand(N * T, 1, C), x], dim=1)
        x = self.norm_before(x + self.positions.to(x.dtype))
        x = x.permute(1, 0, 2)  # (L, N T, C)
        query = self.query[None].repeat(1, N, 1)
        looks = iter(self.global_blocks)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.config.global_layers:
                query = next(looks)(query, x.view(-1, N, T, C), (H, W))
        share = self.balance.sigmoid()
        video = (1 - share) * query[0] + share * x[0].view(N, T, C).mean(1)
        return self.head(self.dropout(self.norm(video)))


def _refuse(config: Config, name: str, known: object) -> None:
    if getattr(config, name) != known:
        raise NotImplementedError(f"{name} is {getattr(config, name)!r}, not {known!r}")


def plain_name(name: str) -> str:
    """What a parameter of uniformerv2.model is called here."""
    return name.replace("attention.qkv.", "attention.in_proj_").replace(
        "attention.proj.", "attention.out_proj."
    )


def from_ours(ours: nn.Module) -> PlainUniFormerV2:
    """The same function with the same weights, copied, on the same device."""
    config = ours.config
    assert isinstance(config, Config)
    with next(ours.parameters()).device:
        plain = PlainUniFormerV2(config)
    plain.load_state_dict({plain_name(name): t for name, t in ours.state_dict().items()})
    return plain
