"""The page: one HTML file with its own style and script, which makes no network requests."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

from hf_posmine.data.images import NAME_LENGTH
from hf_posmine.report import examples, figures, overview
from hf_posmine.report.text_table import LINE_TEXTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.report.comparison import MiningComparison
    from hf_posmine.report.payload import Payload
    from hf_posmine.report.sample import TableLimits
    from hf_posmine.report.side import Side

TEMPLATE = "page.html.jinja"


def render(
    side: Side, payload: Payload, limits: TableLimits, other: MiningComparison | None, audit: Mapping[str, str]
) -> str:
    """The page as text; whatever the data hold is escaped.

    Args:
        side: the mined dataset.
        payload: rows of its table.
        limits: what was cut.
        other: another mining of the same rows.
        audit: findings of an audit by title.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": lambda value: f"{value:,}", "percent": overview.percent}
    environment.filters["pictured"] = lambda text: _pictured(text, payload.images)
    style, script = _file("page.css"), _file("page.js")
    facts = _facts(side, payload, limits, other)
    findings = overview.Lines("Findings of the audit", {title: (rows,) for title, rows in audit.items()})
    facts["tables"] = [findings, *facts["tables"]]
    return environment.get_template(TEMPLATE).render(
        **facts, style=style, script=script, style_digest=_digest(style), script_digest=_digest(script)
    )


def _facts(side: Side, payload: Payload, limits: TableLimits, other: MiningComparison | None) -> dict[str, Any]:
    kinds = examples.kinds(side)
    return {
        "name": side.mined.name,
        "summary": side.summary,
        "record": side.mined.record,
        "found_share": overview.found_share(side),
        "tables": overview.overview([side, *([other.side] if other else [])]),
        "missing": overview.missing(side),
        "kinds": kinds,
        "shared": examples.most_shared(side),
        "figures": figures.histograms(side.numbers, other),
        "other": other,
        "changed": [] if other is None else examples.most_changed(side, other),
        "other_name": None if other is None else other.name,
        "payload": payload,
        "limits": limits,
        "meta": {
            "name": side.mined.name,
            "other": None if other is None else other.name,
            "kinds": [{"name": kind.suspects.kind, "title": kind.suspects.title} for kind in kinds],
            "splits": list(side.mined.splits),
            "line": LINE_TEXTS,
            "teachers": list(side.numbers.teacher_names),
        },
    }


def _pictured(text: str, images: Mapping[str, str]) -> str:
    """A text as HTML; one that begins with the name of an image, with its thumbnail in the place of the name."""
    import markupsafe

    name = text[:NAME_LENGTH]
    if name not in images:
        return markupsafe.escape(text)
    image = '<img class="thumb" src="{}" alt="{}" title="{}" loading="lazy">{}'
    return markupsafe.Markup(image).format(images[name], name, name, text[NAME_LENGTH:])


def _file(name: str) -> str:
    return (resources.files("hf_posmine.report") / name).read_text("utf8")


def _digest(text: str) -> str:
    """As a content security policy names what may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
