"""What the loopback Hub keeps: repositories, commits, branches, pull requests and large files, all in memory.

A commit is a whole tree (path -> File), so every revision can be read at once. The object ids are those of git where
the client compares them: a file's is the sha1 of its git blob, a large file's is that of its LFS pointer.
"""

from __future__ import annotations

import fnmatch
import hashlib
from dataclasses import dataclass, field

import yaml

MAIN = "refs/heads/main"
REGULAR_LIMIT = 10_000_000  # bytes; the Hub stores larger files as LFS whatever their name
LFS_SUFFIXES = (
    "7z arrow bin gz joblib msgpack npy npz onnx ot parquet pickle pkl png pt pth safetensors tar wasm zip zst"
)
ATTRIBUTES = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES.split()).encode()


class Refusal(Exception):
    """An answer other than success: status, message and the X-Error-Code that the client reads."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.headers = headers | ({"X-Error-Code": code} if code else {})


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file at one revision; ``sha256`` is set when it is stored as LFS."""

    content: bytes
    sha256: str | None = None

    @property
    def size(self) -> int:
        return len(self.content)

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def oid(self) -> str:
        return git_oid(self.pointer if self.sha256 else self.content)


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Discussion:
    """A discussion, or a pull request when ``ref`` is set."""

    num: int
    title: str
    author: str
    date: str
    status: str = "open"
    ref: str | None = None
    base: str | None = None
    target: str = MAIN
    merge_commit: str | None = None
    comments: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Repo:
    """One repository: its refs by full name, every commit, and the large files that were ever uploaded."""

    kind: str
    id: str
    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    discussions: list[Discussion] = field(default_factory=list)
    ticks: int = 0

    @property
    def owner(self) -> str:
        return self.id.partition("/")[0]

    def clock(self) -> str:
        """A date one second after the one before, so that orders are certain and runs repeat."""
        self.ticks += 1
        return f"2025-01-01T{self.ticks // 3600:02}:{self.ticks // 60 % 60:02}:{self.ticks % 60:02}.000Z"

    # what tests look at

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return {path: file.content for path, file in self.at(revision).files.items()}

    def log(self, revision: str = "main") -> list[Commit]:
        """Commits of a revision, newest first."""
        found = [self.at(revision)]
        while found[-1].parent:
            found.append(self.commits[found[-1].parent])
        return found

    def orphans(self) -> set[str]:
        """sha256 of large files that were uploaded and that no commit names."""
        named = {file.sha256 for commit in self.commits.values() for file in commit.files.values()}
        return set(self.lfs) - named

    # revisions

    def full_ref(self, revision: str) -> str | None:
        names = (revision, f"refs/heads/{revision}", f"refs/tags/{revision}")
        return next((name for name in names if name in self.refs), None)

    def at(self, revision: str) -> Commit:
        ref = self.full_ref(revision)
        oid = self.refs[ref] if ref else revision
        if oid not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def add_ref(self, ref: str, revision: str) -> None:
        if ref in self.refs:
            raise Refusal(409, f"Reference {ref} already exists")
        self.refs[ref] = self.at(revision).oid

    def delete_ref(self, ref: str) -> None:
        if ref == MAIN:
            raise Refusal(403, "Cannot delete the main branch")
        if self.refs.pop(ref, None) is None:
            raise Refusal(404, f"Reference {ref} does not exist", "RevisionNotFound")

    # writing

    def commit(self, files: dict[str, File], parent: str | None, title: str, message: str, author: str) -> Commit:
        date = self.clock()
        tree = "".join(f"{path} {file.oid}\n" for path, file in sorted(files.items()))
        oid = hashlib.sha1(f"{self.kind}/{self.id} {parent} {date} {title}\n{tree}".encode()).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, message, author, date, files)
        return self.commits[oid]

    def apply(self, operations: list[dict], files: dict[str, File]) -> dict[str, File]:
        """The tree after the operations of an NDJSON commit."""
        files = dict(files)
        for operation in operations:
            key, value = operation["key"], operation["value"]
            path = value["path"]
            if key == "file":
                files[path] = File(value["content"])
            elif key == "lfsFile":
                files[path] = File(self._uploaded(value), value["oid"])
            elif key in ("deletedFile", "deletedFolder"):
                folder = path.rstrip("/") + "/"
                gone = [name for name in files if name == path or (key == "deletedFolder" and name.startswith(folder))]
                if not gone:
                    raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                for name in gone:
                    del files[name]
            else:
                raise Refusal(400, f"Unknown operation {key}")
        return files

    def _uploaded(self, value: dict) -> bytes:
        content = self.lfs.get(value["oid"])
        if content is None:
            raise Refusal(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
        if value.get("size", len(content)) != len(content):
            raise Refusal(400, f"LFS pointer of {value['path']} has the wrong size")
        return content

    def merge(self, pull: Discussion, author: str) -> Commit:
        """Bring the files that a pull request changed onto its target; a file that both changed is a conflict."""
        base, mine, theirs = self.commits[pull.base], self.at(pull.target), self.at(pull.ref)
        changed = {p for p in base.files | theirs.files if base.files.get(p) != theirs.files.get(p)}
        conflicts = sorted(p for p in changed if mine.files.get(p) not in (base.files.get(p), theirs.files.get(p)))
        if conflicts:
            raise Refusal(409, f"Pull request {pull.num} conflicts with {pull.target}: {', '.join(conflicts)}")
        files = {p: f for p, f in mine.files.items() if p not in changed}
        files |= {p: theirs.files[p] for p in changed if p in theirs.files}
        merged = self.commit(files, mine.oid, pull.title, f"Merge pull request {pull.num}", author)
        self.refs[pull.target], pull.status, pull.merge_commit = merged.oid, "merged", merged.oid
        return merged


def stored_as_lfs(files: dict[str, File], path: str, size: int, sample: bytes) -> bool:
    """Whether the Hub would keep a file as LFS: by .gitattributes, by its size, or because it is binary."""
    attributes = files[".gitattributes"].content.decode() if ".gitattributes" in files else ""
    patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
    name = path.rpartition("/")[2]
    return size > REGULAR_LIMIT or b"\0" in sample or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def card_metadata(content: str) -> dict:
    """The YAML block of a README.

    Raises:
        Refusal: 400 when it is not a YAML mapping.
    """
    lines = content.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in (line.strip() for line in lines[1:]):
        return {}
    end = next(i for i, line in enumerate(lines[1:], 1) if line.strip() == "---")
    try:
        data = yaml.safe_load("\n".join(lines[1:end])) or {}
    except yaml.YAMLError as error:
        raise Refusal(400, f"Invalid YAML in README.md: {error}") from error
    if not isinstance(data, dict):
        raise Refusal(400, "The metadata of README.md must be a mapping")
    return data
