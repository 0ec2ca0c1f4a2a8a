"""A cost model deploys a network with what is known of its images, and with selected kernels."""

import torch

from deployment import Bundle, LocalRunner
from deployment.selection.select import EXACT_ALONE
from hardware_profiles import Target
from latency_models import RooflineCostModel
from search_spaces import CNNSpace
from supernet import ImageData, Split, Subnet
from supernet.data import Normalisation
from tests.latency_models.doubles import PROFILE

SPACE = CNNSpace(image_size=8, channels=1)
KNOWN = Normalisation(mean=(0.5,), deviation=(0.25,), source_size=(8, 8))


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((count, 1, 8, 8), generator=generator)
    return Split(images, torch.arange(count) % 10)


def test_data_give_images_classes_and_the_test_split(tmp_path):
    data = ImageData(
        name="made up", train=split(80, 0), validation=split(40, 1), test=split(30, 2),
        class_names=tuple("abcdefghij"), normalisation=KNOWN,
    )  # fmt: skip
    model = RooflineCostModel(SPACE, Target(profile=PROFILE), LocalRunner())
    row = SPACE.extremes("smallest")[:1]
    architecture = SPACE.decode(row)[0]
    subnet = Subnet(SPACE.graph(row)).eval()

    bundle = model.deploy(subnet, architecture, tmp_path / "net", {}, data=data, seconds=2.0)

    record = Bundle.open(bundle.folder).record
    assert record["output"]["classes"] == list("abcdefghij")
    assert record["input"]["normalisation"]["mean"] == [0.5]
    assert record["tested"]["images"] == 30
    assert record["facts"]["test_accuracy"] == record["tested"]["accuracy"]
    assert record["samples"]["kinds"]["real"]["images"] == 16
    assert record["selection"]["label"] == "timed"
    assert record["selection"]["limit_s"] == 2.0
    plain = model.deploy(subnet, architecture, tmp_path / "plain", {})
    assert plain.record["selection"] is None
    assert plain.record["tested"] is None
    blind = model.deploy(subnet, architecture, tmp_path / "blind", {}, seconds=2.0)
    tried = blind.record["selection"]["tried"]
    assert {one["variant"]["numerics"]["way"] for one in tried} == {"fp32"}
    assert EXACT_ALONE in blind.record["selection"]["notes"]
    assert EXACT_ALONE in (blind.folder / "README.md").read_text()
    assert EXACT_ALONE not in record["selection"]["notes"]
