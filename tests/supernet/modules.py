"""Networks as users write them, laid out and named as in torchvision and timm, in small."""

import torch
import torch.nn.functional as F
from torch import nn


class BasicBlock(nn.Module):
    """The block of ResNet-18 with torchvision's names."""

    def __init__(self, channels_in, channels, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride != 1 or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(channels),
            )

    def forward(self, x):
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self, num_classes=4, channels=3, widths=(8, 16), blocks=2):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = self._layer(widths[0], widths[0], blocks, 1)
        self.layer2 = self._layer(widths[0], widths[1], blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(widths[1], num_classes)

    def _layer(self, channels_in, channels, blocks, stride):
        first = BasicBlock(channels_in, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels) for _ in range(blocks - 1)))

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


def conv_norm(channels_in, channels, kernel, stride=1, groups=1, act=None):
    conv = nn.Conv2d(
        channels_in, channels, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(channels), *([] if act is None else [act()]))


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 with torchvision's names."""

    def __init__(self, channels_in, channels, stride, expansion):
        super().__init__()
        hidden = channels_in * expansion
        layers = [] if expansion == 1 else [conv_norm(channels_in, hidden, 1, act=nn.ReLU6)]
        layers += [
            conv_norm(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and channels_in == channels

    def forward(self, x):
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(3, 8, 3, 2, act=nn.ReLU6),
            InvertedResidual(8, 8, 1, 1),
            InvertedResidual(8, 16, 2, 3),
            InvertedResidual(16, 16, 1, 3),
            conv_norm(16, 32, 1, act=nn.ReLU6),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, num_classes))

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


class SqueezeExcitation(nn.Module):
    def __init__(self, channels, hidden):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        self.activation = nn.ReLU()
        self.scale_activation = nn.Hardsigmoid()

    def forward(self, x):
        gate = self.fc2(self.activation(self.fc1(self.avgpool(x))))
        return self.scale_activation(gate) * x


class InvertedResidualV3(nn.Module):
    """The block of MobileNetV3 with torchvision's names."""

    def __init__(self, channels_in, hidden, channels, kernel, stride, act, se):
        super().__init__()
        layers = [] if hidden == channels_in else [conv_norm(channels_in, hidden, 1, act=act)]
        layers += [conv_norm(hidden, hidden, kernel, stride, groups=hidden, act=act)]
        layers += [SqueezeExcitation(hidden, 8)] if se else []
        self.block = nn.Sequential(*layers, conv_norm(hidden, channels, 1))
        self.use_res_connect = stride == 1 and channels_in == channels

    def forward(self, x):
        result = self.block(x)
        if self.use_res_connect:
            result += x
        return result


class MobileNetV3(nn.Module):
    def __init__(self, num_classes=4):
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(3, 8, 3, 2, act=nn.Hardswish),
            InvertedResidualV3(8, 8, 8, 3, 1, nn.ReLU, se=False),
            InvertedResidualV3(8, 24, 16, 3, 2, nn.ReLU, se=True),
            InvertedResidualV3(16, 48, 16, 5, 1, nn.Hardswish, se=True),
            conv_norm(16, 48, 1, act=nn.Hardswish),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(48, 32), nn.Hardswish(inplace=True), nn.Dropout(0.2, inplace=True),
            nn.Linear(32, num_classes),
        )  # fmt: skip

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class SmallCNN(nn.Module):
    """Functions and methods instead of modules, and a flattened map."""

    def __init__(self, num_classes=4, channels=3, image_size=16):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 5, padding=2)
        self.conv = nn.Conv2d(8, 12, 3, padding="same")
        self.norm = nn.BatchNorm2d(12, eps=1e-3, affine=False)
        self.fc1 = nn.Linear(12 * (image_size // 4) ** 2, 24)
        self.fc2 = nn.Linear(24, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.avg_pool2d(F.silu(self.norm(self.conv(x))), 2)
        x = F.dropout(x.view(x.size(0), -1), training=self.training)
        return self.fc2(F.gelu(self.fc1(x)))


def mlp(num_classes=4, channels=3, image_size=16):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(channels * image_size**2, 32), nn.GELU(),
        nn.Sequential(nn.Linear(32, 32), nn.ReLU()), nn.Linear(32, num_classes),
    )  # fmt: skip


def shaken(module, seed=0):
    """The module with random norms and statistics, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=generator) * (2 / p[0].numel()) ** 0.5)
            else:
                p.add_(0.2 * torch.randn(p.shape, generator=generator))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.copy_(0.2 * torch.randn(b.shape, generator=generator))
            elif name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=generator))
    return module.eval()


class TimmBlock(nn.Module):
    def __init__(self, dim, heads, ratio):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = nn.Module()
        self.attn.qkv, self.attn.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(dim, dim * ratio), nn.Linear(dim * ratio, dim)
        self.heads = heads

    def forward(self, x):
        n, tokens, dim = x.shape
        qkv = self.attn.qkv(self.norm1(x)).reshape(n, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.mT * (dim // self.heads) ** -0.5).softmax(-1)
        x = x + self.attn.proj((weights @ v).transpose(1, 2).reshape(n, tokens, dim))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.norm2(x))))


class TimmViT(nn.Module):
    """With timm's names; `global_pool="avg"`, the norm in front of it, no class token."""

    def __init__(self, dim=32, heads=4, ratio=2, depth=2, num_classes=4, tokens=16):
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, dim, 4, stride=4)
        self.pos_embed = nn.Parameter(torch.randn(1, tokens, dim))
        self.blocks = nn.Sequential(*(TimmBlock(dim, heads, ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x):
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2) + self.pos_embed
        return self.head(self.norm(self.blocks(x)).mean(1))


class TorchvisionEncoderBlock(nn.Module):
    def __init__(self, dim, heads, ratio):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.self_attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim * ratio), nn.GELU(), nn.Dropout(0.0), nn.Linear(dim * ratio, dim)
        )

    def forward(self, x):
        h = self.ln_1(x)
        x = x + self.self_attention(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionViT(nn.Module):
    """With torchvision's names, but averaging the tokens instead of reading a class token's."""

    def __init__(self, dim=32, heads=4, ratio=2, depth=2, num_classes=4, tokens=16):
        super().__init__()
        self.conv_proj = nn.Conv2d(3, dim, 4, stride=4)
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.encoder = nn.Module()
        self.encoder.pos_embedding = nn.Parameter(torch.randn(1, tokens + 1, dim))
        self.encoder.layers = nn.Sequential()
        for i in range(depth):
            block = TorchvisionEncoderBlock(dim, heads, ratio)
            self.encoder.layers.add_module(f"encoder_layer_{i}", block)
        self.encoder.ln = nn.LayerNorm(dim)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(dim, num_classes))

    def forward(self, x):
        x = self.conv_proj(x).flatten(2).transpose(1, 2) + self.encoder.pos_embedding[:, 1:]
        return self.heads(self.encoder.ln(self.encoder.layers(x)).mean(1))
