"""Accounts that a lab knows as legitimate (batch customers, its own staff): a text file, or a column of a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from member_client.detection.request_logs import is_parquet
from member_client.errors import InvalidInput

ACCOUNT = "account.id"
MAX_BYTES = 512 * 1024 * 1024


def read_legitimate(written: str) -> frozenset[str]:
    """The account ids of a file: one a line, or a column of CSV (named `.csv`) or Parquet.

    Args:
        written: the file's name, or `FILE:COLUMN`; without it the column is `account.id`.

    Raises:
        InvalidInput: the file cannot be read, has no such column, or names nobody.
    """
    path, column = _split(written)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidInput(f"{path} is larger than {MAX_BYTES // 1024**2} MiB", "name fewer accounts")
        accounts = frozenset(_accounts(path, column))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}", "check the name given to --legitimate") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(path, error) from error
    if not accounts:
        raise InvalidInput(f"{path} names no account", "write one account id a line, or name a column: FILE:COLUMN")
    return accounts


def _split(written: str) -> tuple[Path, str]:
    path = Path(written)
    before, separator, column = written.rpartition(":")
    if separator and before and not path.exists():
        return Path(before), column
    return path, ""


def _accounts(path: Path, column: str) -> Iterator[str]:
    if is_parquet(str(path)):
        yield from _accounts_in_parquet(path, column)
    elif column or path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            wanted = _check_column(path, column, rows.fieldnames or ())
            yield from _named(row[wanted] for row in rows)
    else:
        with path.open(encoding="utf-8-sig") as file:
            yield from _named(line.strip() for line in file)


def _accounts_in_parquet(path: Path, column: str) -> Iterator[str]:
    import pyarrow as pa  # it takes long to load, and every command about decisions loads this module
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            wanted = _check_column(path, column, table.schema_arrow.names)
            for batch in table.iter_batches(columns=[wanted]):
                yield from _named(batch.column(0).to_pylist())
    except pa.ArrowException as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"{path} cannot be read: {error}", "give UTF-8 text, CSV or Parquet")


def _check_column(path: Path, column: str, names: Iterable[str]) -> str:
    wanted = column or ACCOUNT
    known = list(names)
    if known.count(wanted) != 1:
        shown = ", ".join(known[:20])
        raise InvalidInput(f"{path} has no one column {wanted!r}; it has: {shown}", "name one of them: FILE:COLUMN")
    return wanted


def _named(values: Iterable[object]) -> Iterator[str]:
    """What stands there as text; a whole number is an id that was written as one."""
    for value in values:
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            yield str(value)
