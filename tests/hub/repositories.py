"""Repositories of the loopback Hub: users, creation, information, branches, tags, cards and discussions."""

from __future__ import annotations

import re
from typing import Any

from tests.hub.access import Repos, may_write, readable, writable
from tests.hub.content import open_pull
from tests.hub.exchange import Request, Response, as_json
from tests.hub.store import ATTRIBUTES, MAIN, Discussion, File, Refusal, Repo, card_metadata

REPO_ID = re.compile(r"([\w.-]+/)?[\w.-]+")


class Repositories:
    """The routes that do not move files."""

    repos: Repos
    url: str

    def whoami(self, request: Request) -> Response:
        if request.user is None:
            raise Refusal(401, "Invalid username or password.")
        token = {"displayName": "loopback", "role": request.role}
        user = {"type": "user", "id": request.user, "name": request.user, "fullname": request.user, "orgs": []}
        return as_json(user | {"isPro": False, "auth": {"type": "access_token", "accessToken": token}})

    def create(self, request: Request) -> Response:
        wanted = request.json
        may_write(request, wanted.get("organization") or request.user)
        kind, repo_id = f"{wanted.get('type') or 'model'}s", f"{request.user}/{wanted['name']}"
        answer = {"url": f"{self.url}/{'' if kind == 'models' else kind + '/'}{repo_id}", "name": repo_id}
        if (kind, repo_id) in self.repos:
            return as_json(answer | {"error": f"You already created this {kind[:-1]} repo"}, 409)
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, wanted.get("visibility") == "private")
        first = repo.commit({".gitattributes": File(ATTRIBUTES)}, None, "initial commit", "", request.user)
        repo.refs[MAIN] = first.oid
        return as_json(answer)

    def delete(self, request: Request) -> Response:
        wanted = request.json
        repo_id = f"{wanted.get('organization') or request.user}/{wanted['name']}"
        repo = writable(self.repos, request, f"{wanted.get('type') or 'model'}s", repo_id)
        del self.repos[repo.kind, repo.id]
        return Response()

    def settings(self, request: Request, kind: str, repo_id: str) -> Response:
        repo = writable(self.repos, request, kind, repo_id)
        if set(request.json) != {"visibility"}:
            raise Refusal(400, f"the loopback Hub can change the visibility only, not {sorted(request.json)}")
        repo.private = request.json["visibility"] == "private"
        return as_json({"private": repo.private})

    def auth_check(self, request: Request, kind: str, repo_id: str, write: str | None) -> Response:
        (writable if write else readable)(self.repos, request, kind, repo_id)
        return as_json({})

    def info(self, request: Request, kind: str, repo_id: str, revision: str | None) -> Response:
        repo = readable(self.repos, request, kind, repo_id)
        commit = repo.at(revision or "main")
        readme = commit.files.get("README.md")
        card = card_metadata(readme.content.decode()) if readme else {}
        siblings = [
            _sibling(p, f, request.query.get("blobs", "").lower() == "true") for p, f in sorted(commit.files.items())
        ]
        first, newest = repo.log(revision or "main")[-1], commit
        found: dict[str, Any] = {"_id": repo.id, "id": repo.id, "author": repo.owner, "sha": commit.oid}
        found |= {"private": repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        found |= {"createdAt": first.date, "lastModified": newest.date, "tags": card.get("tags") or []}
        found |= {key: card[key] for key in ("library_name", "pipeline_tag") if kind == "models" and key in card}
        return as_json(found | {"siblings": siblings} | ({"cardData": card} if card else {}))

    def validate_yaml(self, request: Request) -> Response:
        try:
            card = card_metadata(request.json["content"])
        except Refusal as refusal:
            return as_json({"errors": [{"message": refusal.message}], "warnings": []}, 400)
        errors = [{"message": message} for message in _wrong_ids(card)]
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        return as_json({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    # branches and tags

    def refs(self, request: Request, kind: str, repo_id: str) -> Response:
        repo = readable(self.repos, request, kind, repo_id)

        def under(prefix: str, named: str = "") -> list[dict[str, str]]:
            found = sorted((ref, oid) for ref, oid in repo.refs.items() if ref.startswith(prefix))
            return [{"name": named + ref[len(prefix) :], "ref": ref, "targetCommit": oid} for ref, oid in found]

        answer = {"branches": under("refs/heads/"), "tags": under("refs/tags/"), "converts": []}
        pulls = {"pullRequests": under("refs/pr/", "refs/pr/")} if request.query.get("include_prs") == "1" else {}
        return as_json(answer | pulls)

    def commits(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        log = readable(self.repos, request, kind, repo_id).log(revision)
        return as_json(
            [
                {"id": c.oid, "title": c.title, "message": c.message, "date": c.date, "authors": [{"user": c.author}]}
                for c in log
            ]
        )

    def branch(self, request: Request, kind: str, repo_id: str, branch: str) -> Response:
        repo = writable(self.repos, request, kind, repo_id)
        if request.method == "DELETE":
            repo.delete_ref(f"refs/heads/{branch}")
        else:
            repo.add_ref(f"refs/heads/{branch}", request.json.get("startingPoint") or "main")
        return Response()

    def tag(self, request: Request, kind: str, repo_id: str, name: str) -> Response:
        """POST names the revision to tag, DELETE the tag."""
        repo = writable(self.repos, request, kind, repo_id)
        if request.method == "DELETE":
            repo.delete_ref(f"refs/tags/{name}")
        else:
            repo.add_ref(f"refs/tags/{request.json['tag']}", name)
        return Response()

    # discussions and pull requests

    def discussions(self, request: Request, kind: str, repo_id: str) -> Response:
        repo = readable(self.repos, request, kind, repo_id)
        if request.method == "GET":
            found = [_summary(repo, discussion) for discussion in repo.discussions]
            return as_json({"count": len(found), "start": 0, "discussions": found})
        may_write(request, None)
        title, head = request.json["title"], repo.at("main").oid
        if request.json.get("pullRequest"):
            made = open_pull(repo, title, request.user, head, head, "draft")
        else:
            made = Discussion(len(repo.discussions) + 1, title, request.user, repo.clock())
            repo.discussions.append(made)
        made.comments.append((request.user, request.json.get("description", "")))
        return as_json({"num": made.num})

    def discussion(self, request: Request, kind: str, repo_id: str, num: str) -> Response:
        repo = readable(self.repos, request, kind, repo_id)
        found = _numbered(repo, num)
        answer = _summary(repo, found) | {"events": [_comment(found, i) for i in range(len(found.comments))]}
        if found.ref:
            changes = {"base": found.target, "mergeCommitId": found.merge_commit}
            answer |= {"changes": changes, "filesWithConflicts": []}
        return as_json(answer)

    def change_discussion(self, request: Request, kind: str, repo_id: str, num: str, change: str) -> Response:
        repo = readable(self.repos, request, kind, repo_id)
        found = _numbered(repo, num)
        own = change == "comment" or (change == "status" and request.user == found.author)
        may_write(request, None if own else repo.owner)
        if change == "merge" and found.ref is None:
            raise Refusal(400, f"Discussion {num} is not a pull request")
        if change == "merge":
            repo.merge(found, request.user)
            return as_json({})
        if change == "comment":
            found.comments.append((request.user, request.json["comment"]))
            return as_json({"newMessage": _comment(found, -1)})
        found.status = request.json["status"]
        event = {"id": "0", "type": "status-change", "createdAt": found.date, "author": {"name": request.user}}
        return as_json({"newStatus": event | {"data": {"status": found.status}}})


def _sibling(path: str, file: File, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    found: dict[str, Any] = {"rfilename": path, "size": file.size, "blobId": file.oid}
    lfs = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}}
    return found | (lfs if file.sha256 else {})


def _wrong_ids(card: dict) -> list[str]:
    """The Hub refuses a card whose base_model or datasets are not ids, such as a local path."""
    wrong = []
    for key, what in (("base_model", "model"), ("datasets", "dataset")):
        values = card.get(key) or []
        for value in [values] if isinstance(values, str) else values:
            if not REPO_ID.fullmatch(str(value)):
                wrong.append(f'"{key}" with value "{value}" is not valid. Use a {what} id from https://hf.co/{what}s.')
    return wrong


def _numbered(repo: Repo, num: str) -> Discussion:
    if not 1 <= int(num) <= len(repo.discussions):
        raise Refusal(404, f"Discussion {num} does not exist")
    return repo.discussions[int(num) - 1]


def _summary(repo: Repo, discussion: Discussion) -> dict[str, Any]:
    found: dict[str, Any] = {"num": discussion.num, "title": discussion.title, "status": discussion.status}
    found |= {"author": {"name": discussion.author}, "createdAt": discussion.date}
    return found | {"repo": {"name": repo.id, "type": repo.kind[:-1]}, "isPullRequest": discussion.ref is not None}


def _comment(discussion: Discussion, index: int) -> dict[str, Any]:
    author, text = discussion.comments[index]
    event = {"id": f"{index:x}", "type": "comment", "createdAt": discussion.date, "author": {"name": author}}
    return event | {"data": {"edited": False, "hidden": False, "latest": {"raw": text}}}
