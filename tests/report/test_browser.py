"""The page in a real Chromium: it opens from a file, asks nothing of a network, and works with the keyboard alone."""

from __future__ import annotations

import contextlib

import pytest
from datasets import Dataset, DatasetDict

from hf_posmine.report import MinedRows, make_report
from tests.report import chromium
from tests.report.made import at_random, by_hand, mined
from tests.report.test_comparison import remined
from tests.report.test_page import HOSTILE

pytestmark = pytest.mark.skipif(chromium.missing() is not None, reason=str(chromium.missing()))

ROWS = 120
ENOUGH_CONTRAST = 4.5


@pytest.fixture(scope="module")
def running():
    with chromium.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def rows():
    return at_random(ROWS, 70)


@pytest.fixture(scope="module")
def other(rows):
    return remined(rows, 71)


@pytest.fixture(scope="module")
def pages(tmp_path_factory, rows, other):
    """Pages on disk, by name."""
    folder = tmp_path_factory.mktemp("pages")
    hostile = by_hand().map(
        lambda row: {"query": HOSTILE + row["query"], "negatives": [HOSTILE + n for n in row["negatives"]]}
    )
    made = {
        "random": make_report(mined(rows)),
        "compared": make_report(mined(rows, name="one"), mined(other.select(range(ROWS - 10)), name="two")),
        "hand": make_report(mined(by_hand())),
        "hostile": make_report(mined(hostile, name=HOSTILE)),
        "splits": make_report(mined(DatasetDict(train=by_hand(), test=by_hand().select(range(2))))),
        "minimal": make_report(
            MinedRows.of(Dataset.from_dict({"query": ["a"], "positive_id": ["1"], "negatives": [["x"]]}))
        ),
    }
    for name, report in made.items():
        (folder / f"{name}.html").write_text(report.html, "utf8")
    return {name: (folder / f"{name}.html").as_uri() for name in made}


@contextlib.contextmanager
def opened(browser, address, **options):
    """A tab with the page, of which every request and every complaint is kept."""
    context = browser.new_context(**options)
    tab = context.new_page()
    tab.asked, tab.complaints = [], []
    tab.on("request", lambda request: tab.asked.append(request.url))
    tab.on("console", lambda message: tab.complaints.append(message.text))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.complaints.append(dialog.message), dialog.dismiss()))
    tab.goto(address)
    if options.get("java_script_enabled", True):
        tab.locator("html[data-ready]").wait_for(state="attached")
    yield tab
    context.close()


@pytest.fixture
def tab(running, pages, request):
    """A tab with the page that the test names with ``pytest.mark.parametrize("tab", [...], indirect=True)``."""
    with opened(running, pages[getattr(request, "param", "random")]) as tab:
        yield tab
        assert tab.complaints == []


def numbers(tab):
    """The row numbers on this page of the table."""
    return [int(text.replace(",", "").split()[-1]) for text in tab.locator("#table tbody th button").all_inner_texts()]


def found(tab, wanted):
    """Wait until the table is drawn, then give the numbers of its rows, of which it must say how many it has."""
    tab.locator("#table:not([aria-busy])").wait_for()
    said = tab.get_by_role("status").inner_text()
    assert said.startswith(f"{wanted} of " if wanted else "No row"), said
    return numbers(tab)


def texts_of(row):
    return [row["query"], row["positive"], *row["negatives"]]


@pytest.mark.parametrize("name", ["random", "compared", "hand", "hostile", "splits", "minimal"])
def test_it_opens_from_a_file_without_a_word_and_without_a_network(running, pages, name):
    with opened(running, pages[name]) as tab:
        assert [url for url in tab.asked if url != pages[name] and url != "data:,"] == []
        assert tab.complaints == []
        assert (
            tab.get_by_role("status").inner_text().endswith(" of 1")
            or "page 1 of" in tab.get_by_role("status").inner_text()
        )
        assert tab.locator("#table tbody tr").count() > 0


def test_hostile_texts_are_shown_as_they_are(running, pages):
    with opened(running, pages["hostile"]) as tab:
        tab.get_by_role("button", name="Row 0").click()
        shown = tab.locator("#table .detail dd p").all_inner_texts()
        assert " ".join(f"{HOSTILE}capital of France".split()) in [" ".join(text.split()) for text in shown]
        tab.fill("#search", "alert(1)")
        found(tab, 5)
        assert tab.locator("mark", has_text="alert(1)").count() > 0
        assert tab.complaints == [] and tab.locator("img").count() == 0


