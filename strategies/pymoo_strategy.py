"""Any algorithm of pymoo as a strategy.

The algorithm sees integer variables, one for each choice, from 0 to the number of its values less
one, and so one variable for each inactive choice too: what it proposes is rounded and put into
canonical form, so several of its points may be one architecture. A point whose architecture is
known already is not measured again; the algorithm is told the known values. The limits are one
constraint of pymoo.

References:
    Blank and Deb, pymoo: multi-objective optimization in Python, IEEE Access 8, 2020.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from records import BadInputError
from search_spaces import Genes
from strategies.known_rows import row_keys
from strategies.problem import Problem
from strategies.protocols import Floats
from strategies.replayed import Replayed

Algorithm: TypeAlias = Any
"""pymoo has no types."""

_WORST_ERROR = 1.0
_UNKNOWN = 1e12
_GENERATIONS_AN_ASK = 20


class PymooStrategy(Replayed):
    """Proposes the generations of an algorithm of pymoo.

    A generation is proposed in parts, as many rows as are asked for, and waits until all of it is
    told. Rows that the algorithm did not ask for it does not learn of. A failed evaluation is told
    as a value that is worse than any.

    Args:
        problem: The space, costs and limits.
        algorithm: An algorithm of pymoo, copied before it is used, or a function that makes one.
            It needs operators for integers, see `integer_operators`.
        seed: See `Strategy`.
        initial: See `Strategy`.

    Raises:
        BadInputError: pymoo is not installed, or something that is no algorithm.
    """

    waits: ClassVar[bool] = True
    _attempts: ClassVar[int] = 1

    def __init__(
        self,
        problem: Problem,
        algorithm: Algorithm | Callable[[], Algorithm],
        *,
        seed: int = 0,
        initial: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(problem.space, seed=seed, initial=initial)
        self.problem = problem
        self._columns = 1 + len(problem.targets)
        self._pristine = algorithm
        self._begin()

    def _begin(self) -> None:
        pymoo = _pymoo()
        made = self._pristine
        if not isinstance(made, pymoo.Algorithm):
            made = made() if callable(made) else made
        if not isinstance(made, pymoo.Algorithm):
            raise BadInputError(f"algorithm is one of pymoo or makes one; got {made!r}")
        self._algorithm = copy.deepcopy(made)
        sizes = self.space.gene_space.sizes.astype(np.int64)
        variables = pymoo.Problem(
            n_var=len(sizes),
            n_obj=1 + len(self.problem.targets),
            n_ieq_constr=1 if self.problem.constraints else 0,
            xl=np.zeros(len(sizes)),
            xu=sizes - 1,
            vtype=int,
        )
        self._algorithm.setup(
            variables,
            termination=pymoo.NoTermination(),
            seed=int(self.rng.integers(2**31)),
            verbose=False,
        )
        self._individual = pymoo.Individual
        self._generation: Any = None
        self._members: list[Any] = []
        self._genes = self._no_rows()
        self._values: dict[int, tuple[list[float], float]] = {}

    def _propose(self, n: int) -> Genes:
        for _ in range(_GENERATIONS_AN_ASK):
            if self._generation is None:
                asked = self._algorithm.ask()
                if asked is None:
                    break
                members = [asked] if isinstance(asked, self._individual) else list(asked)
                if not members:  # no children left that differ
                    break
                self._generation, self._members = asked, members
                x = np.array([member.X for member in members], np.float64)
                genes = np.clip(np.rint(x), 0, self._sizes - 1)
                self._genes = self.space.canonical(genes.astype(np.int16))
            fresh = self._genes[self._known.is_new(self._genes)]
            if len(fresh) or self._lacking():
                return fresh[:n]
            self._advance()
        return self._no_rows()

    @property
    def _sizes(self) -> npt.NDArray[np.int16]:
        return self.space.gene_space.sizes

    def _lacking(self) -> bool:
        """Whether a row of the generation was not told of."""
        return any(key not in self._values for key in row_keys(self._genes).tolist())

    def _must_wait(self) -> bool:
        return (
            self._generation is not None
            and self._lacking()
            and not self._known.is_new(self._genes).any()
        )

    def _advance(self) -> None:
        """Tells the algorithm of a whole generation."""
        for member, key in zip(self._members, row_keys(self._genes).tolist(), strict=True):
            values, violation = self._values[key]
            limits = [violation] if self.problem.constraints else []
            member.set("F", np.array(values))
            member.set("G", np.array(limits))
            member.set("H", np.zeros(0))
            member.evaluated.update(("F", "G", "H"))
        self._algorithm.tell(infills=self._generation)
        self._generation = None

    def _learn(self, genes: Genes, objectives: Floats, violations: Floats) -> None:
        for key, values, violation in zip(
            row_keys(genes).tolist(), objectives.tolist(), violations.tolist(), strict=True
        ):
            if violation > 0 and np.isnan(values[0]):
                values = [_WORST_ERROR, *values[1:]]
            known = np.nan_to_num(np.array(values), nan=_UNKNOWN).tolist()
            self._values[key] = (known, min(violation, _UNKNOWN))
        if self._generation is not None and not self._lacking():
            self._advance()


def integer_nsga2(population_size: int = 50) -> Algorithm:
    """pymoo's NSGA-II with its operators for integers."""
    return _pymoo().NSGA2(pop_size=population_size, **integer_operators())


def integer_operators() -> dict[str, Any]:
    """pymoo's operators for integers, to make an algorithm with: random sampling, uniform
    crossover, rounded polynomial mutation."""
    pymoo = _pymoo()
    rounding = pymoo.RoundingRepair()
    return {
        "sampling": pymoo.IntegerRandomSampling(),
        "crossover": pymoo.UX(repair=rounding),
        "mutation": pymoo.PM(vtype=float, repair=rounding),
    }


class _Pymoo:
    """The parts of pymoo that are used."""

    def __init__(self) -> None:
        from pymoo.algorithms.moo.nsga2 import NSGA2
        from pymoo.core.algorithm import Algorithm
        from pymoo.core.individual import Individual
        from pymoo.core.problem import Problem
        from pymoo.core.termination import NoTermination
        from pymoo.operators.crossover.ux import UX
        from pymoo.operators.mutation.pm import PM
        from pymoo.operators.repair.rounding import RoundingRepair
        from pymoo.operators.sampling.rnd import IntegerRandomSampling

        self.NSGA2 = NSGA2
        self.Algorithm = Algorithm
        self.Individual = Individual
        self.Problem = Problem
        self.NoTermination = NoTermination
        self.UX = UX
        self.PM = PM
        self.RoundingRepair = RoundingRepair
        self.IntegerRandomSampling = IntegerRandomSampling


def _pymoo() -> Any:
    try:
        return _Pymoo()
    except ImportError as error:
        raise BadInputError(
            "PymooStrategy needs pymoo, which is not installed: pip install pymoo"
        ) from error
