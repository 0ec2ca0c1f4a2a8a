"""Short runs whose results must not depend on the number of processes; run by test_parallel."""

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from records import BadInputError
from supernet import Supernet, train
from supernet.training import (
    AttentiveSampling,
    ComplexityAware,
    MemberSampler,
    ProjectConflicts,
    Ranks,
    Sandwich,
    join_ranks,
)
from tests.supernet.doubles import RECIPE, TINY, easy_data, with_nan

BASE = replace(RECIPE, batch_size=16, members=Sandwich(largest_alone_share=0))
RECIPES = {
    "conflicts": replace(BASE, gradients=ProjectConflicts(after_share=0.5), dropout=0.2),
    "attentive": replace(BASE, shards=4, members=AttentiveSampling(largest_alone_share=0)),
    "complexity": replace(BASE, members=ComplexityAware(levels=2), ema=0.5, optimiser="sgd"),
    "in turn": replace(BASE, updates="member"),
    "nan": BASE,
    "uninterrupted": BASE,
    "resumed": BASE,
}


@dataclass(frozen=True)
class Noted(MemberSampler):
    """Another sampler, whose members are noted."""

    sampler: MemberSampler

    def members(self, draw):
        members = self.sampler.members(draw)
        GENES.append([member.genes.tolist() for member in members])
        return members

    def observe(self, draw, members, losses):
        self.sampler.observe(draw, members, losses)


GENES = []


class Stop(Exception):  # noqa: N818
    pass


def run(name, folder, ranks):
    """What a run gives: members, losses and weights."""
    GENES.clear()
    steps = []
    recipe = replace(RECIPES[name], members=Noted(RECIPES[name].members))
    data = with_nan([5]) if name == "nan" else easy_data()
    data = replace(data, train=replace(data.train, images=data.train.images[:64],
                                       labels=data.train.labels[:64]))  # fmt: skip
    options = {"epochs": 1, "recipe": recipe, "watch_gradients": name == "conflicts"}

    def on_step(step):
        steps.append(step)
        if name == "resumed" and step.number == 3 and len(steps) == 3:
            raise Stop

    supernet = Supernet(TINY, seed=ranks.rank)  # as the first rank's from the first step on
    if name == "resumed":
        options |= {"checkpoint": folder / "run.safetensors", "checkpoint_every": 2}
        try:
            train(supernet, data, on_step=on_step, **options)
        except Stop:
            del steps[2:], GENES[2:]
            steps += [None] * 2  # so that it does not stop again
        supernet = Supernet(TINY, seed=7)
    train(supernet, data, on_step=on_step, **options)
    steps = [step for step in steps if step is not None]
    np.savez(folder / f"{name}-{ranks.rank}.npz",
             **{n: p.detach().numpy() for n, p in supernet.named_parameters()})  # fmt: skip
    return {
        "genes": list(GENES),
        "losses": [step.losses for step in steps],
        "dropped": steps[-1].dropped,
        "cosines": [step.cosine for step in steps],
    }


def refusal(**options):
    """What a run that cannot be made says."""
    try:
        train(Supernet(TINY), easy_data(), epochs=1, **{"recipe": BASE, **options})
    except BadInputError as error:
        return str(error)
    return ""


def main(folder):
    """All runs, of the process alone or of the ranks together."""
    torch.set_num_threads(1)
    with join_ranks() as ranks:
        found = {name: run(name, folder, ranks) for name in RECIPES}
        if ranks.world > 1:
            found["uneven"] = refusal(recipe=replace(BASE, shards=3))
            own = folder / f"own-{ranks.rank}.safetensors"  # written by the first rank only
            assert refusal(checkpoint=own) == ""
            found["unseen"] = refusal(checkpoint=own)
        (folder / f"{ranks.rank}.json").write_text(json.dumps(found))
        assert Ranks.current() == ranks


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    os._exit(0)  # gloo's threads may abort an interpreter that tidies up
