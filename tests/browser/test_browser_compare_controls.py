"""Every control of Compare in random order: what is shown afterwards is what the address alone gives."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from comparison_by_address import MODES, TABS, Comparisons
from playwright.sync_api import Locator, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from running_app import RunningApp

pytestmark = pytest.mark.browser

SEED = 15
DATA = ("BUSI ultrasound c5d5e351", "mini-MIAS mammography in folds aec19f77")
"""With few cases: one with many scorers and three classes, one whose folds have thresholds of their own."""
MANY = tuple(
    f"ultrasound-{name}" for name in ("vgg16_gap", "plain25", "cnn3", "cnn4", "residual25", "vgg16_dense", "vgg19")
)
PATIENCE_S = 60
CLICK_MS, OPENED_MOST = 5_000, 5
"""A choice that can be clicked is clicked sooner, and a list that closed is opened anew so many times."""
SHOWN = r"""() => {
  const main = document.querySelector('[data-testid="stMain"]');
  const of = key => main.querySelector('.st-key-' + CSS.escape(key));
  const words = one => one.textContent.replace(/\s+/g, ' ').trim();
  const cell = one => { const parts = [...one.querySelectorAll('.value, .interval')];
    return parts.length ? parts.map(words).join(' ') : words(one); };
  const table = name => [...main.querySelectorAll(`.sr-scroll[aria-label="${name}"] tbody tr`)].map(row =>
    [...row.children].map(one => one.tagName === 'TH' ? words(one) : cell(one)));
  const figure = name => of('figure_' + name)?.querySelector('.js-plotly-plot')?._fullData ?? [];
  const named = traces => [...new Set(traces.map(one => one.name))];
  const chosen = key => of(key)?.querySelector('[aria-checked="true"], [data-selected="true"]');
  const field = key => of(key)?.querySelector('input')?.value ?? null;
  const tags = key => of(key) ? [...new Set([...of(key).querySelectorAll('[data-tag]')].map(words))] : [];
  const roc = figure('roc');
  const points = Object.fromEntries(roc.filter(one => one.mode === 'markers' && one.marker.size === 13)
    .map(one => [one.name, [one.x[0].toFixed(6), one.y[0].toFixed(6)]]));
  const said = [...main.querySelectorAll('[data-testid="stCaptionContainer"]')].map(words)
    .find(one => one.startsWith('The points on the curves'));
  const tab = main.querySelector('.st-key-show [role="tab"][aria-selected="true"]');
  return {
    data: field('data'), scorers: tags('scorers'), mode: chosen('mode') ? words(chosen('mode')) : null,
    control: main.querySelector('.st-key-at input, .st-key-specificity input')?.value ?? null, said: said ?? '',
    bands: [!!of('bands')?.querySelector('input:checked, [aria-checked="true"]'),
      roc.filter(one => one.fill && one.fill !== 'none').length],
    points, mean: named(roc).find(one => /^mean of/.test(one)) ?? null,
    picture: chosen('picture') ? words(chosen('picture')) : null,
    measures: table('Scorers and their measures'),
    matrices: [...main.querySelectorAll('.sr-matrices figure')].map(one => [
      one.querySelector('figcaption').childNodes[1].textContent.trim(), ...[...one.querySelectorAll('b')].map(words),
      words(one.querySelector('figcaption > span:last-child')).replace('threshold ', '')]),
    prevalences: table('Predictive values at stated prevalences'), prevalence: field('prevalence'),
    sorted: [...main.querySelectorAll('[data-testid="stDataFrame"] table tbody tr')].map(row =>
      [...row.querySelectorAll('td')].slice(0, 2).map(words)),
    tab: tab ? words(tab) : null,
    parts: {
      Pairs: table('Paired tests'), Calibration: table('Calibration'),
      'Decision curve': named(figure('decision')), Classes: table('Measures over classes'),
      Hybrid: table('Hybrid of two scorers'), Training: named(figure('run-loss')),
      Subgroups: figure('subgroups').filter(one => one.x[0] != null).map(one => [one.name, one.x[0].toFixed(3)]),
    },
    by: field('by'), of: field('of'), first: field('first'), second: field('second'),
  };
}"""


@pytest.fixture(scope="module")
def comparisons() -> Comparisons:
    return Comparisons()


# ---- what is shown, and what has to be ---------------------------------------------------------------------------


def idle(page: Page) -> None:
    page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]').wait_for()


def differences(page: Page, comparisons: Comparisons) -> list[str]:
    """Everything on the page that its address does not give."""
    shown, expected = page.evaluate(SHOWN), comparisons.shown_for(page.url)
    part = shown["parts"].get(expected["tab"], [])
    pairs = [
        (key, shown[key], expected[key]) for key in expected if key not in ("said", "part", "prevalences", "sorted")
    ]
    if expected["scorers"]:
        words = f"The points on the curves, and all counts and shares below: {expected['said']}."
        values = [[row[0], *(cell.split(" ")[0] for cell in row[2:])] for row in shown["prevalences"]]
        pairs += [("said", shown["said"], words), ("prevalences", values, expected["prevalences"])]
        rows = shown["sorted"]  # as many as the grid has drawn
        pairs.append(("sorted", rows, expected["sorted"][: len(rows)]))
        pairs.append((expected["tab"], _part(expected["tab"], shown, part), expected["part"]))
    return [f"{name}: {one} is shown, and {other} follows from the address" for name, one, other in pairs
            if one != other]  # fmt: skip


def _part(tab: str, shown: dict[str, Any], part: Any) -> Any:
    """A tab's content as `Comparisons` gives it."""
    if tab == "Pairs":
        return [[row[0], row[1], row[2].split(" ")[0], row[3]] for row in part]
    if tab == "Calibration":
        return [[row[0], row[-5]] for row in part]
    if tab == "Classes":
        return [[row[0], row[1].split(" ")[0]] for row in part]
    if tab == "Hybrid":
        areas = [[row[0], row[1].split(" ")[0]] for row in part[:3]]
        return [[shown["first"], shown["second"]], *areas] if areas else []
    if tab == "Subgroups":
        return [[shown["by"], shown["of"]], *part] if part else []
    if tab in ("Decision curve", "Training"):
        names = dict.fromkeys(one.removesuffix(", training").removesuffix(", validation") for one in part)
        return [[name for name in names if name in shown["scorers"]]]
    return []


