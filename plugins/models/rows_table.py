"""The table that identifies rows of one's own: ids are texts as they stand, flags and numbers are what they mean."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow.parquet import ParquetFile

from harness import ConfigError, make_rows

_NUMBERS = ("window", "position", "start", "end")
_MAY_LACK = ("start", "end")
_COLUMNS = ("document", *_NUMBERS, "special")
_PLACE = ("document", "window", "position")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "<na>"}
"""Spellings of a number that there is none of. A document or a flag is never missing."""
_FLAGS = {
    **dict.fromkeys(("true", "t", "yes", "y", "1", "1.0"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0", "0.0"), False),
}
_MAX_NUMBER = 2**31 - 1


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of a `.csv` or `.parquet` file with the column `document` and others of `make_rows`.

    Raises:
        ConfigError: a row has no document, or a value that its column can't have.
    """
    table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    if "document" not in table:
        raise ConfigError(f"model stored: {path} has no column 'document'. It has: {', '.join(table.columns)}.")
    documents = table["document"]
    if pd.api.types.is_float_dtype(documents):
        raise ConfigError(f"model stored: {path}: documents are floating-point numbers. Save them as texts.")
    if documents.isna().any() or (documents.astype(str) == "").any():
        raise ConfigError(f"model stored: {path} has rows without a document. Give every row one.")
    columns: dict[str, Any] = {"document": documents.astype(str), "window": np.zeros(len(table), np.int64)}
    columns |= {name: _numbers(table[name], path) for name in _NUMBERS if name in table}
    if "special" in table:
        columns["special"] = _flags(table["special"], path)
    if "position" not in columns:  # rows of a document are taken to be in order where nothing else is said
        columns["position"] = table.groupby([columns["document"], pd.Series(columns["window"])]).cumcount().to_numpy()
    rows = make_rows(columns)
    _refuse_repeated(rows[~rows["special"]], path)
    return rows


def _refuse_repeated(rows: pd.DataFrame, path: Path) -> None:
    """Refuse rows that can't be told apart: comparisons would take one of them for all, without a word."""
    places = rows[list(_PLACE)]
    again = places[places.duplicated()]
    if len(again):
        last = again.index[0]
        first = places.index[(places == again.iloc[0]).all(axis=1)][0]
        document, window, position = again.iloc[0]
        raise ConfigError(
            f"model stored: {path} rows {first + 1} and {last + 1} are both position {position} in window {window} of "
            f"document {document!r}. Number the windows in a column window, where positions begin anew in each, or "
            "leave position out: rows are then numbered in their order."
        )


def _read_csv(path: Path) -> pd.DataFrame:
    """The known columns as texts: pandas would make the ids `007` and `7` one number, and drop a document `NA`."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        try:
            header = [_known(name) for name in next(lines, [])]
            columns: dict[int, list[str]] = {index: [] for index, name in enumerate(header) if name in _COLUMNS}
            for line in filter(None, lines):
                if len(line) != len(header):
                    raise csv.Error(f"{len(line)} values for {len(header)} columns")
                for index, values in columns.items():
                    values.append(line[index])
        except (UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"model stored: {path} line {lines.line_num}: {error}.") from error
    _check_once(header, path)
    if "document" not in header:
        return pd.DataFrame(columns=header)
    return pd.DataFrame({header[index]: pd.Series(values, dtype=object) for index, values in columns.items()})


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        with ParquetFile(path) as file:
            # As stored: an index of pandas may be the documents, and nulls would make whole numbers inexact ones.
            table: pd.DataFrame = file.read().to_pandas(ignore_metadata=True, integer_object_nulls=True)
    except (OSError, ValueError) as error:  # pyarrow's errors are among the latter
        raise ConfigError(f"model stored: can't read {path}: {error}.") from error
    table.columns = pd.Index([_known(str(name)) for name in table.columns])
    _check_once(list(table.columns), path)
    return table


def _known(name: str) -> str:
    """The column that a heading means: spaces around it and capitals are no reason to pass it over."""
    plain = name.strip().lower()
    return plain if plain in _COLUMNS else name


def _check_once(header: list[str], path: Path) -> None:
    if twice := next((name for name in _COLUMNS if header.count(name) > 1), None):
        raise ConfigError(f"model stored: {path} has two columns {twice!r}. Take one out.")


def _numbers(values: pd.Series[Any], path: Path) -> Any:
    """The whole numbers of a column; NA where there is none and there may be none."""
    missing = values.isna() | values.astype(str).str.strip().str.lower().isin(_MISSING)
    numbers = pd.to_numeric(values.mask(missing), errors="coerce").astype("Float64")
    sound = (numbers >= 0) & (numbers <= _MAX_NUMBER) & (numbers % 1 == 0)
    wrong = ~sound.fillna(False)
    _refuse(values, wrong & ~missing if values.name in _MAY_LACK else wrong, path, "a whole number from 0 on")
    whole = numbers.astype("Int64")
    return whole.array if values.name in _MAY_LACK else whole.to_numpy(np.int64)


def _flags(values: pd.Series[Any], path: Path) -> Any:
    """The flags of a column, written as flags, numbers or words."""
    flags = values.astype(str).str.strip().str.lower().map(_FLAGS)
    _refuse(values, flags.isna(), path, "true or false")
    return flags.to_numpy(bool)


def _refuse(values: pd.Series[Any], wrong: pd.Series[Any], path: Path, wanted: str) -> None:
    if wrong.any():
        row = int(wrong.to_numpy(bool).argmax())
        raise ConfigError(
            f"model stored: {path} row {row + 1}: {values.name} is {values.iloc[row]!r}; it must be {wanted}."
        )
