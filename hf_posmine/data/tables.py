"""Tables in files: parquet, JSON, CSV and Arrow, with one line for whatever is wrong with one of them."""

from __future__ import annotations

import csv
import glob
import gzip
import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data import aliases
from hf_posmine.utils.digest import file_sha256, json_digest, note_read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

BUILDERS = {
    ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".tsv": "csv",
    ".arrow": "arrow", ".feather": "arrow",
}  # fmt: skip
KINDS = (*BUILDERS, *(f"{suffix}.gz" for suffix in (".jsonl", ".ndjson", ".json", ".csv", ".tsv")))
"""The endings of files that can be read."""
BINARY = (".parquet", ".arrow", ".feather")
IPC_FILE = b"ARROW1"
"""The first bytes of Arrow's IPC format as a file (Feather) rather than a stream."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")


streamed_files: list[Path] = []
"""Files that this process reads as streams: a fault in one shows only when its rows are read, in an error without its name."""


def kind_of(path: Path) -> str | None:
    """The ending of a file's kind, without ``.gz``; None if it cannot be read.

    >>> kind_of(Path("a.jsonl.gz")), kind_of(Path("b.TSV")), kind_of(Path("c.xlsx"))
    ('.jsonl', '.tsv', None)
    """
    name = path.name.lower()
    return next((kind.removesuffix(".gz") for kind in KINDS if name.endswith(kind)), None)


def stem_of(path: Path) -> str:
    """A file's name without the ending of its kind."""
    return path.name[: -len(next((kind for kind in KINDS if path.name.lower().endswith(kind)), "")) or None]


def load_files(files: str | Path | Sequence[str | Path], *, streaming: bool = False) -> Any:
    """A Dataset, or a stream, from files of one kind (:data:`KINDS`); cells of CSV are texts as they are written.

    Names are names: a ``?`` or ``[`` in one is not a pattern.

    Raises:
        InputError: a file that is missing, of another kind, or that cannot be read, with its name and what is wrong.
    """
    paths = [Path(f) for f in ([files] if isinstance(files, (str, Path)) else files)]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise InputError(f"no such file: {', '.join(missing)}")
    kinds = {kind_of(p) or p.suffix for p in paths}
    if len(kinds) != 1 or not kinds <= set(BUILDERS):
        raise InputError(f"cannot read files of kind {sorted(kinds)} together; use one of {sorted(KINDS)}")
    for path in paths:
        _check_begin(path)
    loaded = _load(paths, kinds.pop(), streaming)
    if not streaming and not len(loaded):
        raise InputError(f"{_named(paths)} has no rows, only {loaded.column_names}")
    return loaded


def _load(paths: list[Path], kind: str, streaming: bool) -> Any:
    import datasets

    options: dict[str, Any] = {
        "data_files": [glob.escape(str(p)) for p in paths],
        "split": "train",
        "streaming": streaming,
    }
    numbers: list[str] = []
    if BUILDERS[kind] == "csv":
        names = _same_headers(paths, kind)
        options["features"] = datasets.Features({name: datasets.Value("string") for name in names})
        options |= {"delimiter": _delimiter(kind), "na_filter": False}
        numbers = aliases.named(names, ("score", "scores", "label", "labels", "similarity", "relevance"))
    if BUILDERS[kind] == "json":
        options["on_mixed_types"] = None  # else a record among texts is silently a text such as '{"a":1}'
    if streaming:
        return _stream(paths, BUILDERS[kind], options)
    digests = [file_sha256(path) for path in paths]
    try:
        # datasets addresses its cache by names, sizes and times; the digests make it read a file of other content again
        loaded = datasets.load_dataset(BUILDERS[kind], f"sha256-{json_digest(digests)}", **options)
        if BUILDERS[kind] == "json":
            loaded.data.table.validate(full=True)  # its reader takes bytes that are not UTF-8
    except Exception as error:
        raise _explained(paths, error) from error
    changed = [str(path) for path, digest in zip(paths, digests, strict=True) if file_sha256(path) != digest]
    if changed:
        raise InputError(f"{changed[0]!r} changed while it was read; run again when nothing writes to it")
    for path, digest in zip(paths, digests, strict=True):
        note_read(path, digest)
    return _with_numbers(loaded, numbers)


