"""A space with every primitive in it, and every kind of choice."""

from dataclasses import dataclass

from search_spaces import SearchSpace
from search_spaces.blocks import classifier, conv_norm_act, mbconv, transformer
from search_spaces.expression import where


@dataclass(frozen=True, kw_only=True)
class Zoo(SearchSpace):
    """Resolution, stride position, gates, pools, groups, concatenation, windows, linear."""

    image_size: int = 16
    channels: int = 2
    num_classes: int = 4
    resolutions: tuple[int, ...] = (8, 16)

    def build(self, net, images):
        resolution = net.choice("resolution", self.resolutions)
        with net.when(resolution < self.image_size):
            images = net.resize(images, resolution)
        width = net.choice("width", (8, 16))
        kind = net.choice("activation", ("relu", "silu", "relu6", "hardswish"))
        with net.scope("stem"):
            x = conv_norm_act(net, images, width, kernel=3, activation=kind)
        x = self._strided(net, x, width)
        x = self._branches(net, x)
        with net.scope("extra"), net.when(net.choice("depth", (0, 1)) > 0):
            x = net.conv2d(x, x.channels, kernel=3, dilation=net.choice("dilation", (1, 2)))
        with net.scope("grouped"):
            x = net.conv2d(x, 16, kernel=1, groups=2, bias=True)
            x = net.channel_shuffle(x, 2)
        x = net.to_tokens(x)
        block = net.choice("mixing", ("softmax", "linear"))
        with net.when(block == "softmax"):
            window = net.choice("window", (0, 2))
        with net.scope("attention"):
            x = transformer(
                net, x, heads=net.choice("heads", (1, 2, 3)),
                head_dim=net.choice("qk_dim", (4, 8)),
                v_dim=net.choice("v_dim", (4, 6)), mlp_ratio=2, mixing=block,
                window=where(block == "linear", 0, window), scale_slot=where(width == 8, 0, 1),
            )  # fmt: skip
        return classifier(net, net.layer_norm(x), self.num_classes)

    def _strided(self, net, x, width):
        position = net.choice("stride_position", (0, 1))
        for i in range(2):
            with net.scope(f"conv{i}"):
                stride = where(position == i, 2, 1)
                x = mbconv(
                    net, x, width, kernel=net.choice("kernel", (3, 5)), stride=stride,
                    expansion=net.choice("expansion", (1, 2)), shortcut=stride == 1,
                    se=net.choice("se", ("no", "yes")) == "yes", expand_by_one=False,
                    scale_slot=0, activation="relu",
                )  # fmt: skip
        return x

    def _branches(self, net, x):
        parts = []
        for name in ("a", "b"):
            with net.scope(name):
                kind = net.choice("pool", ("average", "maximum", "none"))
                h = x
                with net.when(kind == "average"):
                    h = net.avg_pool(h, kernel=3, padding=1, name="average")
                with net.when(kind == "maximum"):
                    h = net.max_pool(h, kernel=3, padding=1, name="maximum")
                with net.when(kind == "none"):
                    h = net.zeros(h)
                parts.append(h)
        return net.concat(*parts)
