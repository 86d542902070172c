"""Every token of every frame is the image model's own, whatever ViT a model starts from."""

import contextlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from k710.errors import WeightsError
from support.hostile_archives import Evil, write_two_directories
from support.tiny_models import TINY, clips, drawn
from uniformerv2.config import SIZES, Config
from uniformerv2.model import UniFormerV2, resize_positions
from uniformerv2.weights.image_vits import arm, from_timm, image_vit
from uniformerv2.weights.names import names_in

NAMES = (
    "vit_base_patch16_224.dino",
    "vit_base_patch16_224.mae",
    "vit_base_patch16_224.augreg_in1k",
    "vit_base_patch16_224.augreg_in21k",
    "beit_base_patch16_224",
    "deit3_base_patch16_224",
    "vit_base_patch16_clip_quickgelu_224.openai",
    "vit_base_patch14_dinov2.lvd142m",
)
# As wide and deep as the test needs: the parts are those of the whole.
SMALL = {"embed_dim": 64, "depth": 3, "num_heads": 4}
CONFIG = replace(SIZES["b16"], width=64, depth=3, heads=4, global_layers=(1, 2), num_classes=5)


def made(name: str, **options: Any) -> Any:
    """timm's model without its weights, every parameter drawn."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0, **options).eval()
    for key, parameter in model.named_parameters():
        # Matrices that keep the scale: a wide chaotic model would show rounding, and no fault.
        is_matrix = parameter.ndim in (2, 4)
        torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if is_matrix else 0.3)
        if "norm" in key and key.endswith("weight"):
            parameter.data.add_(1)
    return model


def tokens_of(model: Any, frames: torch.Tensor) -> torch.Tensor:
    """All tokens after timm's last block, before its final norm."""
    found: list[torch.Tensor] = []
    handle = model.blocks[-1].register_forward_hook(lambda *a: found.append(a[2]))
    model.forward_features(frames)
    handle.remove()
    return found[0]


def check(name: str, config: Config, **options: Any) -> None:
    theirs = made(name, **options)
    model = arm(from_timm(theirs, name), config).eval()
    x = clips(2, config.size, num=1)
    with torch.no_grad():
        expected = tokens_of(theirs, x[0].transpose(0, 1))
        got = model.tokens(x)[0]
    assert got.shape == expected.shape
    assert (got - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_timm(name: str) -> None:
    size = {"img_size": 224} if "dinov2" in name else {}
    check(name, CONFIG, **SMALL, **size)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tokens_of_the_whole_model_are_those_of_timm(name: str) -> None:
    size = {"img_size": 224} if "dinov2" in name else {}
    check(name, replace(SIZES["b16"], num_classes=5), **size)


def test_a_table_of_positions_is_resized_as_by_timm() -> None:
    table = torch.randn(1, 1 + 37 * 37, 8)
    expected = resample_abs_pos_embed(table, [16, 16], num_prefix_tokens=1)[0]
    assert torch.allclose(resize_positions(table[0, 1:], (16, 16)), expected[1:], atol=1e-6)
    vit = from_timm(made("vit_base_patch14_dinov2.lvd142m", **SMALL), "vit")
    assert len(arm(vit, CONFIG).positions) == 1 + 16 * 16


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "vit_base_patch14_reg4_dinov2.lvd142m",
            SMALL,
            "reg4_dinov2.lvd142m'? has register tokens",
        ),
        (
            "vit_base_patch16_clip_224.openai",
            SMALL,
            "take timm:vit_base_patch16_clip_quickgelu_224",
        ),
        ("vit_base_patch16_siglip_224", SMALL, "has no class token"),
        ("vit_giant_patch14_dinov2", {"depth": 1}, "has a gated FFN"),
        ("resnet18", {}, "is a ResNet of timm"),
    ],
)
def test_what_can_not_be_taken_over_is_refused_by_name(
    name: str, options: dict[str, Any], words: str
) -> None:
    model = timm.create_model(name, pretrained=False, **options)
    with pytest.raises(WeightsError, match=words):
        from_timm(model, name)


def test_a_vit_of_another_size_is_refused() -> None:
    vit = from_timm(made(NAMES[0], **SMALL), NAMES[0])
    with pytest.raises(WeightsError, match="is 64 wide, 3 blocks deep, with 4 heads: the model is"):
        arm(vit, SIZES["b16"])


# --- CLIP's packagings


def clip_tensors(model: Any) -> dict[str, torch.Tensor]:
    """The tensors of our ViT as OpenAI's image encoder names them."""
    names = names_in(model.config, "opengvlab")
    start = ("class_token", "positions", "norm_before", "blocks.")
    found = {
        names[k].removeprefix("backbone."): t
        for k, t in model.state_dict().items()
        if k.startswith(start)
    }
    return found | {"conv1.weight": model.patch_embedding.weight.detach()[:, :, 0]}