def _stream(paths: list[Path], builder: str, options: dict[str, Any]) -> Any:
    """A stream that knows its columns, for which the first rows are read; later faults are those of ``named_faults``."""
    import datasets

    from hf_posmine.utils.upstream import with_features

    try:
        stream = with_features(datasets.load_dataset(builder, **options))
    except Exception as error:
        raise _explained(paths, error) from error
    streamed_files.extend(paths)
    return stream


def _with_numbers(loaded: Dataset, names: Sequence[str]) -> Any:
    """The columns of scores and labels as numbers, where every cell is one."""
    import datasets

    for name in names:
        for kind in ("int64", "float64"):
            try:
                loaded = loaded.cast_column(name, datasets.Value(kind))
                break
            except Exception:  # a label in words; whatever Arrow raises, the cells stay texts
                continue
    return loaded


def _named(paths: Sequence[Path]) -> str:
    return repr(str(paths[0])) if len(paths) == 1 else f"{str(paths[0])!r} and {len(paths) - 1} more"


def _delimiter(kind: str) -> str:
    return "\t" if kind == ".tsv" else ","


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _refuse(path: Path, what: str) -> InputError:
    return InputError(f"{str(path)!r} {what}")


def _check_begin(path: Path) -> None:
    """Refuse a file by its first bytes: empty, or in another encoding."""
    try:
        with _open(path) as file:
            begin = file.read(4)
    except (OSError, EOFError) as error:
        raise _refuse(path, f"cannot be unpacked ({error}); copy it again") from None
    if not begin:
        raise _refuse(path, "is empty")
    if kind_of(path) not in BINARY and begin[:2] in UTF_16:
        raise _refuse(path, "is UTF-16; save it as UTF-8")


def _same_headers(paths: Sequence[Path], kind: str) -> list[str]:
    """The columns of CSV files, which must be the same in all."""
    headers = [_header(path, kind) for path in paths]
    for path, header in zip(paths, headers, strict=True):
        if header != headers[0]:
            raise _refuse(
                path, f"has the columns {header}, and {str(paths[0])!r} has {headers[0]}; load them one by one"
            )
    return headers[0]


def _header(path: Path, kind: str) -> list[str]:
    with _open(path) as file:
        line = file.readline()
        while line.count(b'"') % 2 and (more := file.readline()):  # a name may span lines
            line += more
    try:
        names = next(csv.reader([line.decode("utf-8-sig")], delimiter=_delimiter(kind)), [])
    except UnicodeDecodeError as error:
        raise _refuse(path, _no_utf8(error, line, 1)) from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _refuse(path, f"has {names.count(twice[0])} columns {twice[0]!r}; rename all but one")
    return names


def _no_utf8(error: UnicodeDecodeError, line: bytes, number: int) -> str:
    guess = line.decode("latin-1")[max(0, error.start - 10) : error.start + 10].strip()
    return f"is not UTF-8 in line {number} (as Latin-1 it reads {guess!r}); save it as UTF-8"


def _explained(paths: Sequence[Path], error: Exception) -> BaseException:
    """The one line for a file that ``datasets`` could not read; errors of ours and of this machine stay."""
    from hf_posmine.utils.files import out_of_resources

    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    of_machine = next((cause for cause in causes if out_of_resources(cause)), None)
    if of_machine is not None or isinstance(error, InputError):
        return of_machine or error
    for path in paths:
        found = fault_in(path)
        if found is not None:
            return _refuse(path, found)
    what = " ".join(str(causes[-1]).split()) or type(causes[-1]).__name__
    return _refuse(paths[0], f"cannot be read: {what[:300]}")