@pytest.mark.parametrize("word", ["cat", "CAT dog", '"cat dog"', "nothing at all"])
def test_search_finds_the_rows_that_hold_every_word(tab, rows, word):
    phrase = word.startswith('"')
    wanted = [word.strip('"')] if phrase else word.lower().split()
    held = [i for i, row in enumerate(rows) if all(any(w in text for text in texts_of(row)) for w in wanted)]
    tab.select_option("#size", "100")
    tab.fill("#search", word)
    assert found(tab, len(held)) == held[:100]


PARTS = {
    "query": lambda row: [row["query"]],
    "positives": lambda row: [row["positive"]],
    "negatives": lambda row: row["negatives"],
}


@pytest.mark.parametrize("where", PARTS)
def test_search_in_one_kind_of_text(tab, rows, where):
    held = [i for i, row in enumerate(rows) if any("river" in text for text in PARTS[where](row))]
    tab.select_option("#size", "100")
    tab.select_option("#where", where)
    tab.fill("#search", "river")
    assert found(tab, len(held)) == held


@pytest.mark.parametrize("tab", ["hand"], indirect=True)
def test_search_by_number_and_by_id(tab):
    tab.fill("#search", "#3")
    assert found(tab, 1) == [3]
    tab.fill("#search", "jup")
    assert found(tab, 1) == [1]  # no other text has it
    tab.fill("#search", "lyon")
    assert found(tab, 2) == [0, 4]


