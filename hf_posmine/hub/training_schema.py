"""The types, ranges and sizes of the record of a trained model, checked before any of it is used."""

from __future__ import annotations

from hf_posmine.utils.typed_json import fields, items, mapping, number, optional, plain, text, whole

NAME = text(1_024)
COUNT = whole(0, 2**40)
TRAINED_ON = fields(
    {
        **dict.fromkeys(("name", "path", "split", "task", "digest"), NAME),
        **dict.fromkeys(("config", "revision"), optional(NAME)),
        "instruction": text(lines=True),
        "rows": COUNT,
    },
    {"mined": optional(mapping(plain)), "columns": mapping(optional(NAME)), "num_negatives": optional(COUNT)},
)
EVALUATION = fields(
    {"collection": NAME, "measure": NAME, "mean": number, "low": number, "high": number, "queries": COUNT}
)
TRAINING = fields(
    {
        "created": text(64),
        "base": optional(NAME),
        "base_commit": optional(text(64)),
        "model_digest": text(256),
        "prompts": mapping(text(lines=True), text(64), 256),
        "similarity": text(64),
        "stages": items(
            fields(
                {
                    "recipe": mapping(plain),
                    "steps": COUNT,
                    "datasets": items(TRAINED_ON, 1_024),
                    "evaluation": items(EVALUATION, 1_024),
                }
            ),
            256,
        ),
    },
    {"versions": mapping(text(256), text(128), 256)},
)
