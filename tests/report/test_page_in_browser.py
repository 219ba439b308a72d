"""report.html in a headless browser: no error, sorting, filters, links to single items, contrast of what is drawn.

Skipped where Selenium, Chromium or its driver is missing (Debian: apt install chromium chromium-driver).
"""

import os
import shutil

import pytest
from launch import wait_until
from scored_folder import drawn, folder

from qtablate.grid import Fingerprints
from qtablate.report.page.page import page_text
from qtablate.report.plots import draw_plots
from qtablate.report.results import load
from qtablate.world.benchmark import RenderSpec, WorldBench

webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("no Chromium with a chromedriver on this machine", allow_module_level=True)

CONTRASTS = """
const luminance = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((c) => {
    c /= 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (one) => {
  for (; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (!color.endsWith(", 0)") && color !== "transparent") return color;
  }
  return "rgb(255, 255, 255)";
};
const low = [];
let seen = 0;
for (const one of document.querySelectorAll("body *:not(svg *):not(script):not(button:disabled)")) {
  const own = Array.from(one.childNodes).some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !one.offsetParent) continue;
  seen += 1;
  const pair = [luminance(getComputedStyle(one).color), luminance(ground(one))].sort((a, b) => b - a);
  const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
  if (ratio < 4.5) low.push(one.tagName + " " + one.className + " " + one.textContent.slice(0, 30) + " " + ratio.toFixed(2));
}
return [seen, low];
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a small sweep on the world, with its questions and clips."""
    root = tmp_path_factory.mktemp("browser") / "r"
    world = WorldBench(2, spec=RenderSpec())
    grid = {(tokens, accum): drawn(0.5 + 0.04 * tokens - 0.1 * accum) for tokens in (0, 4, 8) for accum in (1, 2)}
    store = folder(root, grid, seeds=(1, 2, 3), items=len(world.items), asked=world.items, items_per_task=2)
    sweep = store.read_sweep()
    store.write_sweep(sweep.model_copy(update={"fingerprints": Fingerprints("m", "t", world.fingerprint)}))
    results = load(root)
    path = root / "report.html"
    path.write_text(page_text(results, draw_plots(results)))
    return path


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,900"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER, log_output=os.devnull)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def opened(browser, page, hash=""):
    browser.get("about:blank")
    browser.get(f"file://{page}{hash}")
    assert wait_until(lambda: by_id(browser, "count").text, 30)  # the script has shown its items
    return browser


def by_id(browser, name):
    return browser.find_element("id", name)


def cards(browser):
    return browser.find_elements("css selector", "#cards .item")


def test_it_opens_without_a_message_and_without_a_request(browser, page):
    browser.get_log("browser")
    opened(browser, page)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []
    assert by_id(browser, "count").text == "1 to 20 of 40 items"
    broken = browser.execute_script(
        "return Array.from(document.images).filter((one) => !one.complete || !one.naturalWidth).length"
    )
    assert broken == 0
    assert len(browser.find_elements("css selector", "#cards img")) == 20


def test_a_click_on_a_head_sorts_and_a_second_one_turns_it(browser, page):
    opened(browser, page)
    read = "return Array.from(document.querySelectorAll('#conditions tbody tr'), (row) => row.cells[arguments[0]].textContent)"
    heads = [one.text for one in browser.find_elements("css selector", "#conditions .table:first-of-type th")]
    place = heads.index("accuracy %")
    before = browser.execute_script(read, place)[:6]
    for falling in (False, True):
        browser.find_elements("css selector", "#conditions .table:first-of-type th button")[place].click()
        after = browser.execute_script(read, place)[:6]
        assert after == sorted(before, key=lambda text: float(text.split()[0]), reverse=falling)
        state = browser.find_elements("css selector", "#conditions .table:first-of-type th")[place].get_attribute("aria-sort")
        assert state == ("descending" if falling else "ascending")


def test_rows_of_a_long_table_can_be_filtered(browser, page):
    opened(browser, page)
    field = browser.find_element("css selector", "#items .table-filter")
    field.send_keys("moving_")
    rows = browser.find_elements("css selector", "#items tbody tr")
    shown = [row.text.split()[0] for row in rows if row.is_displayed()]
    assert shown == ["moving_direction", "moving_count", "moving_attribute"]


def test_items_are_filtered_by_group_task_and_text_and_turned_by_pages(browser, page):
    opened(browser, page)
    total = 0
    for group in ("disagree", "none", "all"):
        browser.find_element("css selector", f"#filter-group option[value={group}]").click()
        total += int(by_id(browser, "count").text.split()[-2])
    assert total == 40
    browser.find_element("css selector", "#filter-group option[value='']").click()
    browser.find_element("xpath", "//select[@id='filter-task']/option[.='moving_count']").click()
    assert [one.find_element("css selector", "h3 span").text for one in cards(browser)] == ["moving_count"] * 2
    browser.find_element("css selector", "#filter-task option[value='']").click()
    by_id(browser, "after").click()
    assert by_id(browser, "count").text == "21 to 40 of 40 items"
    assert not by_id(browser, "after").is_enabled()
    by_id(browser, "filter-text").send_keys("no such text")
    assert by_id(browser, "count").text == "0 to 0 of 0 items"


def test_a_link_leads_to_a_single_item_and_a_filter_leaves_it(browser, page):
    opened(browser, page)
    name = cards(browser)[7].find_element("css selector", "h3 a").text
    opened(browser, page, f"#item={name}")
    assert [one.find_element("css selector", "h3 a").text for one in cards(browser)] == [name]
    browser.find_element("css selector", "#filter-group option[value=disagree]").click()
    assert "#item" not in browser.current_url
    assert len(cards(browser)) > 1
    opened(browser, page, "#item=%3Cb%3Enothing")
    assert by_id(browser, "count").text == "No item <b>nothing here."


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_enough_contrast(browser, page, scheme):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    opened(browser, page)
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}[scheme]
    seen, low = browser.execute_script(CONTRASTS)
    assert low == []
    assert seen > 200


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_but_tables_and_plots_is_wider_than_the_window(browser, page, width):
    media = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", media)
    opened(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