@pytest.mark.parametrize("tab", ["hand"], indirect=True)
def test_a_kind_of_suspicion_filters_and_clearing_brings_all_back(tab):
    options = tab.locator("#kind option").all_inner_texts()
    assert "Near duplicates of the positive (2)" in options
    tab.select_option("#kind", label="Near duplicates of the positive (2)")
    assert found(tab, 2) == [0, 1]
    tab.get_by_role("button", name="Clear").click()
    assert found(tab, 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("tab", ["splits"], indirect=True)
def test_a_split_filters(tab):
    tab.select_option("#split", label="test")
    assert found(tab, 2) == [0, 1]
    assert tab.locator("#table tbody th button").first.inner_text().endswith("test 0")


def test_headings_sort_both_ways_and_rows_without_a_value_come_last(tab, rows):
    margins = [
        min((row["positive_score"] - s for s in row["negatives_scores"] if s is not None), default=None) for row in rows
    ]
    there = sorted((i for i in range(ROWS) if margins[i] is not None), key=lambda i: margins[i])
    missing = [i for i in range(ROWS) if margins[i] is None]
    tab.select_option("#size", "100")
    head = tab.get_by_role("columnheader", name="Margin")
    head.get_by_role("button").click()
    assert numbers(tab) == (there + missing)[:100] and head.get_attribute("aria-sort") == "ascending"
    head.get_by_role("button").click()
    assert numbers(tab) == (there[::-1] + missing)[:100] and head.get_attribute("aria-sort") == "descending"
    tab.get_by_role("button", name="Query").click()
    assert numbers(tab) == sorted(range(ROWS), key=lambda i: rows[i]["query"])[:100]
    assert head.get_attribute("aria-sort") is None


def test_pages_turn(tab):
    assert numbers(tab) == list(range(25))
    assert tab.get_by_role("button", name="Previous").is_disabled()
    tab.get_by_role("button", name="Next").click()
    assert numbers(tab) == list(range(25, 50)) and "page 2 of 5" in tab.get_by_role("status").inner_text()
    tab.get_by_role("button", name="Last").click()
    assert numbers(tab) == list(range(100, ROWS)) and tab.get_by_role("button", name="Next").is_disabled()


def test_everything_works_with_the_keyboard_alone(tab, rows):
    tab.keyboard.press("Tab")
    assert tab.locator(":focus").inner_text() == "Skip to the table of rows"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.locator(":focus").get_attribute("id") == "search"
    held = [i for i, row in enumerate(rows) if any("stone" in text for text in texts_of(row))]
    tab.keyboard.type("stone")
    found(tab, len(held))
    tab.keyboard.press("ArrowDown")
    assert tab.locator(":focus").get_attribute("aria-label") == f"Row {held[0]}"
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    button = tab.locator(":focus")
    assert button.get_attribute("aria-label") == f"Row {held[1]}" and button.get_attribute("aria-expanded") == "true"
    detail = tab.locator(f"#{button.get_attribute('aria-controls')}")
    assert rows[held[1]]["positive"] in detail.inner_text()
    tab.keyboard.press("Enter")
    assert detail.count() == 0 and button.get_attribute("aria-expanded") == "false"
    for _ in range(2):
        tab.keyboard.press("ArrowUp")
    assert tab.locator(":focus").get_attribute("id") == "search"


def test_arrows_go_on_to_the_next_page_and_slash_goes_to_the_search_field(tab):
    tab.locator("#table tbody th button").last.focus()
    tab.keyboard.press("ArrowDown")
    assert tab.locator(":focus").get_attribute("aria-label") == "Row 25"
    tab.keyboard.press("ArrowUp")
    assert tab.locator(":focus").get_attribute("aria-label") == "Row 24"
    tab.keyboard.press("/")
    assert tab.locator(":focus").get_attribute("id") == "search" and tab.locator("#search").input_value() == ""


def test_a_screen_reader_finds_names_for_everything(tab):
    assert tab.get_by_role("search", name="Rows").count() == 1
    assert tab.get_by_role("searchbox", name="Search").count() == 1
    for name in ("in", "Show", "Per page"):
        assert tab.get_by_role("combobox", name=name, exact=True).count() == 1
    assert tab.get_by_role("status").count() == 1
    assert tab.get_by_role("region", name="All rows").count() >= 1
    assert tab.get_by_role("rowheader", name="Row 3", exact=True).count() == 1
    assert tab.get_by_role("img", name="Ranks").count() == 1
    assert tab.get_by_role("navigation").count() == 2


@pytest.mark.parametrize("tab", ["hand"], indirect=True)
def test_an_example_leads_to_its_row(tab):
    tab.fill("#search", "Mars")
    found(tab, 4)
    tab.locator("#kind-weak").get_by_role("link", name="row 3").click()
    tab.locator("#table .detail").wait_for()
    assert tab.locator(":focus").get_attribute("aria-label") == "Row 3"
    assert "Weak positives" in tab.locator("#table .detail").inner_text() and found(tab, 5) == [0, 1, 2, 3, 4]
    tab.locator("#kind-duplicate").get_by_role("link", name="in the table").click()
    assert found(tab, 2) == [0, 1]


@pytest.mark.parametrize("tab", ["compared"], indirect=True)
def test_a_comparison_shows_what_came_and_what_went(tab, rows, other):
    pairs = [(row["query"], row["positive"]) for row in rows]
    once = [i for i in range(ROWS - 10) if pairs.count(pairs[i]) == 1]
    changed = next(
        i for i in once if rows[i]["negatives"] and set(rows[i]["negatives"]).isdisjoint(other[i]["negatives"])
    )
    tab.select_option("#changed", "changed")
    tab.fill("#search", f"#{changed}")
    assert found(tab, 1) == [changed]
    tab.locator("#table tbody th button").click()
    told = tab.locator("#table .detail").inner_text()
    assert "Only in two" in told and told.count("not in two") == len(rows[changed]["negatives"])
    assert all(text in told for text in other[changed]["negatives"])
    tab.fill("#search", "")
    tab.select_option("#changed", "alone")
    alone = [i for i in range(ROWS - 10, ROWS) if pairs.count(pairs[i]) == 1]
    assert set(alone) <= set(found(tab, 10))


def luminance(colour):
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("light", "print"), ("dark", "print")]
)
def test_text_can_be_read_in_light_dark_and_print(running, pages, scheme, media):
    with opened(running, pages["hand"], color_scheme=scheme) as tab:
        tab.emulate_media(media=media, color_scheme=scheme)
        page = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page < 0.1 if (scheme, media) == ("dark", "screen") else page > 0.9
        for chosen in (
            "h1",
            ".why",
            ".caption",
            "#figures text",
            ".flag",
            ".facts th[scope=row]",
            ".tiles b",
            "#table .score",
        ):
            style = "fill" if chosen == "#figures text" else "color"
            ink = luminance(tab.locator(chosen).first.evaluate(f"e => getComputedStyle(e).{style}"))
            high, low = max(ink, page), min(ink, page)
            assert (high + 0.05) / (low + 0.05) >= ENOUGH_CONTRAST, chosen
        assert tab.locator("#controls").is_visible() == (media == "screen")


def test_nothing_sticks_out_on_a_phone(running, pages):
    with opened(running, pages["compared"], viewport={"width": 390, "height": 800}) as tab:
        tab.locator("#table tbody th button").first.click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= 390
        assert tab.locator("#table").evaluate("e => e.scrollWidth <= e.parentElement.clientWidth")


def test_without_scripts_all_but_the_table_is_there(running, pages):
    with opened(running, pages["hand"], java_script_enabled=False) as tab:
        text = tab.locator("body").inner_text()
        assert "The table needs JavaScript" in text and "2,000 candidates above its ceiling" in text
        assert tab.locator("svg").count() == 4 and not tab.locator("#controls").is_visible()
