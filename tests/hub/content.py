"""Files of the loopback Hub: trees, downloads, large files, and commits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from tests.hub.access import Repos, may_write, readable, writable
from tests.hub.exchange import Request, Response, as_json, ranged
from tests.hub.store import MAIN, Commit, Discussion, Refusal, Repo, card_metadata, git_oid, stored_as_lfs

if TYPE_CHECKING:
    from tests.hub.store import File

SECRET = b"signs the links to the storage host"


class Content:
    """The routes that read and write files. ``url`` is the Hub, ``storage`` another host string of the same server."""

    repos: Repos
    url: str
    storage: str

    # listings

    def tree(self, request: Request, kind: str, repo_id: str, revision: str, folder: str | None) -> Response:
        repo = readable(self.repos, request, kind, repo_id)
        commit, folder = repo.at(revision), (folder or "").strip("/")
        prefix = f"{folder}/" if folder else ""
        inside = [path[len(prefix) :] for path in commit.files if path.startswith(prefix)]
        if folder and not inside:
            raise Refusal(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        names = set(inside)
        for path in inside:
            names |= {path.rsplit("/", depth)[0] for depth in range(1, path.count("/") + 1)}
        if request.query.get("recursive", "false").lower() != "true":
            names = {name for name in names if "/" not in name}
        expand = request.query.get("expand", "false").lower() == "true"
        return as_json([describe(repo, commit, prefix + name, expand) for name in sorted(names)])

    def paths_info(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = readable(self.repos, request, kind, repo_id)
        commit, form = repo.at(revision), request.form
        expand = form.get("expand", ["false"])[0].lower() == "true"
        found = [path for path in form.get("paths", []) if tree_oid(commit.files, path)]
        return as_json([describe(repo, commit, path, expand) for path in found])

    # downloads

    def resolve(self, request: Request, kind: str | None, repo_id: str, revision: str, path: str) -> Response:
        repo = readable(self.repos, request, kind or "models", repo_id)
        commit = repo.at(revision)
        file = commit.files.get(path)
        if file is None:
            raise Refusal(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.oid})
        if file.sha256 is None:
            answer = ranged(file.content, request.headers.get("range"))
            answer.headers |= {"ETag": f'"{file.oid}"', "X-Repo-Commit": commit.oid}
            return answer
        linked = {"X-Repo-Commit": commit.oid, "X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
        return Response(302, b"", linked | {"Location": self.signed("GET", repo, file.sha256)})

    # large files: the storage host knows no tokens, only links that the Hub signed

    def signed(self, method: str, repo: Repo, sha256: str) -> str:
        path = f"/_lfs/{repo.kind}/{repo.id}/{sha256}"
        return f"{self.storage}{path}?signature={_signature(method, path)}"

    def stored(self, request: Request, kind: str, repo_id: str, sha256: str) -> Response:
        """GET and PUT of a large file."""
        method = "PUT" if request.method == "PUT" else "GET"
        if not request.on_storage or "authorization" in request.headers:
            raise Refusal(400, "Only one auth mechanism allowed: the signature of the link")
        if not hmac.compare_digest(request.query.get("signature", ""), _signature(method, request.path)):
            raise Refusal(403, "The signature of the link is wrong")
        repo = self.repos[kind, repo_id]
        if method == "GET":
            answer = ranged(repo.lfs[sha256], request.headers.get("range"))
            answer.headers["ETag"] = f'"{sha256}"'
            return answer
        found = hashlib.sha256(request.body).hexdigest()
        if found != sha256:
            raise Refusal(400, f"The content has sha256 {found}, not {sha256}")
        repo.lfs[sha256] = request.body
        return Response()

    def lfs_batch(self, request: Request, kind: str | None, repo_id: str) -> Response:
        revision = request.json.get("ref", {}).get("name")
        kind = kind or "models"
        if revision is None:  # a pull request to come: its author need not be able to write to a branch
            repo = readable(self.repos, request, kind, repo_id)
            may_write(request, None)
        else:
            repo = writable(self.repos, request, kind, repo_id, revision)
        prefix = "" if kind == "models" else f"{kind}/"
        verify = f"{self.url}/{prefix}{repo_id}.git/info/lfs/objects/verify"
        objects = []
        for wanted in request.json["objects"]:
            upload = {"upload": {"href": self.signed("PUT", repo, wanted["oid"])}, "verify": {"href": verify}}
            objects.append(wanted if wanted["oid"] in repo.lfs else wanted | {"actions": upload})
        return as_json({"transfer": "basic", "objects": objects})

    def lfs_verify(self, request: Request, kind: str | None, repo_id: str) -> Response:
        repo = readable(self.repos, request, kind or "models", repo_id)
        content = repo.lfs.get(request.json["oid"])
        if content is None or len(content) != request.json["size"]:
            raise Refusal(404, "The object was not uploaded, or not all of it")
        return Response()

    # commits

    def preupload(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = writable(self.repos, request, kind, repo_id, revision)
        files, answers = repo.at(revision).files, []
        for wanted in request.json["files"]:
            path, old = wanted["path"], files.get(wanted["path"])
            lfs = stored_as_lfs(files, path, wanted["size"], base64.b64decode(wanted["sample"]))
            answer = {"path": path, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answers.append(answer | ({"oid": old.sha256 or old.oid} if old else {}))
        return as_json({"files": answers})

    def commit(self, request: Request, kind: str, repo_id: str, revision: str) -> Response:
        repo = writable(self.repos, request, kind, repo_id, revision)
        header, *operations = [json.loads(line) for line in request.body.splitlines()]
        header, proposes = header["value"], request.query.get("create_pr") == "1"
        for operation in operations:
            if operation["key"] == "file":
                operation["value"]["content"] = base64.b64decode(operation["value"]["content"])
                if operation["value"]["path"] == "README.md":
                    card_metadata(operation["value"]["content"].decode())
        parent = self._parent(repo, revision, header.get("parentCommit"), proposes)
        files = repo.apply(operations, parent.files)
        made = repo.commit(files, parent.oid, header["summary"], header.get("description", ""), request.user)
        answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{self.page(repo)}/commit/{made.oid}"}
        if proposes:
            pull = open_pull(repo, header["summary"], request.user, parent.oid, made.oid)
            answer["pullRequestUrl"] = f"{self.page(repo)}/discussions/{pull.num}"
        else:
            repo.refs[repo.full_ref(revision)] = made.oid
        return as_json(answer)

    def page(self, repo: Repo) -> str:
        return f"{self.url}/{'' if repo.kind == 'models' else repo.kind + '/'}{repo.id}"

    @staticmethod
    def _parent(repo: Repo, revision: str, expected: str | None, proposes: bool) -> Commit:
        ref, head = repo.full_ref(revision), repo.at(revision)
        if ref is None or ref.startswith("refs/tags/"):
            raise Refusal(400, f"{revision} is not a branch")
        if expected is None or expected == head.oid:
            return head
        if proposes:
            return repo.at(expected)
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")


def open_pull(repo: Repo, title: str, author: str, base: str, head: str, status: str = "open") -> Discussion:
    num = len(repo.discussions) + 1
    pull = Discussion(num, title, author, repo.clock(), status, ref=f"refs/pr/{num}", base=base, target=MAIN)
    repo.refs[pull.ref] = head
    repo.discussions.append(pull)
    return pull


def tree_oid(files: dict[str, File], path: str) -> str | None:
    """The id of a file or folder, None where there is none; equal ids mean equal content."""
    if path in files:
        return files[path].oid
    inside = [f"{name} {file.oid}\n" for name, file in sorted(files.items()) if name.startswith(f"{path}/")]
    return git_oid("".join(inside).encode()) if inside else None


def describe(repo: Repo, commit: Commit, path: str, expand: bool) -> dict[str, Any]:
    file, oid = commit.files.get(path), tree_oid(commit.files, path)
    entry: dict[str, Any] = {"type": "file" if file else "directory", "path": path, "oid": oid, "size": 0}
    if file:
        entry["size"] = file.size
        if file.sha256:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
    if expand:
        while commit.parent and tree_oid(repo.commits[commit.parent].files, path) == oid:
            commit = repo.commits[commit.parent]
        entry["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
    return entry


def _signature(method: str, path: str) -> str:
    return hmac.new(SECRET, f"{method} {path}".encode(), hashlib.sha256).hexdigest()
