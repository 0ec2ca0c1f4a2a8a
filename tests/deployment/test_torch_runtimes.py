import subprocess
import sys

import numpy as np
import pytest
import torch

from deployment.runtimes import agreement_with_torch, runtime, write_program
from tests.deployment.doubles import CNN, VIT, rows_of, shaken_subnet


def network(space=VIT):
    return shaken_subnet(space, rows_of(space, 4)[-1])


@pytest.mark.slow
@pytest.mark.skipif(not runtime("torch-compile").is_installed, reason="no C++ compiler")
def test_a_compiled_network_computes_what_torch_computes():
    subnet = network()
    opened = runtime("torch-compile").open(subnet, batch_size=2)
    assert agreement_with_torch(opened, subnet).is_within


def test_a_program_opens_in_a_process_without_hwnas(tmp_path):
    subnet = network()
    path = write_program(subnet, tmp_path / "program.pt2", batch_size=2)
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "images.npy", images.numpy())
    code = (
        "import numpy as np, sys, torch\n"
        "program = torch.export.load('program.pt2').module()\n"
        "logits = program(torch.from_numpy(np.load('images.npy')))\n"
        "np.save('logits.npy', logits.detach().numpy())\n"
        "assert 'supernet' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    with torch.no_grad():
        wanted = subnet(images).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, rtol=1e-4, atol=1e-5)
    assert path.stat().st_size > 1000


def test_the_size_of_the_program_is_told():
    subnet = network(CNN)
    opened = runtime("torch-program").open(subnet)
    weights = sum(value.numel() * 4 for value in subnet.state_dict().values())
    assert opened.file_bytes > weights
    assert runtime("torch").open(subnet).file_bytes is None