def require_what_the_address_gives(page: Page, comparisons: Comparisons, after: str) -> None:
    """Waits until the page is as its address says; fails with what is not."""
    end = time.monotonic() + PATIENCE_S
    while True:
        idle(page)
        found = differences(page, comparisons)
        if not found:
            return
        if time.monotonic() > end:
            pytest.fail(f"After {after}, at {page.url}:\n" + "\n".join(found))
        page.wait_for_timeout(50)


# ---- the controls ------------------------------------------------------------------------------------------------


class Controls:
    """Each changes one control as a person does, to something that chance gives; what must be there first is made."""

    def __init__(self, page: Page, chance: random.Random) -> None:
        self.page, self.chance = page, chance

    def _at(self, key: str) -> Locator:
        return self.page.locator(f".st-key-{key}")

    def _is_there(self, key: str) -> bool:
        idle(self.page)
        return self._at(key).count() > 0

    def _offered(self, key: str) -> Locator:
        """A field's choices, opened by the keyboard: a click may only give the field the focus.

        A page that is still being drawn may draw the field anew and close what was opened, so it is idle first.
        """
        idle(self.page)
        field = self._at(key).locator("input:visible")
        field.focus()
        field.press("ArrowDown")
        offered = self.page.get_by_role("option")
        offered.first.wait_for()
        return offered

    def _take(self, key: str, options: tuple[str, ...] | None = None) -> None:
        """Chooses one of a field's choices; opens them anew where the page drew the field anew in between."""
        names = [name for name in self._offered(key).all_inner_texts() if options is None or name in options]
        wanted = self.page.get_by_role("option", name=self.chance.choice(names), exact=True)
        for _ in range(OPENED_MOST):
            try:
                wanted.click(timeout=CLICK_MS)
            except PlaywrightTimeoutError:
                self._offered(key)
            else:
                return
        wanted.click()

    def _segment(self, key: str, wanted: str) -> None:
        self._at(key).get_by_role("radio", name=wanted, exact=True).click()

    def _add_or_remove(self, key: str, least: int) -> None:
        tags = self._at(key).locator("[data-tag]:visible")
        if tags.count() > least and self.chance.random() < 0.5:
            tags.nth(self.chance.randrange(tags.count())).get_by_role("button").click()
            return
        self._take(key)
        self.page.keyboard.press("Escape")

    def _slide(self, key: str) -> None:
        slider = self._at(key).get_by_role("slider")
        slider.focus()
        press = self.chance.choice(("ArrowLeft", "ArrowRight", "Home", "End"))
        for _ in range(1 if press in ("Home", "End") else self.chance.randrange(1, 12)):
            slider.press(press)

    def data(self) -> None:
        self._take("data", DATA)

    def scorers(self) -> None:
        self._add_or_remove("scorers", 0)

    def mode(self) -> None:
        self._segment("mode", self.chance.choice(MODES))

    def at(self) -> None:
        if not self._is_there("at"):
            self._segment("mode", MODES[0])
        self._slide("at")

    def specificity(self) -> None:
        if not self._is_there("specificity"):
            self._segment("mode", MODES[1])
        self._slide("specificity")

    def bands(self) -> None:
        self._at("bands").get_by_role("switch").press("Space")

    def picture(self) -> None:
        self._segment("picture", self.chance.choice(("PNG", "SVG")))

    def _open(self, title: str, key: str) -> None:
        idle(self.page)
        if not self._at(key).locator("input").is_visible():
            self.page.get_by_text(title).click()

    def prevalence(self) -> None:
        self._open("Predictive values at other prevalences", "prevalence")
        field = self._at("prevalence").locator("input")
        field.fill(self.chance.choice(("0.6", "2.5", "33", "10")))
        field.press("Enter")

    def measures(self) -> None:
        self._open("Sort and filter these numbers", "measures")
        self._add_or_remove("measures", 1)

    def show(self) -> None:
        self._tab(self.chance.choice(TABS))

    def _tab(self, name: str) -> None:
        self._at("show").get_by_role("tab", name=name, exact=True).click()
        idle(self.page)

    def by(self) -> None:
        self._in_tab("Subgroups", "by")

    def of(self) -> None:
        self._in_tab("Subgroups", "of")

    def first(self) -> None:
        self._in_tab("Hybrid", "first")

    def second(self) -> None:
        self._in_tab("Hybrid", "second")

    def _in_tab(self, tab: str, key: str) -> None:
        self._tab(tab)
        self._at(key).wait_for()
        self._take(key)

    def drawn(self) -> None:
        self._many()
        self._add_or_remove("drawn", 3)

    def mean(self) -> None:
        self._many()
        self._at("mean").get_by_role("switch").press("Space")

    def _many(self) -> None:
        """More scorers than are drawn with bands."""
        if self._is_there("mean"):
            return
        self.page.goto(f"{self.page.url.partition('?')[0]}?{urlencode({'data': DATA[0], 'scorers': MANY}, doseq=True)}")
        self._at("mean").wait_for()


CONTROLS: tuple[Callable[[Controls], None], ...] = (
    Controls.data, Controls.scorers, Controls.mode, Controls.at, Controls.specificity, Controls.bands,
    Controls.picture, Controls.prevalence, Controls.measures, Controls.show, Controls.by, Controls.of, Controls.first,
    Controls.second, Controls.drawn, Controls.mean,
)  # fmt: skip


def test_after_every_control_in_random_order_each_number_is_what_the_address_gives(
    page: Page, site: RunningApp, comparisons: Comparisons
) -> None:
    chance = random.Random(SEED)
    controls = Controls(page, chance)
    page.goto(f"{site.url}/compare")
    page.locator(".sr-matrices").wait_for()
    require_what_the_address_gives(page, comparisons, "opening the page")
    order = list(CONTROLS)
    chance.shuffle(order)
    done = []
    for change in order:
        change(controls)
        done.append(change.__name__)
        require_what_the_address_gives(page, comparisons, ", ".join(done))
    page.goto(page.url)
    page.locator(".sr-matrices").wait_for()
    require_what_the_address_gives(page, comparisons, "opening the address again")
