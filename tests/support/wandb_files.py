"""The files that W&B's offline mode leaves, read back."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2


def summary_of(folder: Path) -> dict[str, Any]:
    """A run's summary, by name."""
    updates = [update for record in records_of(folder) for update in record.summary.update]
    return {"/".join(update.nested_key) or update.key: json.loads(update.value_json) for update in updates}


def media_of(records: list[Any], folder: Path, kind: str) -> list[tuple[Any, Path]]:
    """The history's items of one kind, and their files."""
    items = [item for record in records for item in record.history.item]
    kinds = {item.nested_key[0] for item in items if item.nested_key[1:] == ["_type"] and kind in item.value_json}
    paths = [item for item in items if item.nested_key[1:] == ["path"] and item.nested_key[0] in kinds]
    return [(item, folder / "files" / json.loads(item.value_json)) for item in paths]


def records_of(folder: Path) -> list[Any]:
    """The records of an offline run's .wandb file: LevelDB log framing after a header of 7 bytes."""
    data, records, partial, place = next(folder.glob("*.wandb")).read_bytes(), [], b"", 7
    while place + 7 <= len(data):
        left_in_block = 32768 - place % 32768
        if left_in_block < 7:
            place += left_in_block
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        partial += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(partial)
            records.append(record)
            partial = b""
    return records
