"""The page in a browser: headless Chromium, from the system's packages."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

import featbank
from featbank.report import build_report
from tests.results_folder import Fake, write_results
from tests.test_report.galleries import compared, image_bank
from tests.test_report.test_page import HOSTILE, hostile_fake

MINUS = "\N{MINUS SIGN}"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def executable() -> str:
    """Return the browser, or skip; fail where continuous integration asks for one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        reason = "no chromium: apt-get install chromium"
        (pytest.fail if os.environ.get("FEATBANK_REQUIRE_BROWSER") else pytest.skip)(reason)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = executable()
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path)
        yield started
        started.close()


@dataclass
class Opened:
    """A page, and what it did that it should not have."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def all_drawn(self) -> None:
        """Bring every panel into the window."""
        for section in self.page.locator("section").all():
            section.scroll_into_view_if_needed()
        expect(self.page.locator(".chart:not(:has(svg))")).to_have_count(0)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def width(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))


def opened(browser: Browser, page: Path, **context: Any) -> Opened:
    tab = Opened(browser.new_context(**context).new_page())
    tab.page.on("console", lambda message: tab.complaints.append(message.text))
    tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.page.on("dialog", lambda dialog: tab.complaints.append(dialog.message))
    tab.page.on("request", lambda request: tab.requests.append(request.url))
    tab.page.goto(page.as_uri())
    return tab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("browser") / "out")


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    return build_report(folder)


@pytest.fixture
def tab(browser: Browser, page: Path) -> Iterator[Opened]:
    one = opened(browser, page)
    yield one
    assert one.complaints == []
    assert one.requests == [page.as_uri()]
    one.page.context.close()


def cells(tab: Opened) -> list[str]:
    return tab.page.locator("#matrix .value").all_inner_texts()


def test_every_panel_draws_without_complaint_or_request(tab: Opened) -> None:
    tab.all_drawn()
    assert tab.page.locator(".chart svg").count() == 15
    assert tab.page.locator("#confusion tbody tr").count() == 10
    assert tab.page.locator("svg [d*=NaN], svg [d*=undefined]").count() == 0


@pytest.mark.parametrize("at", [0, 57, 200])
def test_the_slider_shows_the_saved_curve(tab: Opened, folder: Path, at: int) -> None:
    tab.all_drawn()
    tab.page.locator("#tau-slider").fill(str(at))
    with np.load(folder / "banks/instance/curve-tau.npz") as curve:
        for group in ("many", "medium", "few", "all"):
            assert tab.text(f"#tau-{group}") == f"{100 * float(curve[f'test_{group}'][at]):.1f}"
    assert tab.text("#tau-value") == f"{at / 100:.2f}"


def test_the_slider_goes_by_keys_and_back_to_the_chosen_tau(tab: Opened, folder: Path) -> None:
    slider = tab.page.locator("#tau-slider")
    assert tab.text("#tau-value") == "0.73"
    slider.press("ArrowRight")
    assert tab.text("#tau-value") == "0.74"
    tab.page.locator("#tau-split").select_option("val")
    with np.load(folder / "banks/instance/curve-tau.npz") as curve:
        assert tab.text("#tau-all") == f"{100 * float(curve['val_all'][74]):.1f}"
    tab.page.locator("#tau-best").press("Enter")
    assert tab.text("#tau-value") == "0.73"


def test_metrics_and_differences_are_those_of_the_results(tab: Opened) -> None:
    data = tab.page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    few = [100 * cell["metrics"]["few"] for cell in data["cells"]]
    tab.page.locator("#matrix-metric").select_option("few")
    assert cells(tab) == [f"{value:.1f}" for value in few]
    tab.page.locator("#matrix-baseline").select_option("head:0")
    shown = cells(tab)
    assert shown[0] == shown[4] == "baseline"
    for index in (1, 2, 3):
        change = few[index] - few[0]
        assert shown[index] == f"{MINUS if change < 0 else '+'}{abs(change):.1f}"
    tab.page.locator("#matrix-metric").select_option("all")
    assert all(text.endswith(" *") for text in cells(tab)[1:4])


def test_what_is_not_known_is_a_dash_and_no_zero(browser: Browser, tmp_path: Path) -> None:
    folder = write_results(tmp_path)
    path = folder / "compare.json"
    found = json.loads(path.read_text())
    found.pop("sha256", None)
    entry = found["results"][1]
    entry["metrics"]["few"] = entry["ci95"]["few"] = None
    entry["calibration"] |= {"temperature": None, "ece_scaled": None, "nll_scaled": None}
    path.write_text(json.dumps(found))
    tab = opened(browser, build_report(folder))
    tab.page.locator("#matrix-metric").select_option("few")
    tab.page.locator("#matrix-baseline").select_option("head:0")
    assert cells(tab)[1] == "–"  # noqa: RUF001 - as the page writes it
    assert cells(tab)[2] not in ("–", "baseline")  # noqa: RUF001
    tab.all_drawn()
    assert "no temperature was fitted" in tab.text("#reliability")
    assert "null" not in tab.text("#reliability")
    assert tab.complaints == []
    tab.page.context.close()


def test_shot_groups_of_other_classes_have_no_difference(browser: Browser, tmp_path: Path) -> None:
    folder = write_results(tmp_path)
    path = folder / "banks/class/bank.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"shots": {"many_above": 9, "few_below": 5}})
    )
    tab = opened(browser, build_report(folder))
    tab.page.locator("#matrix-metric").select_option("few")
    tab.page.locator("#matrix-baseline").select_option("bank:0")
    assert cells(tab)[4:] == ["–"] * 4  # noqa: RUF001 - as the page writes it
    tab.page.locator("#matrix-baseline").select_option("head:0")
    assert "–" not in cells(tab)  # noqa: RUF001
    tab.page.locator("#matrix-metric").select_option("all")
    tab.page.locator("#matrix-baseline").select_option("bank:0")
    assert "–" not in cells(tab)  # noqa: RUF001
    assert tab.complaints == []
    tab.page.context.close()


def test_a_value_that_has_the_focus_tells_its_interval_and_parameters(tab: Opened) -> None:
    tab.page.locator("#matrix .cell").nth(2).focus()
    said = tab.text("#matrix-detail")
    assert said.startswith("instance · tau")
    assert "95 % interval" in said
    assert "tau = 0.7312 (chosen on val" in said


def test_the_search_finds_a_class(tab: Opened) -> None:
    tab.page.locator("#class-search").fill("CLASS 7")
    expect(tab.page.locator("#class-lists tbody tr")).to_have_count(1)
    assert tab.page.locator("#class-lists .name").all_inner_texts() == ["class 7"]
    assert tab.text("#class-found") == "1 class found"
    tab.page.locator("#class-search").fill("no such class")
    expect(tab.page.locator("#class-lists tbody tr")).to_have_count(0)


def test_the_other_projection_has_the_same_points_and_no_regions(tab: Opened) -> None:
    tab.all_drawn()
    assert tab.page.locator("#view .regions").count() == 2
    before = tab.page.locator("#view path.dots").count()
    tab.page.locator("#view-projection").select_option("tsne")
    assert tab.page.locator("#view .regions").count() == 0
    assert tab.page.locator("#view path.dots").count() == before


def test_every_control_is_reached_by_the_tab_key(tab: Opened) -> None:
    controls = tab.page.locator("select:visible, input:visible, button:visible, a[href]:visible")
    wanted, seen = controls.count(), set()
    for _ in range(wanted + 5):
        tab.page.keyboard.press("Tab")
        seen.add(
            tab.page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)")
        )
    tab.page.evaluate("scrollTo(0, 0)")
    places = controls.evaluate_all(
        "(found) => found.map((c) => [...document.querySelectorAll('*')].indexOf(c))"
    )
    assert set(places) <= seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read_in_both_schemes(
    browser: Browser, page: Path, scheme: Any
) -> None:
    tab = opened(browser, page, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    tab.all_drawn()
    assert tab.width() == 360
    for name in ("ink", "soft", "accent"):
        assert contrast(colour(tab, name), colour(tab, "card")) >= 4.5
    for index in range(8):  # marks and lines need less than text
        assert contrast(colour(tab, f"c{index}"), colour(tab, "card")) >= 1.9
    tab.page.context.close()


def colour(tab: Opened, name: str) -> tuple[float, ...]:
    text = tab.page.evaluate(
        f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()"
    )
    digits = text[1:] if len(text) == 7 else "".join(2 * c for c in text[1:])
    return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def light(rgb: tuple[float, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in rgb]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_all_of_it_is_printed(browser: Browser, page: Path) -> None:
    tab = opened(browser, page, color_scheme="dark")
    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.page.locator(".chart:not(:has(svg))").count() == 0
    assert colour(tab, "ink") == (0, 0, 0)
    assert tab.page.locator("nav").is_hidden()
    tab.page.context.close()


def test_hostile_names_are_shown_and_do_nothing(browser: Browser, tmp_path: Path) -> None:
    tab = opened(browser, build_report(write_results(tmp_path, hostile_fake())))
    tab.all_drawn()
    tab.page.locator("#class-search").fill("window.hacked")
    expect(tab.page.locator("#class-lists tbody tr")).to_have_count(5)
    found = tab.page.locator("#class-lists .name").all_inner_texts()
    assert set(found) == {name for name in HOSTILE if "window.hacked" in name}
    tab.page.locator("#matrix .cell").nth(5).hover()
    assert HOSTILE[0] in tab.text("#matrix-detail")
    tab.page.locator("#view .chart svg").first.hover()
    assert tab.page.evaluate("window.hacked") is None
    assert tab.page.locator("img, iframe, object, [onerror], [onload]").count() == 0
    assert tab.complaints == []
    assert len(tab.requests) == 1
    tab.page.context.close()


def test_the_gallery_shows_pictures_and_ids_and_loads_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    """The most confident mistake has a name that would be markup if it could, and no picture."""
    image_bank(tmp_path / "plain")
    head = featbank.fit(tmp_path / "plain/bank.zarr", "ncm")
    head.save(tmp_path / "ncm.head")
    worst = featbank.mistakes(tmp_path / "plain/bank.zarr", tmp_path / "ncm.head").wrong[0]
    row = int(worst.id.removeprefix("test/").removesuffix(".png"))
    out = compared(image_bank(tmp_path / "hostile", {row: HOSTILE[1]}))
    images = tmp_path / "hostile/images"
    tab = opened(browser, build_report(out, thumbnails=True, images=images))
    tab.all_drawn()
    shown = tab.page.locator("#mistakes .gallery li")
    assert shown.count() == 10
    assert tab.text("#mistakes .no-picture") == HOSTILE[1]
    widths = tab.page.locator("#mistakes img").evaluate_all("all => all.map(i => i.naturalWidth)")
    assert widths == [96] * (shown.count() - 1)
    words = shown.nth(0).inner_text()
    assert worst.true in words
    assert f"{worst.predicted}, {100 * worst.confidence:.1f} %" in words
    before = shown.all_inner_texts()
    tab.page.locator("#mistakes-cell").select_option(index=1)
    assert shown.all_inner_texts() != before
    assert tab.page.evaluate("window.hacked") is None
    assert tab.complaints == []
    assert [url for url in tab.requests if not url.startswith("data:")] == tab.requests[:1]
    tab.page.context.close()


def test_the_policy_stops_what_might_get_in(browser: Browser, page: Path) -> None:
    tab = opened(browser, page)
    tab.page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            const image = document.createElement("img");
            image.src = "data:image/gif;base64,R0lGODlhAQABAAAAACw=";
            document.body.append(script, image);
        }"""
    )
    assert tab.page.evaluate("window.hacked") is None
    tab.page.wait_for_timeout(50)
    assert sum("Content Security Policy" in text for text in tab.complaints) == 2
    tab.page.context.close()


def test_a_large_page_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    fake = Fake(
        classes=8142, banks=tuple(f"checkpoint-{i}" for i in range(20)), per_class=3, view=2000
    )
    tab = opened(browser, build_report(write_results(tmp_path, fake)))
    timing = "performance.getEntriesByType('navigation')[0]"
    assert tab.page.evaluate(f"{timing}.domContentLoadedEventEnd") < 10_000  # 300 ms when quiet
    assert len(cells(tab)) == 80
    tab.page.locator("#class-search").scroll_into_view_if_needed()
    tab.page.locator("#class-search").fill("class 8141")
    expect(tab.page.locator("#class-lists tbody tr")).to_have_count(1)
    tab.all_drawn()
    assert tab.complaints == []
    tab.page.context.close()
