import functools
import importlib.util

import numpy as np
import pytest
import torch

from deployment import VerificationError
from deployment.emission.emit import emit
from deployment.runtimes import (
    RUNTIMES,
    MissingRuntimeError,
    OnnxRuntimeNetwork,
    Opened,
    Runtime,
    RuntimeRefusalError,
    agreement_with_torch,
    check_agreement,
    float_operators,
    int8_litert_file,
    litert_file,
    runtime,
)
from deployment.session_settings import SessionSettings
from records import BadInputError, UnknownNameError
from tests.deployment.doubles import CNN, GATED, HYBRID, VIT, rows_of, shaken_subnet

SPACES = {"cnn": CNN, "vit": VIT, "hybrid": HYBRID, "gated": GATED}
SLOW = ("litert", "litert-int8", "torch-compile")
"""Those that take ten seconds or more to open."""


def named(*, is_exact=None, quick_only=False):
    """Names of runtimes, skipped where they are not installed."""
    found = []
    for name, one in sorted(RUNTIMES.items()):
        if is_exact in (None, one.tolerance is not None) and not (quick_only and name in SLOW):
            marks = [pytest.mark.skipif(not one.is_installed, reason=f"no {one.missing()}")]
            marks += [pytest.mark.slow] * (name in SLOW)
            found.append(pytest.param(name, marks=marks))
    return found


def network(space="cnn", seed=1):
    own = SPACES[space]
    return shaken_subnet(own, rows_of(own, 4)[-1], seed)


def images(space, n, seed=0):
    size, rng = SPACES[space].image_size, np.random.default_rng(seed)
    return rng.standard_normal((n, 3, size, size)).astype(np.float32)


@functools.cache
def opened_network(name, space="cnn"):
    """A network for batches of 4, opened once for all tests."""
    return runtime(name).open(network(space), batch_size=4, calibration=images(space, 32, seed=3))


@pytest.mark.parametrize("space", sorted(SPACES))
@pytest.mark.parametrize("name", named(is_exact=True))
def test_computes_what_torch_computes(name, space):
    found = agreement_with_torch(opened_network(name, space), network(space), images(space, 5))
    assert found.largest_difference <= 1e-4
    assert found.top1_agreement == 1
    assert found.images == 21
    assert found.is_within


@pytest.mark.parametrize("name", named(is_exact=False))
def test_int8_is_near_to_torch(name):
    found = agreement_with_torch(
        opened_network(name), network(), images("cnn", 16), tolerance=None
    )
    assert 1e-4 < found.relative_error < 0.25
    assert found.is_within