def hf_tensors(clip: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenAI's tensors as Hugging Face names them."""
    table = {
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "ln_pre.weight": "pre_layrnorm.weight",
        "ln_pre.bias": "pre_layrnorm.bias",
    }
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1"}
    parts |= {"mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
    found = {}
    for key, tensor in clip.items():
        if key in table:
            found[table[key]] = tensor
            continue
        _, _, index, rest = key.split(".", 3)
        start = f"encoder.layers.{index}."
        if "in_proj" in rest:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                kind = rest.rpartition("_")[2]
                found[f"{start}self_attn.{letter}_proj.{kind}"] = part.clone()
            continue
        layer, _, last = rest.rpartition(".")
        found[f"{start}{parts[layer]}.{last}"] = tensor
    return {f"vision_model.{k}": t.clone().contiguous() for k, t in found.items()}


@pytest.fixture
def vit() -> Any:
    return drawn(replace(TINY, heads=1)).eval()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", ["openai", "bare", "script", "hf", "hf_alone"])
def test_clip_is_read_in_each_packaging(tmp_path: Path, vit: Any, kind: str) -> None:
    clip = clip_tensors(vit)
    extra = {"ln_post.weight": torch.ones(64), "proj": torch.ones(64, 32)}
    path = tmp_path / "clip.pt"
    if kind.startswith("hf"):
        path = tmp_path / "hf"
        path.mkdir()
        tensors = hf_tensors(clip)
        said: Any = {"hidden_act": "gelu", "num_attention_heads": 1}
        if kind == "hf_alone":
            tensors = {k.removeprefix("vision_model."): t for k, t in tensors.items()}
        else:
            said = {"vision_config": said}
        save_file(tensors, path / "model.safetensors")
        (path / "config.json").write_text(json.dumps(said))
    elif kind == "script":
        holder = torch.nn.Module()
        holder.visual = tree_of(clip | extra)
        holder.register_buffer("input_resolution", torch.tensor(64))  # as OpenAI's has
        torch.jit.save(torch.jit.script(holder), path)
    else:
        start = "visual." if kind == "openai" else ""
        text = {"logit_scale": torch.ones(1), "input_resolution": torch.tensor(64)} if start else {}
        torch.save({f"{start}{k}": t for k, t in (clip | extra).items()} | text, path)
    found = image_vit(str(path))
    assert found.activation == ("gelu" if kind.startswith("hf") else "quick_gelu")
    model = arm(replace(found, activation="quick_gelu"), vit.config).eval()
    assert torch.equal(model.tokens(clips()), vit.tokens(clips()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "ViT-B-16"])
def test_tokens_are_those_of_open_clip(tmp_path: Path, name: str) -> None:
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    theirs = open_clip.create_model(name, pretrained=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "clip.pt")
    found = image_vit(
        str(tmp_path / "clip.pt"), activation="quick_gelu" if "quick" in name else "gelu"
    )
    model = arm(found, replace(SIZES["b16"], num_classes=5)).eval()
    last: list[torch.Tensor] = []
    theirs.visual.transformer.resblocks[-1].register_forward_hook(lambda *a: last.append(a[2]))
    x = clips(2, 224, num=1)
    with torch.no_grad():
        theirs.encode_image(x[0].transpose(0, 1))
        got = model.tokens(x)[0]
    assert (got - last[0]).norm() <= 1e-5 * got.norm()


def tree_of(tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A module whose state dict these are."""
    root = torch.nn.Module()
    for key, tensor in tensors.items():
        *path, last = key.split(".")
        at = root
        for name in path:
            if not hasattr(at, name):
                at.add_module(name, torch.nn.Module())
            at = getattr(at, name)
        at.register_parameter(last, torch.nn.Parameter(tensor.detach().clone()))
    return root


def test_half_precision_and_a_patch_deep_in_time(tmp_path: Path, vit: Any) -> None:
    torch.save({f"visual.{k}": t.half() for k, t in clip_tensors(vit).items()}, tmp_path / "c.pt")
    found = image_vit(str(tmp_path / "c.pt"), activation="quick_gelu")
    deep = arm(found, replace(vit.config, temporal_downsample=True))
    weight = deep.patch_embedding.weight
    assert weight.dtype == torch.float32 and not weight[:, :, [0, 2]].any()
    assert torch.equal(weight[:, :, 1], vit.patch_embedding.weight[:, :, 0].half().float())


def test_what_is_no_clip_is_said(tmp_path: Path, vit: Any) -> None:
    clip = clip_tensors(vit)
    clip.pop("transformer.resblocks.1.ln_1.bias")
    torch.save(clip, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"missing: 1 of \d\d\n +'.*blocks.1.ln_1.bias' .64,."):
        image_vit(str(tmp_path / "a.pt"))
    torch.save({"a": torch.ones(1)}, tmp_path / "b.pt")
    with pytest.raises(WeightsError, match="is no image encoder of CLIP"):
        image_vit(str(tmp_path / "b.pt"))
    with pytest.raises(WeightsError, match="can't be read: No such file"):
        image_vit(str(tmp_path / "c.pt"))
    clip = clip_tensors(vit)
    torch.save(clip | {"positional_embedding": torch.ones(18, 64)}, tmp_path / "d.pt")
    with pytest.raises(WeightsError, match="positions of no square"):
        image_vit(str(tmp_path / "d.pt"))
    torch.save({f"visual.{k}": t for k, t in clip.items()}, tmp_path / "e.pt")
    with pytest.raises(WeightsError, match="does not tell its activation: give activation="):
        image_vit(str(tmp_path / "e.pt"))
    assert image_vit(str(tmp_path / "e.pt"), activation="gelu").activation == "gelu"


def test_the_widest_of_open_clip_have_wider_heads(tmp_path: Path) -> None:
    config = replace(TINY, size=28, patch=14, width=1280, heads=16, depth=1, global_layers=(0,))
    with torch.device("meta"):
        huge = UniFormerV2(config)
    huge.to_empty(device="cpu")
    torch.save(clip_tensors(huge), tmp_path / "h.pt")
    assert image_vit(str(tmp_path / "h.pt")).heads == 16


class Talks(torch.nn.Module):
    """A module whose archive runs code as soon as PyTorch opens it."""

    @torch.jit.export
    def __getstate__(self) -> int:
        return 3

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        print("it ran", state)
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def members_of(module: torch.nn.Module, path: Path) -> list[tuple[str, bytes]]:
    """What torch.jit.save puts into an archive."""
    torch.jit.save(torch.jit.script(module), path)
    with zipfile.ZipFile(path) as archive:
        return [(member.filename, archive.read(member)) for member in archive.infolist()]


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_an_archive_that_runs_when_it_is_opened_is_not(
    tmp_path: Path, vit: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its program lies there plainly, or behind the directory of another archive."""
    holder = torch.nn.Module()
    holder.visual = tree_of(clip_tensors(vit))
    sound = members_of(holder, tmp_path / "sound.pt")
    hostile = members_of(Talks(), tmp_path / "plain.pt")
    hostile += [(f"plain/pad{number}", b"") for number in range(len(sound) - len(hostile))]
    write_two_directories(tmp_path / "two.pt", last=sound, named=hostile)
    with zipfile.ZipFile(tmp_path / "two.pt") as archive:
        assert not any(b"__setstate__" in archive.read(member) for member in archive.namelist())
    for name in ("plain.pt", "two.pt"):
        torch.jit.load(tmp_path / name)
        assert "it ran 3" in capfd.readouterr().out, "or else this would prove nothing"
        with pytest.raises(WeightsError, match=r"__getstate__|is not where its end record says"):
            image_vit(str(tmp_path / name))
        assert capfd.readouterr().out == ""


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_damaged_archive_is_said(tmp_path: Path, vit: Any) -> None:
    holder = torch.nn.Module()
    holder.visual = tree_of(clip_tensors(vit))
    torch.jit.save(torch.jit.script(holder), tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    places = [*range(0, len(data), len(data) // 40), *range(len(data) - 400, len(data), 10)]
    for place in places:
        for damaged in (data[:place], data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]):
            (tmp_path / "b.pt").write_bytes(damaged)
            with contextlib.suppress(WeightsError):  # what lies in a tensor is read as it is
                image_vit(str(tmp_path / "b.pt"))


@pytest.mark.filterwarnings("ignore")
def test_without_network_and_weights_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"timm can't give '?vit_tiny_patch16_224"):
        image_vit("timm:vit_tiny_patch16_224")
    for name in ("hf-hub:a b c", "../x", "hf-hub:x/y@z@w", "local-dir:/none", ""):
        with pytest.raises(WeightsError, match="timm can't give "):
            image_vit(f"timm:{name}")


@pytest.mark.filterwarnings("ignore")
def test_timm_lets_no_pickle_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one of the versions that ask torch.load to."""
    config = {"architecture": "vit_tiny_patch16_224", "num_classes": 0, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save({"a": Evil(tmp_path / "was here")}, tmp_path / "pytorch_model.bin")
    load = torch.load
    monkeypatch.setattr("torch.load", lambda *a, **k: load(*a, **{**k, "weights_only": False}))
    with pytest.raises(WeightsError, match="timm can't give "):
        image_vit(f"timm:local-dir:{tmp_path}")
    assert not (tmp_path / "was here").exists()
    torch.load(tmp_path / "pytorch_model.bin")
    assert (tmp_path / "was here").exists(), "or else this would prove nothing"


def test_a_folder_whose_config_is_none_is_said(tmp_path: Path) -> None:
    for text in ("[" * 100_000, "[]", "{", '{"vision_config": 7}', '{"layer_norm_eps": 1e999}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=r"config\.json can't be read"):
            image_vit(str(tmp_path))
