"""Where the instruction ends: our rule against the tokens spelled out, and against plain sentence-transformers.

``python -m tests.models.test_boundary`` writes the table of ``docs/instructions.md`` anew.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.transformer import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

from hf_posmine.core.errors import InputError
from hf_posmine.models.items import RowError, check_template, read_rows
from tests.models import oracle
from tests.models.conftest import (
    INSTRUCTION,
    REBUILT,
    STYLES,
    byte_level,
    exported,
    random_encoder,
    rebuilt,
    sentencepiece,
    tokens_of,
)

PAGE = Path(__file__).parents[2] / "docs" / "instructions.md"
BEGIN, END = "<!-- table: python -m tests.models.test_boundary -->\n", "<!-- end of the table -->"

TEMPLATES = {"with a space": "{instruction}: {text}", "without": "Instruct: {instruction}\nQuery:{text}"}
CASES = {
    "several words": "who wrote the paper",
    "one token": "why",
    "digits": "42",
    "punctuation": "??",
    "leading spaces": "  who wrote",
    "spaces around": " why \n",
    "unicode": "naïve façade",
    "byte fallback": "中文 ☃",
    "emoji of several code points": "👩‍🔬 who",
    "line break": "\nwhy",
}
TOKENIZERS = {
    **STYLES,
    "byte-level, end token": lambda: byte_level(eos=True),
    "sentencepiece, end token": lambda: sentencepiece(bos=False, eos=True),
    **{cls.__name__: partial(rebuilt, cls) for cls in REBUILT.values()},
}


@pytest.fixture(scope="module")
def models():
    made = {}

    def get(name: str, template: str = TEMPLATES["with a space"]):
        if (name, template) not in made:
            made[name, template] = random_encoder(tokenizer=TOKENIZERS[name](), instruction_template=template)
        return made[name, template]

    return get


def pooled_tokens(model, inputs, prompt=None) -> list[list[bool]]:
    """For each row its attended tokens: is it pooled?"""
    features = model.preprocess(inputs, prompt=prompt)
    attended = features["attention_mask"].bool()
    mask = features.get("instruction_mask", torch.zeros_like(features["attention_mask"]))
    assert not mask[~attended].any()
    return [(row[kept] == 0).tolist() for row, kept in zip(mask, attended, strict=True)]


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_boundary_is_where_the_spelled_tokens_say(models, name, template):
    model = models(name, TEMPLATES[template])
    prefix = TEMPLATES[template].removesuffix("{text}").format(instruction=INSTRUCTION)
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        found = pooled_tokens(model, [(INSTRUCTION, text) for text in CASES.values()])
        for (case, text), mask in zip(CASES.items(), found, strict=True):
            _, keep = tokens_of(model.tokenizer, prefix, text)
            assert mask == keep, (case, side)
            assert 0 < sum(mask) < len(mask), (case, side)
        assert found == pooled_tokens(model, list(CASES.values()), prompt=prefix)
    model.tokenizer.padding_side = "right"


def test_a_token_that_holds_both_is_pooled(models, style):
    model = models(style, "{instruction}{text}")
    assert len(model.tokenizer.tokenize("why")) == 1
    assert pooled_tokens(model, [("wh", "y")]) == [[False, True]]


def test_special_tokens_within_an_instruction_count_to_it(models, style):
    model = models(style, "{instruction}{text}")
    assert pooled_tokens(model, [("why</s>", "who wrote")]) == [[False, False, False, True, True]]


def test_a_special_token_in_front_is_left_out_only_with_an_instruction(models, style):
    assert pooled_tokens(models(style), [("why", "why"), "why"]) == [[False, False, False, True], [True, True]]


def test_settings_of_a_call_do_not_cost_the_mask(encoder):
    """A TypeError here would make sentence-transformers try again with the prompt as part of the text."""
    bare = encoder.preprocess(["why"], prompt="why: ", processing_kwargs={"text": {"add_special_tokens": False}})
    assert bare["instruction_mask"].tolist() == [[1, 1, 0]]
    short = encoder.preprocess(["why " * 9], prompt="why: ", processing_kwargs={"text": {"max_length": 5}})
    assert short["instruction_mask"].tolist() == [[1, 1, 1, 0, 0]]
    other = encoder.preprocess(["why"], prompt="why: ", unhashable=["x"])
    assert other["instruction_mask"].tolist() == [[1, 1, 1, 0]]


texts = st.text(max_size=12).filter(str.strip)
instructions = st.text(st.characters(exclude_characters="▁", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(st.tuples(instructions, texts), min_size=1, max_size=3))
@example([("ﬁ é", "é")])
@example([(" ", "why")])
@settings(max_examples=60, deadline=None)
def test_the_vector_is_the_mean_of_the_tokens_behind_the_instruction(rows):
    for style in STYLES:
        model = property_models()[style]
        prefixes = [f"{instruction}: " if instruction else "" for instruction, _ in rows]
        with torch.inference_mode():
            features = model(model.preprocess(rows))
        for row, (_, text) in enumerate(rows):
            _, keep = tokens_of(model.tokenizer, prefixes[row], text)
            states = features["token_embeddings"][row][features["attention_mask"][row].bool()].double().numpy()
            mean = states[np.array(keep)].mean(axis=0)
            np.testing.assert_allclose(
                features["sentence_embedding"][row], mean / np.linalg.norm(mean), rtol=0, atol=1e-5
            )


_property_models: dict = {}


def property_models():
    if not _property_models:
        _property_models.update({name: random_encoder(tokenizer=make()) for name, make in STYLES.items()})
    return _property_models


@pytest.mark.parametrize("bad", ["", "  ", "\n"])
def test_an_empty_text_is_an_error_that_names_the_row(encoder, bad):
    with pytest.raises(RowError, match=r"row 2: the text is empty .*drop the row"):
        encoder.encode_query(["a long text that comes first when sorted", ("why", "why"), bad])
    with pytest.raises(RowError, match=r"row 1: the text is empty"):
        encoder.encode(["why", ("why", bad)])


def test_an_instruction_that_fills_the_length_is_an_error_that_names_the_row(encoder):
    rows = ["who wrote the paper about hard negatives", ("why " * 300, "who wrote"), "why"]
    with pytest.raises(
        RowError, match=r"row 1: the instruction leaves no room for the text: 192 tokens hold .*shorten it"
    ):
        encoder.encode_query(rows)
    with pytest.raises(RowError, match=r"row 0: the instruction leaves no room.*512 tokens"):
        encoder.encode_document([("why " * 600, "who wrote")])
    with pytest.raises(RowError, match=r"row 1: the instruction leaves no room"):
        encoder.encode_by_tokens(rows, "query")


def test_a_long_text_is_cut_behind_its_instruction(encoder):
    long = encoder.preprocess(["why " * 300], prompt="why: ", task="query")
    assert long["attention_mask"].sum() == 192
    assert (1 - long["instruction_mask"]).sum() == 192 - 3  # <s> why :


def test_a_text_without_tokens_is_an_error_that_names_the_row():
    model = random_encoder(tokenizer=sentencepiece(bos=False), query_instruction=None)
    from tokenizers import normalizers

    tokenizer = model.tokenizer.backend_tokenizer
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace("☃", ""), normalizers.Strip()])
    with pytest.raises(RowError, match=r"row 1: the tokenizer finds no token in '☃'; drop the row"):
        model.encode(["why", "☃"])


@pytest.mark.parametrize(
    "template", ["{text}", "{instruction}", "{text} {instruction}", "{instruction}: {text}.", "{0}{text}", "a"]
)
def test_a_template_ends_in_the_text(template):
    with pytest.raises(InputError, match=r"must hold \{instruction\} once and end in \{text\}"):
        check_template(template)


def test_rows_come_as_strings_pairs_and_dicts(encoder):
    template = "{instruction}: {text}"
    rows = ["q", ("i", "q"), ["i", "q"], {"instruction": "i", "text": "q"}, {"text": "q"}, (None, "q"), ("", "q")]
    prefixes = [row.prefix for row in read_rows(rows, "p ", template)]
    assert prefixes == ["p ", "i: ", "i: ", "i: ", "p ", "p ", ""]
    assert read_rows([("i", 3)], None, template) is None
    assert read_rows([{"text": "q", "image": "i"}], None, template) is None
    assert read_rows([("a", "b", "c")], None, template) is None


# what plain sentence-transformers does with the same rows -----------------------------------------------------------


def stock_of(model, tokenizer) -> SentenceTransformer:
    """The same backbone under sentence-transformers' own modules and the tokenizer as it came."""
    transformer = Transformer.__new__(Transformer)
    transformer.__dict__.update(model[0].__dict__)
    transformer.processor, transformer._prompt_length_mapping = tokenizer, {}
    width = model[0].get_embedding_dimension()
    pooling = Pooling(width, "mean", include_prompt=False)
    stock = SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")
    stock.max_seq_length = model.max_seq_length
    return stock


