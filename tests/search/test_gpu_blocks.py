"""Documents on their way to the device. There is no GPU here: streams and events are stand-ins that note what happens."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch

from hf_posmine.encoding.store import Vectors
from hf_posmine.search import gpu_blocks as module
from hf_posmine.search.axis_bounds import AxisBounds
from hf_posmine.search.block_sizes import TorchSizes
from hf_posmine.search.gpu_blocks import GpuBlocks

DOCUMENTS = np.random.default_rng(0).standard_normal((100, 6)).astype(np.float32)
SCALE = np.linspace(0.5, 2, 90).astype(np.float32)


def feed(half=None, *, rows=32, resident=0, vectors=None, cut=(1, 1, 40, 70)) -> GpuBlocks:
    vectors = Vectors(tuple(np.split(DOCUMENTS, cut))) if vectors is None else vectors
    return GpuBlocks(vectors, SCALE, 0.25, TorchSizes(block_rows=rows, resident=resident), "cpu", half)


def expected(half=None) -> torch.Tensor:
    scaled = torch.from_numpy(DOCUMENTS[:90] * (SCALE * np.float32(0.25))[:, None])
    return scaled if half is None else scaled.to(getattr(torch, half))


@pytest.mark.parametrize("half", [None, "float16", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 32, 45, 90, 200])
def test_blocks_are_the_scaled_documents_in_order(half, rows, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    found = list(feed(half, rows=rows))
    assert [start for start, _ in found] == list(range(0, 90, rows))
    assert torch.equal(torch.cat([block for _, block in found]), expected(half))
    assert all(block.dtype == expected(half).dtype for _, block in found)


def test_what_fits_stays_on_the_device_and_is_not_read_again():
    size = 90 * 6 * 2
    for resident, again in ((size, True), (size - 1, False)):
        fed = feed("float16", resident=resident)
        first = list(fed)
        fed.vectors = None  # nothing more can be read
        if again:
            assert all(one is other for (_, one), (_, other) in zip(first, fed, strict=True))
        else:
            with pytest.raises(AttributeError):
                list(fed)


def test_a_pass_that_is_cut_short_keeps_nothing():
    fed = feed(resident=1 << 20)
    next(iter(fed))
    assert torch.equal(torch.cat([block for _, block in fed]), expected())


class Event:
    """Notes its doings; work on the device counts as done when it is waited for."""

    log: list[tuple[str, int]]

    def record(self, stream) -> None:
        self.log.append(("record", id(self)))

    def synchronize(self) -> None:
        self.log.append(("wait", id(self)))


@pytest.fixture
def stand_ins(monkeypatch):
    """What CUDA would do: a list of events, and the events that the caller's stream was told to wait for."""
    Event.log, waited, make = [], [], torch.empty

    class Stream:
        def __init__(self, device=None) -> None: ...

        def wait_event(self, event) -> None:
            waited.append(id(event))

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)

    def pageable(*args, pin_memory=False, **kwargs):
        return make(*args, **kwargs)

    monkeypatch.setattr(torch, "empty", pageable)
    return Event.log, waited


@pytest.mark.parametrize("half", [None, "float16"])
def test_blocks_copied_ahead_are_the_same_and_buffers_wait_for_their_copies(half, stand_ins, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    log, waited = stand_ins
    copy = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *a, **k: copy(tensor, *a, **k).clone()
    )  # as another memory is
    fed = feed(half)
    blocks = list(fed._ahead(range(0, 90, 32)))
    assert torch.equal(torch.cat([block for _, block in blocks]), expected(half))
    assert len(waited) == len(blocks) == 3
    buffers = {event for what, event in log if what == "wait"}
    assert len(buffers) == 2
    for event in buffers:
        turns = [what for what, its in log if its == event]
        assert turns == ["wait", "record"] * (len(turns) // 2)
    assert set(waited) <= {event for what, event in log if what == "record"} - buffers


@pytest.mark.parametrize("half", [None, "float16"])
def test_coordinates_along_axes_stand_behind_the_documents(half, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    axes = AxisBounds.of(np.eye(6)[[4, 1]], "cpu", pair=0)
    vectors = Vectors(tuple(np.split(DOCUMENTS, (1, 40))))
    size = 90 * (6 + axes.width) * (4 if half is None else 2)
    for resident in (size, size - 1):
        fed = GpuBlocks(vectors, SCALE, 0.25, TorchSizes(block_rows=32, resident=resident), "cpu", half, axes)
        found = torch.cat([block for _, block in fed])
        assert torch.equal(found[:, :6], expected(half))
        assert torch.equal(found[:, 6:8], expected(half)[:, [4, 1]])
        others = expected(half)[:, [0, 2, 3, 5]].double().norm(dim=1)
        assert (found[:, 8] >= others).all() and torch.allclose(found[:, 8].double(), others, rtol=2e-3)
        assert fed._complete == (resident == size)
