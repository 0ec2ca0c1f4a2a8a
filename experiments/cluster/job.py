"""What is special about a run that `ray job submit` started."""

from __future__ import annotations

from pathlib import Path

from records import BadInputError

COPIES = "runtime_resources"
"""The folder below which Ray keeps its copies of working directories."""


def check_outlives_job(path: Path, option: str = "--out") -> None:
    """Refuses a place in the copy of the working directory that Ray made for a job.

    Ray removes the copy some time after the job has ended, with everything that it wrote there.

    Args:
        path: The place.
        option: The option that names it.

    Raises:
        BadInputError: The path is in such a copy.
    """
    where = path.absolute()
    if COPIES in where.parts and Path.cwd().is_relative_to(_copy(where)):
        raise BadInputError(
            f"{option} {path} would be {where}, in the copy of the working directory that Ray "
            "removes after the job: give an absolute path that stays, on a disk that the head "
            "shares or keeps, such as /shared/runs/first"
        )


def _copy(path: Path) -> Path:
    """The folder of all copies that a path is in."""
    parts = path.parts
    return Path(*parts[: parts.index(COPIES) + 1])
