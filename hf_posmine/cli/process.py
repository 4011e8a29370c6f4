"""Restore what a command changes in its process when it ends: ``main`` is also called from Python."""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING

from hf_posmine.utils.memory import open_files_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


@contextlib.contextmanager
def left_as_found() -> Iterator[None]:
    """Put the environment and the limit of open files back, also after an error."""
    environment = dict(os.environ)
    try:
        with open_files_limit():
            yield
    finally:
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


@contextlib.contextmanager
def without_bars(wanted: bool) -> Iterator[None]:
    """Switch the progress bars of ``datasets`` and ``transformers`` off, and on again if they were; neither is imported for it."""
    if not wanted:
        yield
        return
    with contextlib.ExitStack() as shown:
        hook = _AfterImport({name: partial(hide, shown=shown) for name, hide in BARS.items()})
        for name in BARS.keys() & sys.modules.keys():
            hook.actions.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, hook)
        shown.callback(sys.meta_path.remove, hook)
        yield


def _hide_of_datasets(module: ModuleType, shown: contextlib.ExitStack) -> None:
    if not module.are_progress_bars_disabled():
        module.disable_progress_bars()
        shown.callback(module.enable_progress_bars)


def _hide_of_transformers(module: ModuleType, shown: contextlib.ExitStack) -> None:
    if module.is_progress_bar_enabled():
        module.disable_progress_bar()
        shown.callback(module.enable_progress_bar)


BARS: dict[str, Callable[..., None]] = {
    "datasets.utils.tqdm": _hide_of_datasets,
    "transformers.utils.logging": _hide_of_transformers,
}
"""The modules that switch bars, and what hides theirs until the stack is closed."""


class _AfterImport(MetaPathFinder):
    """Acts on modules when they are imported for the first time, once each.

    Attributes:
        actions: by the name of a module.
    """

    def __init__(self, actions: dict[str, Callable[[ModuleType], object]]) -> None:
        self.actions = actions

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Where every other finder would find the module, with a loader that acts afterwards."""
        action = self.actions.pop(fullname, None)
        spec = None if action is None else PathFinder.find_spec(fullname, path, target)
        if action is not None and spec is not None and spec.loader is not None:
            spec.loader = _Then(spec.loader, action)
        return spec


class _Then(Loader):
    """A loader that acts on the module it loaded."""

    def __init__(self, loader: Loader, action: Callable[[ModuleType], object]) -> None:
        self.loader, self.action = loader, action

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the loader does, then act."""
        self.loader.exec_module(module)
        self.action(module)
