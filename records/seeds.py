"""Random streams by name: one run seed, one independent stream per purpose.

`spawn(seed, "search", "mutation")` is the same stream in every process and on every machine, and
asking for one more name changes no other stream; the children of `SeedSequence.spawn` depend on
how many were spawned before. The names become the `spawn_key` of a `numpy.random.SeedSequence`
(O'Neill, Developing a seed_seq alternative, 2015) through SHA-256, not through `hash()`, which
Python salts per process.
"""

import hashlib
import operator

import numpy as np

from records.errors import BadInputError

_WORDS_PER_PART = 4  # 128 bits a name: no two names of a run collide


def spawn(seed: int, *path: str | int) -> np.random.SeedSequence:
    """Returns the seed sequence of a named purpose.

    Args:
        seed: The run's seed, at least 0.
        *path: Names and indices from general to special, e.g. `"train", "epoch", 3`. The text
            "3" and the number 3 are different names; no path at all is the run's own sequence.

    Raises:
        BadInputError: The seed is negative or not an integer, or a part is neither text nor an
            integer.
    """
    try:
        entropy = operator.index(seed)
    except TypeError:
        raise BadInputError(f"seed must be an integer >= 0, got {seed!r}") from None
    if entropy < 0:
        raise BadInputError(f"seed must be an integer >= 0, got {seed!r}")
    words = [word for part in path for word in _part_words(part)]
    return np.random.SeedSequence(entropy, spawn_key=tuple(words))


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """Returns numpy's default generator (PCG64) on the stream of a named purpose; see `spawn`."""
    return np.random.default_rng(spawn(seed, *path))


def torch_seed(seed: int, *path: str | int) -> int:
    """Returns a 63-bit seed for a named purpose, for `torch.Generator().manual_seed`."""
    return int(spawn(seed, *path).generate_state(1, np.uint64)[0]) >> 1


def _part_words(part: str | int) -> list[int]:
    """Turns one part of a path into 32-bit words; the type is a part of the name."""
    if isinstance(part, str):
        name = f"text:{part}"
    elif isinstance(part, int | np.integer):
        name = f"integer:{int(part)}"
    else:
        raise BadInputError(
            f"a stream is named by text and integers, got {part!r} of type {type(part).__name__}"
        )
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return [
        int.from_bytes(digest[4 * word : 4 * word + 4], "little")
        for word in range(_WORDS_PER_PART)
    ]