@pytest.mark.parametrize("name", named())
def test_batches_that_are_not_full_are_filled(name):
    opened, batch = opened_network(name), images("cnn", 6)
    found = opened.predict(batch)
    assert found.shape == (6, 10)
    np.testing.assert_allclose(found[4:], opened.predict(batch[4:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", named())
def test_a_run_computes_the_batch_that_was_bound_last(name):
    opened = opened_network(name)
    first, second = images("cnn", 8).reshape(2, 4, 3, 16, 16)

    def after(batch):
        with opened.running():
            opened.bind(batch.copy())  # whose memory may be gone afterwards
            opened.run()
        return np.array(opened.logits())

    before = after(first)
    assert not np.allclose(before, after(second))
    np.testing.assert_allclose(after(first), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_a_version_is_told(name):
    assert runtime(name).version[0].isdigit()


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'openvino'"):
        runtime("openvin")


def test_every_runtime_stands_under_its_own_name():
    assert all(name == one.name for name, one in RUNTIMES.items())


@pytest.mark.parametrize("name", sorted(n for n, one in RUNTIMES.items() if one.modules))
def test_what_is_not_installed_says_so_and_names_what_installs_it(name, monkeypatch):
    find_spec = importlib.util.find_spec
    absent = RUNTIMES[name].modules
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda m: None if m in absent else find_spec(m)
    )
    assert not runtime(name).is_installed
    with pytest.raises(MissingRuntimeError) as caught:
        runtime(name).open(network())
    assert ", ".join(absent) in str(caught.value)
    assert f"pip install 'hwnas[{RUNTIMES[name].extra}]'" in str(caught.value)
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize("act", [litert_file, int8_litert_file, float_operators])
def test_litert_files_name_what_installs_the_converter(act, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda m: None)
    with pytest.raises(MissingRuntimeError, match=r"pip install 'hwnas\[litert\]'"):
        act(network())


def test_compiling_without_a_compiler_says_so(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(MissingRuntimeError, match=r"a C\+\+ compiler \(g\+\+\), not found here"):
        runtime("torch-compile").open(network())


class Odd(Runtime):
    """Has no version, and cannot take anything."""

    name = "odd"
    title = "an odd runtime"
    package = "no-such-package"

    def _open(self, subnet, batch_size, threads, calibration):
        raise KeyError("what a runtime raises")


def test_what_a_runtime_raises_is_told_as_a_refusal():
    assert Odd().version == ""
    with pytest.raises(RuntimeRefusalError, match="an odd runtime cannot take this network"):
        Odd().open(network())


def test_bad_arguments_are_refused():
    subnet = network()
    with pytest.raises(BadInputError, match="batch_size must be >= 1, got 0"):
        runtime("torch").open(subnet, 0)
    with pytest.raises(BadInputError, match="threads must be >= 1, got -1"):
        runtime("torch").open(subnet, threads=-1)
    with pytest.raises(BadInputError, match="eval"):
        runtime("torch").open(subnet.train())


def test_images_of_another_shape_are_refused():
    opened = runtime("torch").open(network())
    for wrong in ((1, 3, 8, 8), (3, 16, 16), (0, 3, 16, 16)):
        with pytest.raises(BadInputError, match="takes images of shape n x 3 x 16 x 16"):
            opened.predict(np.zeros(wrong, np.float32))


class Constant(Opened):
    """Says the same, whatever it sees."""

    def __init__(self, value):
        self.value = value
        super().__init__("constant", (1, 3, 16, 16), 1)

    def bind(self, images):
        self.n = len(images)

    def run(self):
        pass

    def logits(self):
        return np.full((self.n, 10), self.value, np.float32)


@pytest.mark.parametrize("value", [1e3, float("nan")])
def test_another_function_is_refused(value):
    found = agreement_with_torch(Constant(value), network())
    assert not found.is_within
    with pytest.raises(VerificationError, match=r"a constant differs from torch by .* 0.0001\)"):
        check_agreement(found, "a constant")


def test_without_a_tolerance_only_what_is_no_number_is_refused():
    assert agreement_with_torch(Constant(1e3), network(), tolerance=None).is_within
    found = agreement_with_torch(Constant(float("nan")), network(), tolerance=None)
    with pytest.raises(VerificationError, match="allowed: finite"):
        check_agreement(found, "a constant")
    check_agreement(agreement_with_torch(Constant(1.0), network(), tolerance=None), "a constant")


def test_a_session_that_spins_is_open_for_its_visits_alone():
    data = emit(network()).SerializeToString()
    settings = SessionSettings(spinning=True)
    opened = OnnxRuntimeNetwork("spins", data, 2, settings)
    assert opened._session is None
    with opened.visiting():
        opened.run()
        assert opened._session is not None
    assert opened._session is None
    calm = OnnxRuntimeNetwork("calm", data, 1, settings)
    with calm.visiting():
        pass
    assert calm._session is not None
    batch = images("cnn", 3)
    np.testing.assert_allclose(opened.predict(batch), calm.predict(batch), rtol=1e-5, atol=1e-6)


def test_a_file_of_any_batch_size_is_not_timed():
    data = emit(network(), batch_size=None).SerializeToString()
    with pytest.raises(BadInputError, match="shape must be fixed"):
        OnnxRuntimeNetwork("dynamic", data)


def test_torch_has_its_threads_back_after_a_run():
    before = torch.get_num_threads()
    opened = runtime("torch").open(network(), threads=before + 1)
    with opened.running():
        assert torch.get_num_threads() == before + 1
    opened.predict(images("cnn", 1))
    assert torch.get_num_threads() == before
