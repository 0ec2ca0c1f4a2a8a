"""Where published networks keep the weights of layers: names for `load_pretrained`.

Each function says for networks declared with the blocks of `search_spaces.blocks` how another
library names the same layers in its state dicts. The libraries need not be installed.

Batch norms of torchvision's MobileNetV3 add 1e-3 to the variance where networks here add 1e-5,
layer norms of both libraries' vision transformers 1e-6: outputs differ slightly for that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from records import BadInputError

ROLES = ("expand", "depthwise", "project")

TIMM_VIT = (
    (r"patches\.conv", "patch_embed.proj"),
    (r"patches\.position", "pos_embed"),
    (r"layer(\d+)\.attention\.norm", r"blocks.\1.norm1"),
    (r"layer(\d+)\.attention\.attention", r"blocks.\1.attn.qkv"),
    (r"layer(\d+)\.attention\.project", r"blocks.\1.attn.proj"),
    (r"layer(\d+)\.mlp\.norm", r"blocks.\1.norm2"),
    (r"layer(\d+)\.mlp\.expand", r"blocks.\1.mlp.fc1"),
    (r"layer(\d+)\.mlp\.project", r"blocks.\1.mlp.fc2"),
    (r"norm", "norm"),
    (r"classifier", "head"),
)

TORCHVISION_VIT = (
    (r"patches\.conv", "conv_proj"),
    (r"patches\.position", "encoder.pos_embedding"),
    (r"layer(\d+)\.attention\.norm", r"encoder.layers.encoder_layer_\1.ln_1"),
    (
        r"layer(\d+)\.attention\.attention",
        r"encoder.layers.encoder_layer_\1.self_attention.in_proj",
    ),
    (
        r"layer(\d+)\.attention\.project",
        r"encoder.layers.encoder_layer_\1.self_attention.out_proj",
    ),
    (r"layer(\d+)\.mlp\.norm", r"encoder.layers.encoder_layer_\1.ln_2"),
    (r"layer(\d+)\.mlp\.expand", r"encoder.layers.encoder_layer_\1.mlp.0"),
    (r"layer(\d+)\.mlp\.project", r"encoder.layers.encoder_layer_\1.mlp.3"),
    (r"norm", "encoder.ln"),
    (r"classifier", "heads.head"),
)


def timm_vit_names(layer: str) -> str | None:
    """The vision transformers of timm (and DeiT) for a layer of `ViTSpace`.

    Their heads must be as wide as the space's (64 in the published ones), and `norm` stand in
    front of the pooling. The class token and its position are left out, so the network must be
    trained further, except where it was trained with `global_pool="avg", class_token=False`.
    """
    return _translated(layer, TIMM_VIT)


def torchvision_vit_names(layer: str) -> str | None:
    """The vision transformers of torchvision for a layer of `ViTSpace`; see `timm_vit_names`."""
    return _translated(layer, TORCHVISION_VIT)


def torchvision_mobilenet_v2_names(
    state_dict: Collection[str], blocks: Sequence[str]
) -> dict[str, str]:
    """MobileNetV2 of torchvision for a network of `mbconv` blocks.

    The network has `conv_norm_act` in the scopes `stem` and `head` and ends with `classifier`. In
    the published one all activations are ReLU6 and the first block is without expansion
    (`mbconv(..., expansion=1, expand_by_one=False)`).

    Args:
        state_dict: The checkpoint, or the names of its tensors.
        blocks: The scopes of the blocks in order, e.g. `stage0.layer0`.

    Raises:
        BadInputError: Not as many blocks as the checkpoint has.
    """
    names = _around(state_dict, blocks)
    for place, scope in enumerate(blocks, start=1):
        inner = f"features.{place}.conv"
        count = sum(f"{inner}.{part}.0.weight" in state_dict for part in range(2))
        for part, role in enumerate(ROLES[-1 - count : -1]):
            names |= _conv_norm(f"{scope}.{role}", f"{inner}.{part}")
        names[f"{scope}.project.conv"] = f"{inner}.{count}"
        names[f"{scope}.project.norm"] = f"{inner}.{count + 1}"
    names["classifier"] = "classifier.1"
    return names


def torchvision_mobilenet_v3_names(
    state_dict: Collection[str], blocks: Sequence[str]
) -> dict[str, str]:
    """MobileNetV3 of torchvision for a network of `mbconv` blocks.

    The network has `conv_norm_act` in the scopes `stem` and `head`, and behind the pooling a
    linear layer `head.mix` with a bias in front of `classifier`. In the published ones the gate is
    `hardsigmoid` and the first block is without expansion.

    Args:
        state_dict: The checkpoint, or the names of its tensors.
        blocks: The scopes of the blocks in order, e.g. `stage0.layer0`.

    Raises:
        BadInputError: Not as many blocks as the checkpoint has.
    """
    names = _around(state_dict, blocks)
    for place, scope in enumerate(blocks, start=1):
        inner = f"features.{place}.block"
        convolutions = [n for n in range(4) if f"{inner}.{n}.0.weight" in state_dict]
        for part, role in zip(convolutions, ROLES[-len(convolutions) :], strict=True):
            names |= _conv_norm(f"{scope}.{role}", f"{inner}.{part}")
        for part in range(4):
            if f"{inner}.{part}.fc1.weight" in state_dict:
                names[f"{scope}.se.reduce"] = f"{inner}.{part}.fc1"
                names[f"{scope}.se.expand"] = f"{inner}.{part}.fc2"
    return names | {"head.mix": "classifier.0", "classifier": "classifier.3"}


def _translated(layer: str, table: Iterable[tuple[str, str]]) -> str | None:
    for pattern, name in table:
        match = re.fullmatch(pattern, layer)
        if match:
            return match.expand(name)
    return None


def _conv_norm(scope: str, prefix: str) -> dict[str, str]:
    return {f"{scope}.conv": f"{prefix}.0", f"{scope}.norm": f"{prefix}.1"}


def _around(state_dict: Collection[str], blocks: Sequence[str]) -> dict[str, str]:
    """The first and the last convolution of a MobileNet."""
    last = len({key.split(".")[1] for key in state_dict if key.startswith("features.")}) - 1
    if len(blocks) != last - 1:
        raise BadInputError(f"the checkpoint has {last - 1} blocks, got {len(blocks)} scopes")
    return _conv_norm("stem", "features.0") | _conv_norm("head", f"features.{last}")
