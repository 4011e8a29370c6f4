"""Print every circle of imports between the modules of hf_posmine, type-only imports included; exit 1 if there is one."""

from __future__ import annotations

import sys

import grimp


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The shortest circle through each import that is part of one, each once."""
    found: dict[frozenset[str], list[str]] = {}
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            back = graph.find_shortest_chain(importer=imported, imported=module)
            if back is not None:
                found.setdefault(frozenset(back), [module, *back])
    return list(found.values())


if __name__ == "__main__":
    all_circles = circles(grimp.build_graph("hf_posmine", exclude_type_checking_imports=False, cache_dir=None))
    for circle in all_circles:
        print(" -> ".join(circle))
    sys.exit(bool(all_circles))
