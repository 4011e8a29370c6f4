"""One repository, written in one commit: all files, the card among them, are written atomically.

The commit names the revision that was read before it as its parent. If anybody, another process of ours or the author in
the browser, changes the repository in between, the Hub refuses it, and everything is read and merged anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from hf_posmine.core.errors import HubError, InputError
from hf_posmine.hub.retry import LOG_IN, with_retry
from hf_posmine.utils.redact import redact
from hf_posmine.utils.upstream import check_repo_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from huggingface_hub import HfApi

Kind: TypeAlias = Literal["dataset", "model"]
Read = TypeVar("Read")
README = "README.md"


@dataclass(frozen=True)
class Destination:
    """Where to push.

    Attributes:
        repo_id: such as ``me/mined``.
        kind: dataset or model.
        private: create it private; a repository that is public is then refused.
        revision: branch, created if it is not there; by default main.
        create_pr: propose a pull request instead; the same push again adds to it.
        token: by default that of the logged-in user.

    Raises:
        InputError: a name the Hub cannot have, or a pull request to a branch.
    """

    repo_id: str
    kind: Kind
    private: bool | None = None
    revision: str | None = None
    create_pr: bool = False
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_repo_id(self.repo_id)
        if self.create_pr and self.revision is not None:
            raise InputError(f"a pull request goes to main; leave revision={self.revision!r} or create_pr out")

    @property
    def api(self) -> HfApi:
        """The client."""
        from huggingface_hub import HfApi

        return HfApi(token=self.token)


@dataclass(frozen=True)
class Snapshot:
    """A repository at one commit.

    Attributes:
        repo_id: with its namespace.
        ref: the branch or pull request that was read; a commit goes there.
        commit: its head.
        files: the paths of all files.
        readme: the card; None where there is none.
    """

    repo_id: str
    ref: str
    commit: str
    files: frozenset[str]
    readme: str | None


@dataclass(frozen=True)
class Changes:
    """Changes of a commit: files by path, as bytes or as local files, and paths to delete."""

    files: Mapping[str, bytes | Path]
    delete: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pushed:
    """The result of a push.

    Attributes:
        repo_id: with its namespace.
        url: of the repository, or of the pull request.
        commit: the commit that holds the files.
    """

    repo_id: str
    url: str
    commit: str


def check_login(token: str | None = None) -> None:
    """Refuse early where nobody is logged in, before hours of work.

    Raises:
        HubError: no token.
    """
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise HubError("cannot push: the Hub is switched off (HF_HUB_OFFLINE or --offline)")
    if not (token or get_token()):
        raise HubError(f"cannot push: nobody is logged in to the Hub; {LOG_IN}")


def publish(to: Destination, title: str, plan: Callable[[Snapshot], Changes]) -> Pushed:
    """Bring a repository to the state that ``plan`` gives for its present one, in one commit; unchanged files make none.

    Args:
        to: where.
        title: of the commit, and of the pull request.
        plan: is given the repository as it is; called again if it changed meanwhile.

    Raises:
        HubError: the Hub refused, or could not be reached to the end. Nothing was changed then, or the commit landed and
            its answer was lost; pushing again settles it.
    """
    check_login(to.token)
    return with_retry(lambda: _attempt(to, title, plan), f"pushing to {to.repo_id}")


def _attempt(to: Destination, title: str, plan: Callable[[Snapshot], Changes]) -> Pushed:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = to.api
    repo_id = api.create_repo(to.repo_id, repo_type=to.kind, private=to.private, exist_ok=True).repo_id
    if to.private and not api.repo_info(repo_id, repo_type=to.kind).private:
        raise HubError(f"{repo_id} exists and is public; make it private in its settings, or push without private")
    if to.revision is not None:
        api.create_branch(repo_id, branch=to.revision, repo_type=to.kind, exist_ok=True)
    proposed = _open_pull_request(api, repo_id, to.kind, title) if to.create_pr else None
    there = read(api, repo_id, to.kind, proposed or to.revision or "main")
    changes = plan(there)
    operations: list[Any] = [CommitOperationAdd(path, content) for path, content in changes.files.items()]
    operations += [CommitOperationDelete(path) for path in sorted(changes.delete & there.files)]
    try:
        made = api.create_commit(
            repo_id,
            operations,
            commit_message=title,
            repo_type=to.kind,
            revision=there.ref,
            parent_commit=there.commit,
            create_pr=to.create_pr and proposed is None,
        )
    except ValueError as error:  # the errors of the Hub in the metadata of the card, as the client raises them
        reason = redact(" ".join(str(error).split()))
        raise InputError(f"the Hub does not accept the card of {repo_id}: {reason}") from None
    url = f"{api.endpoint}/{'datasets/' if to.kind == 'dataset' else ''}{repo_id}"
    number = made.pr_num or (proposed and proposed.rsplit("/", 1)[1])
    return Pushed(repo_id, f"{url}/discussions/{number}" if number else url, made.oid)


def read(api: HfApi, repo_id: str, kind: Kind, ref: str) -> Snapshot:
    """A repository as it is at a branch, pull request or commit.

    Whether there is a card follows from the list of files. A card that cannot be read is an error, never "no card": else a push
    during an outage would replace a hand-written one.
    """
    info: Any = api.repo_info(repo_id, repo_type=kind, revision=ref)
    files = frozenset(sibling.rfilename for sibling in info.siblings or [])
    readme = read_file(api, repo_id, kind, info.sha, README) if README in files else None
    return Snapshot(str(info.id), ref, str(info.sha), files, readme)


def read_file(api: HfApi, repo_id: str, kind: Kind, commit: str | None, path: str) -> str:
    """A text file of a repository at a commit.

    Raises:
        InputError: it is not UTF-8 text.
    """
    file = api.hf_hub_download(repo_id, path, repo_type=kind, revision=commit)
    try:
        return Path(file).read_bytes().decode("utf8")
    except UnicodeDecodeError:
        raise InputError(f"{repo_id}/{path} is not UTF-8 text") from None


def record_there(there: Snapshot, to: Destination, path: str, read: Callable[[str], Read]) -> Read | None:
    """A record that the repository has; None without one, or where this package cannot read it."""
    if path not in there.files:
        return None
    try:
        return read(read_file(to.api, there.repo_id, to.kind, there.commit, path))
    except InputError:
        return None


def _open_pull_request(api: HfApi, repo_id: str, kind: Kind, title: str) -> str | None:
    """The ref of our own open pull request of this title, such as one whose answer was lost."""
    me = api.whoami()["name"]
    found = api.get_repo_discussions(repo_id, repo_type=kind)
    numbers = [d.num for d in found if d.is_pull_request and (d.status, d.title, d.author) == ("open", title, me)]
    return f"refs/pr/{max(numbers)}" if numbers else None
