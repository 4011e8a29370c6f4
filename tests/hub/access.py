"""Who may do what: tokens, private repositories, and the answers of the Hub to those who may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hub.store import Refusal, Repo

if TYPE_CHECKING:
    from tests.hub.exchange import Request

Repos = dict[tuple[str, str], Repo]


def identify(tokens: dict[str, str], authorization: str | None) -> tuple[str | None, str]:
    """User and role of an Authorization header; ``tokens`` has values such as ``alice`` and ``alice:read``.

    Raises:
        Refusal: 401 when the token is nobody's.
    """
    if not authorization:
        return None, "read"
    owner = tokens.get(authorization.removeprefix("Bearer "))
    if owner is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    user, _, role = owner.partition(":")
    return user, role or "write"


def may_write(request: Request, namespace: str | None) -> None:
    """Refuse a request that must not change ``namespace``; None asks only for a writing token."""
    if request.user is None:
        raise Refusal(401, "Invalid username or password.")
    if request.role != "write":
        raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
    if namespace is not None and request.user != namespace:
        raise Refusal(403, f"You don't have the rights to write under the namespace {namespace}")


def readable(repos: Repos, request: Request, kind: str, repo_id: str) -> Repo:
    """The repository, or the Hub's answer that hides whether a private one exists."""
    repo = repos.get((kind, repo_id))
    if repo is None or (repo.private and request.user != repo.owner):
        if request.user is None:
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")
        raise Refusal(404, "Repository not found", "RepoNotFound")
    return repo


def writable(repos: Repos, request: Request, kind: str, repo_id: str, revision: str | None = None) -> Repo:
    """The repository for a change; whoever opened a pull request may add to it, a reader may propose one."""
    repo = readable(repos, request, kind, repo_id)
    own_pull = any(d.ref == revision and d.author == request.user for d in repo.discussions if d.ref)
    proposes = request.query.get("create_pr") == "1"
    may_write(request, None if proposes or own_pull else repo.owner)
    return repo
