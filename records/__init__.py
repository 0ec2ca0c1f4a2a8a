"""What is written down: the ledger of observations, atomic files, hashes, versions and seeds.

The lowest room: it imports no other, and every other may use it; so the connection to a Ray
cluster is here, too. Nothing here knows what a search space, a network or a device is.
"""

from records.database import without_secrets
from records.errors import (
    BadInputError,
    CorruptFileError,
    ExistingRunError,
    HwnasError,
    LockedRunError,
    MissingFileError,
    StorageError,
    UnknownNameError,
    storage_error,
    unknown_name,
)
from records.files import (
    new_folder,
    read_json,
    replace_file,
    write_bytes,
    write_json,
    write_text,
)
from records.hashing import array_hash, content_hash, file_hash
from records.json_text import Json, json_text, parse_json
from records.ledger import Ledger
from records.measured import Measured
from records.observation import Observation
from records.optuna_mirror import mirror_to_optuna
from records.postgres import with_run
from records.seeds import generator, spawn, torch_seed
from records.versions import versions

__all__ = [
    "BadInputError",
    "CorruptFileError",
    "ExistingRunError",
    "HwnasError",
    "Json",
    "Ledger",
    "LockedRunError",
    "Measured",
    "MissingFileError",
    "Observation",
    "StorageError",
    "UnknownNameError",
    "array_hash",
    "content_hash",
    "file_hash",
    "generator",
    "json_text",
    "mirror_to_optuna",
    "new_folder",
    "parse_json",
    "read_json",
    "replace_file",
    "spawn",
    "storage_error",
    "torch_seed",
    "unknown_name",
    "versions",
    "with_run",
    "without_secrets",
    "write_bytes",
    "write_json",
    "write_text",
]