SPACE, TASK = f"{INSTRUCTION}: ", f"Instruct: {INSTRUCTION}\nQuery:"
STOCK_CASES = [
    ("one-token query", "sentencepiece", SPACE, "why"),
    ("one-token query", "byte-level", SPACE, "why"),
    ("several words", "sentencepiece", SPACE, "who wrote the paper"),
    ("several words", "byte-level", SPACE, "who wrote the paper"),
    ("digits", "sentencepiece", SPACE, "42"),
    ("digits", "byte-level", SPACE, "42"),
    ("punctuation", "sentencepiece", SPACE, "??"),
    ("punctuation", "byte-level", SPACE, "??"),
    ("leading spaces", "sentencepiece", SPACE, "  who wrote"),
    ("leading spaces", "byte-level", SPACE, "  who wrote"),
    ("accents", "sentencepiece", SPACE, "é who"),
    ("byte fallback", "sentencepiece", SPACE, "中"),
    ("several bytes", "byte-level", SPACE, "中"),
    ("end token", "byte-level, end token", SPACE, "why"),
    ("no space in the template", "sentencepiece", TASK, "why"),
    ("no space in the template", "byte-level", TASK, "why"),
    ("prompt ends in a special token", "byte-level", "why</s>", "who"),
    ("instruction longer than the limit", "sentencepiece", "why " * 600, "who wrote"),
    ("empty text", "sentencepiece", SPACE, ""),
]