def fault_in(path: Path) -> str | None:
    """The fault of a file, which is read line by line; None without one."""
    kind = kind_of(path)
    if kind in BINARY:
        return _binary_fault(path, str(kind))
    try:
        with _open(path) as file:
            return _json_fault(file) if kind not in (".csv", ".tsv") else _csv_fault(file, str(kind))
    except (OSError, EOFError) as error:
        return f"is truncated or damaged ({error}); copy it again"


def _binary_fault(path: Path, kind: str) -> str | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if kind == ".parquet":
            pq.ParquetFile(path)
        else:
            with pa.memory_map(str(path)) as source:
                is_file = source.read(len(IPC_FILE)) == IPC_FILE
                source.seek(0)
                (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source).read_all()
    except (pa.ArrowException, OSError, EOFError) as error:
        return f"is truncated, or not a file of kind {kind[1:]} ({str(error).splitlines()[0][:120]}); copy it again"
    return None


def _csv_fault(file: IO[bytes], kind: str) -> str | None:
    lines: list[str] = []
    for number, line in enumerate(file, 1):
        try:
            lines.append(line.decode())
        except UnicodeDecodeError as error:
            return _no_utf8(error, line, number)
    if len([line for line in lines if line.strip()]) == 1:
        return f"has no rows, only the columns {lines[0].strip()}"
    reader = csv.reader(lines, delimiter=_delimiter(kind), strict=True)
    begin, width = 1, None
    try:
        for row in reader:
            width = width or len(row)
            if row and len(row) != width:
                return (
                    f"has {len(row)} cells in line {begin}, and {width} columns; quote cells with {_delimiter(kind)!r}"
                )
            begin = reader.line_num + 1
    except csv.Error:
        return f"has a quote in line {begin} that is never closed; close it, or double a quote that is part of the text"
    return None


def _json_fault(file: IO[bytes]) -> str | None:
    columns: dict[str, type] = {}
    for number, line in enumerate(file, 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            return _no_utf8(error, line, number)
        if number == 1 and text.lstrip().startswith("["):
            return _array_fault(text + file.read().decode(errors="replace"))
        found = _line_fault(text, number, columns) if text.strip() else None
        if found is not None:
            return found
    return None


def _array_fault(text: str) -> str | None:
    columns: dict[str, type] = {}
    try:
        rows = json.loads(text)
    except ValueError as error:
        return f"is not JSON: {error}"
    return next(filter(None, (_row_fault(row, f"row {number}", columns) for number, row in enumerate(rows))), None)


def _line_fault(text: str, number: int, columns: dict[str, type]) -> str | None:
    """The fault of a line of JSON, given the types of the columns so far."""
    twice: list[str] = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in found]
        twice.extend(name for name in names if names.count(name) > 1)
        return dict(found)

    try:
        row = json.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        return f"has no JSON object in line {number} ({error}); it may be truncated"
    if twice:
        return f"has {twice[0]!r} twice in line {number}; rename one"
    return _row_fault(row, f"line {number}", columns)


def _row_fault(row: object, where: str, columns: dict[str, type]) -> str | None:
    """The fault of a row of JSON, given the types of the columns so far, to which its own are added."""
    if not isinstance(row, dict):
        return f"has a {type(row).__name__} in {where}; each must be an object with columns"
    if any(isinstance(v, str) and any("\ud800" <= c <= "\udfff" for c in v) for v in row.values()):
        return f"has half of a surrogate pair in {where}; repair the text"
    for name, value in row.items():
        before = columns.setdefault(name, type(value)) if value is not None else type(None)
        if value is not None and before is not type(value) and {before, type(value)} != {int, float}:
            return f"has a {type(value).__name__} for {name!r} in {where}, and a {before.__name__} before; give it one type"
    return None
