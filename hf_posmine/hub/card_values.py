"""Values that an author gives for a card, checked before a push against those the Hub accepts.

The Hub checks a card again when a commit is made (``/api/validate-yaml``), and its answer is final.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
    artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
    cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
    """.split()
)
"""https://huggingface.co/docs/hub/repositories-licenses"""

LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
"""ISO 639-1, 639-2 or 639-3 codes, and the two special values, as in the error of the Hub."""

LONGEST_TAG = 100


@dataclass(frozen=True)
class About:
    """Values that only the author knows; they go into the card.

    Attributes:
        license: of the pushed rows or weights, as the Hub spells it (``apache-2.0``, ``cc-by-sa-4.0``, ``other``).
        language: ISO 639 codes of the texts.
        title: the card's heading; by default the repository's name.
        description: Markdown under the heading.
        tags: more tags.

    Raises:
        InputError: a licence, language or tag that the Hub does not accept.
    """

    license: str | None = None
    language: Sequence[str] | str | None = None
    title: str | None = None
    description: str | None = None
    tags: Sequence[str] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if self.license is not None and self.license not in LICENSES:
            near = difflib.get_close_matches(str(self.license).lower(), LICENSES, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise InputError(
                f"license={self.license!r:.60} is not one that the Hub accepts; {hint}the list is at "
                "https://huggingface.co/docs/hub/repositories-licenses, 'other' is for all that are not in it"
            )
        for language in self.languages or ():
            if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
                raise InputError(
                    f"language={language!r:.60} is not one that the Hub accepts; give ISO 639 codes of two or three letters, "
                    "such as 'en', or 'code' or 'multilingual'"
                )
        for tag in self.tags:
            if not isinstance(tag, str) or not tag.strip() or len(tag) > LONGEST_TAG or not tag.isprintable():
                raise InputError(f"tag {tag!r:.60} is not one line of 1 to {LONGEST_TAG} characters")

    @property
    def languages(self) -> list[str] | None:
        """The language codes as a list."""
        return [self.language] if isinstance(self.language, str) else list(self.language) if self.language else None
