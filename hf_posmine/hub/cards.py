"""Cards: the generated part is between two marks, and everything else in a card belongs to its author.

A first push writes a whole card. A later one replaces the part between the marks of its configuration, or adds it at the
end of a card that has none, and leaves every other character as it is. A mark is a line of its own, and every value is
escaped for its place, so that no value can be a mark, leave its cell, code or fence, or open an HTML tag.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.hub.ids import COMMIT, REPO_ID
from hf_posmine.utils.typed_json import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from huggingface_hub import CardData

FOLDER = "model_card_templates"
SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
SIZES_ABOVE = "10M<n<100M"


def render(template: str, facts: Mapping[str, Any]) -> str:
    """A template of ``model_card_templates`` with its facts; a missing one is an error."""
    import jinja2

    loader = jinja2.FileSystemLoader(str(templates()))
    environment = jinja2.Environment(  # Markdown is not HTML: each value has a filter for its place
        loader=loader,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": cell, "code": code, "fenced": fenced, "literal": literal, "prose": prose}
    text = environment.get_template(template).render(**facts)
    return re.sub(r"\n{3,}", "\n\n", text)


def templates() -> Path:
    """The folder of the templates: inside the installed package, or beside it in a checkout."""
    inside = Path(str(resources.files("hf_posmine"))) / FOLDER
    return inside if inside.is_dir() else inside.parent.parent / FOLDER


def cell(value: object) -> str:
    """A value as the cell of a Markdown table or as a part of a line: no new line, no bar, no markup of its own."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", _line(value))


def code(value: object) -> str:
    """A value as inline code that nothing in it can end, also in a table, where a bar would.

    >>> print(code("a`b"))
    ``a`b``
    """
    text = _line(value).replace("|", "\\|")
    if not text:
        return "–"
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def literal(value: str) -> str:
    """A text as a string of Python, in one line."""
    return json.dumps(value, ensure_ascii=False)


def prose(text: str) -> str:
    """Markdown of the author, in which no HTML comment opens: it could be a mark."""
    return text.strip().replace("<!--", "&lt;!--")


def fenced(text: str, language: str = "") -> str:
    """A text in a code fence that nothing in it can close."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def hub_link(path: str, commit: str | None = None, *, dataset: bool = False) -> str:
    """A link to a repository of the Hub, at a commit if one is given; only the text where it is not an id."""
    if not REPO_ID.fullmatch(path) or (commit is not None and not COMMIT.fullmatch(commit)):
        return cell(path)
    url = f"https://huggingface.co/{'datasets/' if dataset else ''}{path}"
    return f"[{cell(path)}]({url})" + (f" at [{code(commit[:8])}]({url}/tree/{commit})" if commit else "")


def _line(value: object) -> str:
    """A text in one line, without control characters."""
    return " ".join(CONTROLS.sub(" ", str(value)).split())


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall(r"`+", text)), default=0)


def size_category(rows: int) -> str:
    """The Hub's name for a number of rows.

    >>> size_category(999), size_category(1000), size_category(20_000_000)
    ('n<1K', '1K<n<10K', '10M<n<100M')
    """
    return next((name for limit, name in SIZES if rows < limit), SIZES_ABOVE)


def marked(name: str, text: str) -> str:
    """A generated part with its marks."""
    return f"{_begin(name)}\n{text.strip()}\n{_end(name)}"


def merge_body(old: str | None, title: str, part: str, name: str) -> str:
    """The card's text with a generated part.

    Args:
        old: the text below the metadata; None for a new card.
        title: heading and opening lines of a new card.
        part: generated part with its marks, see :func:`marked`.
        name: whose part it is: a configuration, or ``model``.
    """
    if old is None or not old.strip():
        return f"\n{title.strip()}\n\n{part}\n"
    found = _part(old, name)
    if found:
        return old[: found.start()] + part + old[found.end() :]
    return f"{old}{'' if old.endswith(chr(10)) else chr(10)}\n{part}\n"


def split_card(readme: str | None) -> tuple[dict[str, Any], str | None]:
    """Metadata and text of a card, the text to the character; ``{}`` and None where there is none."""
    import yaml
    from huggingface_hub.repocard import RepoCard

    if readme is None:
        return {}, None
    if not re.match(r"\s*---[\r\n]", readme):
        return {}, readme
    try:
        card = RepoCard(readme, ignore_metadata_errors=True)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the metadata of the card cannot be read ({reason:.200}); repair it on the Hub") from None
    metadata: Any = card.data
    return metadata.to_dict(), card.text


def join_card(data: CardData, body: str) -> bytes:
    """A whole card."""
    return f"---\n{data.to_yaml()}\n---\n{body}".encode()


def merged_tags(old: Any, new: Sequence[str]) -> list[str]:
    """The old tags, then the new ones that were not there."""
    return list(dict.fromkeys([*([old] if isinstance(old, str) else old or []), *new]))


def part_in(body: str | None, name: str) -> str:
    """The generated part of a card; empty without one."""
    found = _part(body or "", name)
    return found.group(1) if found else ""


def record_in(body: str | None, name: str) -> str | None:
    """The record that a generated part shows, if any; it counts only where it is that of ``provenance.json``."""
    found = re.search(
        r"^<!-- posmine:provenance -->\s*^(`{3,})json\n(.*?)\n\1$", part_in(body, name), re.DOTALL | re.MULTILINE
    )
    return found.group(2) if found else None


def _part(body: str, name: str) -> re.Match[str] | None:
    """The generated part of a configuration: from its begin to its end, with no other begin between them."""
    begin, end = (rf"^{re.escape(mark)}[ \t]*\r?$" for mark in (_begin(name), _end(name)))
    return re.search(rf"{begin}((?:(?!{begin}).)*?){end}", body, re.DOTALL | re.MULTILINE)


def _begin(name: str) -> str:
    return f"<!-- posmine:begin {name} (generated; replaced by the next push) -->"


def _end(name: str) -> str:
    return f"<!-- posmine:end {name} -->"
