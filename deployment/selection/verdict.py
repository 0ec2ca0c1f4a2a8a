"""The outcome: which candidate is taken, and a status for every one."""

from __future__ import annotations

from collections.abc import Sequence

from deployment.selection.pool import NOT_JUDGED, Pool
from deployment.selection.results import Selection
from deployment.selection.timing import NO_TIME, Candidate


def verdict(
    pool: Pool, *, device: str, threads: int, noise: float, notes: Sequence[str]
) -> Selection:
    """What is chosen of everything that was tried.

    The fastest of the last comparison that may be chosen, where it is faster than the default by
    more than the noise; the default otherwise. Where the default may not be chosen, the fastest
    that may; where none may, what loses least.

    Args:
        pool: All that was tried.
        device: What timed it; "" for nothing.
        threads: Those of the target.
        noise: Of the last comparison.
        notes: What to say beside.
    """
    judge, default, candidates = pool.judge, pool.default, pool.candidates
    chosen, noise = _chosen(pool, noise)
    keeps = None if chosen.check is None else chosen.check.is_kept
    if judge.validation is None and not chosen.variant.is_exact:
        keeps = None  # logits were compared, no accuracy
    was_judged = any(one.check and one.check.accuracy is not None for one in candidates)
    accuracy = judge.fp32_accuracy if was_judged else None
    statuses = [_status(one, chosen, bool(device), max(noise, one.noise)) for one in candidates]
    tried = [one.tried(text, accuracy) for one, text in zip(candidates, statuses, strict=True)]
    return Selection(
        chosen=tried[candidates.index(chosen)],
        default=tried[0],
        tried=tuple(tried),
        data=chosen.data,
        is_timed=bool(device),
        device=device,
        threads=threads,
        largest_loss=judge.largest_loss,
        keeps_bound=keeps,
        statement=_statement(chosen, default, device, noise, judge.largest_loss, keeps),
        noise=noise,
        validation_images=judge.images if was_judged else 0,
        seconds=pool.budget.spent,
        limit_s=pool.budget.seconds,
        notes=(*notes, *_notes(pool, chosen, was_judged)),
        timing=chosen.timing,
        default_timing=default.timing,
        preprocessing=pool.files.preprocessing,
    )


def _chosen(pool: Pool, noise: float) -> tuple[Candidate, float]:
    """What is chosen, and the noise that its gain was held against."""
    candidates, default = pool.candidates, pool.default
    kept = [one for one in candidates if one.is_kept]
    final = [one for one in kept if one.is_final and one is not default]
    found = final or kept
    best = pool.simplest(found, max(one.rate for one in found)) if found else None
    default_is_kept = default.check is not None and default.check.is_kept
    if default_is_kept or default.check is None:
        if not final or best is None:
            return default, noise
        noise = max(noise, best.noise, default.noise)
        return best if best.rate > 1 + noise else default, noise
    if best is not None:
        return best, noise
    judged = [one for one in candidates if one.check is not None and one.data]
    return min(judged, key=_badness), noise


def _badness(one: Candidate) -> tuple[float, float]:
    """How much a candidate loses: accuracy where that was judged, else how far its logits are."""
    assert one.check is not None
    loss, error = one.check.loss, one.check.relative_error
    return (1.0 if loss is None else loss, float("inf") if error is None else error)


def _status(one: Candidate, chosen: Candidate, is_timed: bool, noise: float) -> str:
    if one is chosen:
        return "chosen" if is_timed else "not timed"
    if one.obstacle:
        return one.obstacle
    if one.check is None:
        if one.variant.is_exact:
            return "not faster"
        if one.rate > 1 + noise:
            return "not the fastest: accuracy not judged"
        if one.rate >= 1 / (1 + noise):
            return "within the noise: accuracy not judged"
        return "slower: accuracy not judged"
    return "kept the bound" if one.check.is_kept else one.check.reason


def _statement(
    chosen: Candidate,
    default: Candidate,
    device: str,
    noise: float,
    largest_loss: float,
    keeps: bool | None,
) -> str:
    if keeps is False:
        assert chosen.check is not None
        lost = chosen.check.loss
        what = "differs too much" if lost is None else f"loses {100 * lost:.2g} points"
        return (
            f"no lowering that is allowed keeps the bound of {100 * largest_loss:g} points; the "
            f"best found, {chosen.change}, {what}"
        )
    if not device:
        return f"not timed: {chosen.variant.numerics.name} is what the target's profile suggests"
    assert chosen.timing is not None
    assert default.timing is not None
    if chosen is default:
        return (
            f"the default file stays, at {default.timing.latency_ms:.4g} ms: nothing that keeps "
            f"the bound was faster by more than the noise of {noise:.1%}"
        )
    return (
        f"{chosen.change}: {chosen.timing.latency_ms:.4g} ms, {chosen.rate:.3f} times as fast as "
        f"the default file ({default.timing.latency_ms:.4g} ms) in the same rounds, noise "
        f"{noise:.1%}"
    )


def _notes(pool: Pool, chosen: Candidate, was_judged: bool) -> list[str]:
    found = []
    for obstacle in (NO_TIME, NOT_JUDGED):
        late = [one.change for one in pool.candidates if one.obstacle == obstacle]
        if late:
            found.append(f"{obstacle}: {'; '.join(late)}")
    judge = pool.judge
    if was_judged and judge.validation is not None:
        found.append(
            f"accuracy was judged on {judge.images} of {len(judge.validation)} validation images, "
            "as a paired difference to fp32"
        )
    if chosen.variant.settings.spinning:
        found.append(
            "spinning threads take the processor between runs: fast where nothing else runs, and "
            "slow for everything beside it"
        )
    return found
