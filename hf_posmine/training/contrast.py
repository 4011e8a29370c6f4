"""InfoNCE as a function of embeddings: who is contrasted with whom, and which in-batch pairs are false negatives."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, get_args

import torch
import torch.nn.functional as F
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank, get_world_size

from hf_posmine.core.check import is_number
from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.training.ceilings import check_ceiling
from hf_posmine.training.contrast_options import Direction, Hardness, SeveralPositives
from hf_posmine.training.distillation import Distillation, distilled
from hf_posmine.training.row_labels import RowIdentity
from hf_posmine.training.several_positives import log_total, positive_losses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from hf_posmine.core.types import Filter

MASK_REASONS = ("same_text", "same_query", "above_ceiling")


@dataclass(frozen=True)
class Contrast:
    """What a query is contrasted with, and how sharply.

    Attributes:
        temperature: the cosine similarities are divided by it.
        in_batch_negatives: whether the other rows' documents are negatives, for rows without that column.
        false_negatives: a filter with a ceiling; other rows' documents that are not strictly below it are left out.
        gather_across_devices: whether the other processes' rows belong to the batch.
        distillation: of the rows' scores, mixed with the contrast.
        directions: what else is contrasted with query and positive, in one softmax (as in GTE, arXiv 2308.03281).
        hardness_mode: negatives whose logits grow by ``hardness_strength`` times their cosine (arXiv 2509.20354).
        hardness_strength: see ``hardness_mode``.
        several_positives: how the positives of one row are learnt, see :func:`row_losses`.
    """

    temperature: float = 0.02
    in_batch_negatives: bool = True
    false_negatives: Filter | None = None
    gather_across_devices: bool = False
    distillation: Distillation | None = None
    directions: tuple[Direction, ...] = ("query_to_doc",)
    hardness_mode: Hardness | None = None
    hardness_strength: float = 0.0
    several_positives: SeveralPositives = "rows"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise SpecError(f"temperature {self.temperature!r} must be a number above 0, such as 0.02")
        if self.false_negatives is not None:
            check_ceiling(self.false_negatives)
        known = get_args(Direction)
        if "query_to_doc" not in self.directions or not set(self.directions) <= set(known):
            raise SpecError(f"directions={self.directions!r}; give query_to_doc, and any of {list(known[1:])}")
        if self.hardness_mode not in (None, *get_args(Hardness)):
            raise SpecError(f"hardness_mode={self.hardness_mode!r}; choose one of {list(get_args(Hardness))}")
        if not is_number(self.hardness_strength) or (self.hardness_strength > 0) != (self.hardness_mode is not None):
            raise SpecError(
                f"hardness_strength={self.hardness_strength!r} with hardness_mode={self.hardness_mode!r}; give both, the "
                "strength above 0, or neither"
            )
        if self.several_positives not in get_args(SeveralPositives):
            raise SpecError(
                f"several_positives={self.several_positives!r}; choose one of {list(get_args(SeveralPositives))}"
            )
        if self.distillation is not None and self.several_positives != "rows":
            raise SpecError(
                f"several_positives={self.several_positives!r} with distillation, which has the scores of one positive; leave "
                "one of them out"
            )


@dataclass(frozen=True)
class ContrastBatch:
    """Embeddings of unit length, and who is who.

    Attributes:
        queries: ``[b, d]``, the queries of this process.
        documents: ``[B, n, d]``, of the whole batch (of all processes when gathered), the positives first.
        rows: int64 ``[b]``, which of the B rows each query is.
        identity: of the whole batch.
        others: ``[B, d]``, the queries of the whole batch, where a direction needs them.
    """

    queries: Tensor
    documents: Tensor
    rows: Tensor
    identity: RowIdentity
    others: Tensor | None = None

    @classmethod
    def of(cls, columns: Sequence[Tensor], labels: Tensor | None, contrast: Contrast) -> ContrastBatch:
        """Put a batch together from the embeddings ``[b, d]`` of each column.

        Raises:
            InputError: no document column, labels of another kind, or a row that has nothing to be contrasted with.
        """
        if len(columns) < 2:  # noqa: PLR2004
            raise InputError(
                f"contrastive losses need a query column and at least one document column, got {len(columns)}"
            )
        queries, documents = _unit(columns[0]), _unit(torch.stack(list(columns[1:]), dim=1))
        rows = torch.arange(len(queries), device=queries.device)
        others = queries if {"query_to_query", "doc_to_query"} & set(contrast.directions) else None
        # Rows decide for themselves only with labels, which all processes have or none: so all gather or none does.
        wanted = labels is not None or contrast.in_batch_negatives
        if contrast.gather_across_devices and wanted and get_world_size() > 1:
            rows = rows + get_rank() * len(queries)
            documents = all_gather_with_grad(documents)
            others = None if others is None else all_gather_with_grad(others)
            labels = None if labels is None else all_gather(labels)
        total, n = documents.shape[:2]
        if labels is None:
            identity = RowIdentity.distinct(total, n, contrast.in_batch_negatives, queries.device)
        else:
            identity = RowIdentity.from_labels(labels, n, contrast.in_batch_negatives)
        if identity.positives > 1 and contrast.several_positives not in ("mean", "log_sum_exp"):
            raise InputError(
                f"rows with {identity.positives} positive columns and several_positives={contrast.several_positives!r}; choose "
                "'mean' or 'log_sum_exp'"
            )
        if n == identity.positives and (total == 1 or not bool(identity.in_batch.all())):
            raise InputError(
                f"a batch of {total} rows has no negative columns, and a row without in-batch negatives, or "
                "alone in its batch, has nothing to be contrasted with; mine negatives, switch in-batch negatives on, "
                "or raise the batch size"
            )
        return cls(queries, documents, rows, identity, others)

    def take(self, part: slice) -> ContrastBatch:
        """Some of the queries against the same documents."""
        return replace(self, queries=self.queries[part], rows=self.rows[part])

    def leaves(self) -> ContrastBatch:
        """The same embeddings cut from whatever they were computed from, to collect gradients."""
        return replace(
            self,
            queries=self.queries.detach().requires_grad_(),
            documents=self.documents.detach().requires_grad_(),
            others=None if self.others is None else self.others.detach().requires_grad_(),
        )

    @property
    def embeddings(self) -> list[Tensor]:
        """Everything that a loss has a gradient for: queries, documents and, where there are any, others."""
        return [self.queries, self.documents, *([] if self.others is None else [self.others])]


def row_losses(batch: ContrastBatch, contrast: Contrast) -> tuple[Tensor, Tensor]:
    """InfoNCE of each query: cross entropy of its positive among its candidates (paper, section 2).

    The candidates of row i are its positive, its own negatives and, where it takes in-batch negatives, all documents
    of the other rows except

    1. documents with the text of one of its positives or of its query,
    2. positives of rows with the same query,
    3. documents whose cosine similarity (float32, detached) is not strictly below
       ``false_negatives.ceiling(similarity of its lowest positive)``: the mining rule applied inside the batch, by the
       guide's vectors where the batch has them, else by the model in training.

    A row with several positives has the loss of :func:`~hf_posmine.training.several_positives.positive_losses`; none of
    its positives is a candidate beside another.

    Its own negatives always stay: they were mined below the teacher's ceiling. The other directions leave out pairs of the
    same row and of equal texts. Rows with scores mix in their distillation, see
    :func:`~hf_posmine.training.distillation.distilled`.

    Returns:
        The losses ``[b]``, and int64 ``[4]``: in-batch pairs, and how many each reason left out (the first that holds
        counts).
    """
    device = batch.queries.device.type
    with torch.autocast(device, enabled=False):  # bfloat16 similarities have three digits, before the temperature
        similarity = batch.queries @ batch.documents.flatten(0, 1).T  # [b, d] x [d, B * n] -> [b, B * n]
        n = batch.documents.size(1)
        kept, counts = _kept(_judged(similarity, batch), batch, contrast.false_negatives)
        logits = similarity / contrast.temperature
        if contrast.hardness_mode is not None:
            logits = logits + contrast.hardness_strength * _hardness(similarity, batch, contrast.hardness_mode)
        if batch.identity.positives > 1:
            return _of_several(logits, kept, batch, contrast), counts
        left_out = ~kept & (torch.arange(kept.size(1), device=kept.device) // n != batch.rows[:, None])
        blocks = [logits.masked_fill(left_out, -torch.inf), *_other_directions(batch, contrast)]
        # The positives are in the first block, so their columns are those of its documents.
        losses = F.cross_entropy(torch.cat(blocks, dim=1), batch.rows * n, reduction="none")
        if contrast.distillation is not None and batch.identity.scores is not None:
            own = similarity.gather(1, batch.rows[:, None] * n + torch.arange(n, device=similarity.device))
            scores = batch.identity.scores[batch.rows]
            losses = distilled(losses, own, scores, contrast.temperature, contrast.distillation)
        return losses, counts


def _of_several(logits: Tensor, kept: Tensor, batch: ContrastBatch, contrast: Contrast) -> Tensor:
    """The losses ``[b]`` of rows with P positive columns, from logits ``[b, B * n]`` and which in-batch pairs are kept."""
    n, count = batch.documents.size(1), batch.identity.positives
    own = batch.rows[:, None] * n + torch.arange(n, device=logits.device)  # [b, n]
    negatives = logits.masked_fill(~kept.scatter(1, own[:, count:], True), -torch.inf)
    if len(contrast.directions) == 1:
        against = log_total(negatives)[:, None].expand(-1, count)
    else:  # the other directions start from one positive each
        blocks = [[negatives, *_other_directions(batch, contrast, which)] for which in range(count)]
        against = torch.stack([log_total(torch.cat(block, dim=1)) for block in blocks], dim=1)
    copies = batch.identity.copies[batch.rows, :count]
    return positive_losses(logits.gather(1, own[:, :count]), against, ~copies, contrast.several_positives)


def _judged(similarity: Tensor, batch: ContrastBatch) -> Tensor:
    """The similarities float32 ``[b, B * n]`` that are compared with the ceiling: the guide's, else the student's."""
    queries, documents = batch.identity.guide_queries, batch.identity.guide_documents
    if queries is None or documents is None:
        return similarity.detach().float()
    return queries[batch.rows] @ documents.flatten(0, 1).T


def _hardness(similarity: Tensor, batch: ContrastBatch, mode: Hardness) -> Tensor:
    """The cosines ``[b, B * n]`` of the negatives that are weighted, without gradient; 0 elsewhere."""
    n = batch.documents.size(1)
    column = torch.arange(similarity.size(1), device=similarity.device)
    own = column // n == batch.rows[:, None]
    hard = own & (column % n >= batch.identity.positives)
    weighted = {"in_batch_negatives": ~own, "hard_negatives": hard, "all_negatives": hard | ~own}[mode]
    return similarity.detach().masked_fill(~weighted, 0.0)


def _other_directions(batch: ContrastBatch, contrast: Contrast, which: int = 0) -> list[Tensor]:
    """Logits ``[b, m]`` of the directions beside ``query_to_doc`` (GTE, arXiv 2308.03281, equation 2).

    Pairs of equal texts and of one row are -inf, but for the row's own query and positive in ``doc_to_query``.
    ``which`` of the row's positives is its own document.
    """
    identity, rows = batch.identity, batch.rows
    n, total = batch.documents.size(1), len(batch.documents)
    positives = batch.documents[rows, which]
    own_texts = torch.cat([identity.query[rows, None], identity.positive_keys[rows]], dim=1)
    every = torch.arange(total, device=rows.device)
    other = (every != rows[:, None]) & identity.in_batch[rows, None]  # [b, B]
    found = []
    for direction in contrast.directions:
        if direction == "query_to_doc":
            continue
        if direction == "doc_to_doc":
            logits = positives @ batch.documents.flatten(0, 1).T
            texts, kept = identity.documents.flatten(), other.repeat_interleave(n, dim=1) & ~identity.copies.flatten()
        else:
            logits = (batch.queries if direction == "query_to_query" else positives) @ batch.others.T  # type: ignore[union-attr]
            texts, kept = identity.query, other
        kept = kept & ~_among(texts, own_texts)
        if direction == "doc_to_query":  # the row's own pair counts a second time, as in the paper of GTE
            kept = kept | (every == rows[:, None])
        found.append((logits / contrast.temperature).masked_fill(~kept, -torch.inf))
    return found


def _kept(similarity: Tensor, batch: ContrastBatch, ceiling: Filter | None) -> tuple[Tensor, Tensor]:
    """Which documents of other rows bool ``[b, B * n]`` are negatives, and the counts of :func:`row_losses`."""
    identity, n = batch.identity, batch.documents.size(1)
    column = torch.arange(similarity.size(1), device=similarity.device)
    owner, rows = column // n, batch.rows[:, None]
    texts, query = identity.documents.flatten(), identity.query[rows]
    positive = column % n < identity.positives
    same_text = (texts == query) | _among(texts, identity.positive_keys[batch.rows])
    reasons = [same_text, (identity.query[owner] == query) & positive]
    if ceiling is not None:
        own = similarity.gather(1, rows * n + torch.arange(identity.positives, device=rows.device)).amin(dim=1)
        limit = torch.from_numpy(ceiling.ceiling(own.cpu().numpy())).to(own.device)
        reasons.append(~(similarity < limit[:, None]))
    kept = (owner != rows) & identity.in_batch[rows] & ~identity.copies.flatten()
    counts = [kept.sum()]
    for reason in reasons:
        counts.append((kept & reason).sum())
        kept = kept & ~reason
    counts += [torch.zeros_like(counts[0])] * (1 + len(MASK_REASONS) - len(counts))
    return kept, torch.stack(counts)


def _among(texts: Tensor, own: Tensor) -> Tensor:
    """Which of the texts int64 ``[m]`` are among a row's own ``[b, k]``, bool ``[b, m]``; one of these at a time."""
    found = texts == own[:, :1]
    for at in range(1, own.size(1)):
        found = found | (texts == own[:, at : at + 1])
    return found


class MaskedPairs:
    """How many in-batch pairs of training were left out, by reason; kept on the device until they are read."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def add(self, counts: Tensor) -> None:
        """Count the pairs int64 ``[4]`` of one call of :func:`row_losses`; evaluation does not count."""
        if torch.is_grad_enabled():
            self._counts = counts if self._counts is None else self._counts + counts

    def take(self) -> dict[str, int]:
        """The counts since the last call: ``pairs``, ``same_text``, ``same_query``, ``above_ceiling``."""
        counts = [0] * (1 + len(MASK_REASONS)) if self._counts is None else self._counts.tolist()
        self._counts = None
        return dict(zip(("pairs", *MASK_REASONS), counts, strict=True))


def _unit(embeddings: Tensor) -> Tensor:
    with torch.autocast(embeddings.device.type, enabled=False):
        return F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=-1)