def stock_table(get) -> list[str]:
    """Lines of the table: what stock modules leave out of the mean, and where their vectors point."""
    return [
        "| case | tokenizer | text | tokens before the text | stock leaves out | cosine of stock with the right vector | here |",
        "|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(stock_line(get(name), *case))} |" for case in STOCK_CASES for name in case[1:2]),
    ]


def stock_line(model, case: str, name: str, prompt: str, text: str) -> list[str]:
    stock = stock_of(model, TOKENIZERS[name]())
    vector = stock.encode([text], prompt=prompt)[0]
    measured = stock.preprocess([text], prompt=prompt)["prompt_length"]
    start = [case, name, f"`{text}`" if text else "(empty)"]
    try:
        ours = model.encode([text], prompt=prompt)[0]
    except RowError:
        assert not vector.any()
        return [*start, "-", "all", "zero vector", "an error that names the row"]
    right, before = right_vector(model, prompt, text)
    here, there = f"{ours @ right:.2f}", f"{vector @ right:.2f}" if vector.any() else "zero vector"
    return [*start, str(before), str(measured), there, here]


def right_vector(model, prompt: str, text: str) -> tuple[np.ndarray, int]:
    ids, keep = tokens_of(model.tokenizer, prompt, text)
    if prompt.endswith("</s>"):
        keep = [number > ids.index(2) for number in range(len(ids))]  # spelled as bytes it would be text
    return oracle.masked_mean(oracle.hidden_states(*exported(model), ids), keep), keep.index(True)


def test_the_page_shows_what_stock_modules_do(models):
    table = stock_table(models)
    assert all(line.endswith(("| 1.00 |", "names the row |")) for line in table[2:])
    assert PAGE.read_text("utf8").split(BEGIN)[1].split(END)[0].splitlines() == table


def test_stock_modules_take_a_pair_for_two_texts(encoder):
    """So instructions for each row need the class: a plain SentenceTransformer embeds something else, without a word."""
    stock = stock_of(encoder, sentencepiece())
    assert stock.preprocess([(INSTRUCTION, "why")])["input_ids"][0].tolist().count(1) == 2
    assert encoder.preprocess([(INSTRUCTION, "why")])["input_ids"][0].tolist().count(1) == 1


if __name__ == "__main__":
    made = {}

    def kept(name: str):
        return made.setdefault(name, random_encoder(tokenizer=TOKENIZERS[name]()))

    before, rest = PAGE.read_text("utf8").split(BEGIN)
    PAGE.write_text(
        "".join([before, BEGIN, *(line + "\n" for line in stock_table(kept)), END, rest.split(END)[1]]), "utf8"
    )
