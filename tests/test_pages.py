"""The built documentation in a browser: on a phone, and on a screen with dark colours.

`make test-docs` builds the pages and runs this.
"""

import os
import shutil
from collections import defaultdict
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

HTML = Path(__file__).resolve().parents[1] / "docs" / "_build" / "html"
BROWSERS = "chromium-headless-shell chromium chromium-browser google-chrome".split()
LEAST_CONTRAST = 4.5  # of WCAG 2.2, level AA

LINKS = """[...document.querySelectorAll("a[href]")].map(a => a.href)"""

# Names of the places that links may lead to.
PLACES = """[...document.querySelectorAll("[id], a[name]")].map(e => e.id || e.name)"""

# Mean of red, green and blue behind everything, in [0, 255].
BRIGHTNESS = """() => {
  const color = getComputedStyle(document.body).backgroundColor;
  return color.match(/\\d+/g).slice(0, 3).reduce((sum, v) => sum + v / 3, 0);
}"""

# Addresses of pictures that the browser cannot show.
MISSING = """async () => {
  const missing = [...document.images].map(async image => {
    image.loading = "eager";
    try { await image.decode(); return null; } catch { return image.src; }
  });
  return (await Promise.all(missing)).filter(src => src !== null);
}"""

# Elements that are wider than what they are in. Code and tables scroll by themselves.
WIDE = """() => {
  const alone = "pre, table, .pst-scrollable-table-container, .math";
  const wide = [...document.querySelectorAll("html, main *")].filter(e => {
    const {overflowX, textOverflow} = getComputedStyle(e);
    const scrolls = e.tagName == "HTML" || overflowX != "visible";
    return scrolls && textOverflow != "ellipsis" && e.clientWidth > 0
      && e.scrollWidth > e.clientWidth + 1 && !e.closest(alone);
  });
  return wide.map(e => `${e.tagName}.${e.className}: ${e.scrollWidth} px in `
    + `${e.clientWidth} px`);
}"""

# Texts that are hard to read on what is behind them.
PALE = """least => {
  const canvas = document.createElement("canvas").getContext("2d",
    {willReadFrequently: true});
  const rgba = color => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map(v => v / 255).map(
      v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255];
  };
  const contrast = e => {
    const both = [rgba(getComputedStyle(e).color), behind(e)].map(luminance);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  };
  const hasText = e => [...e.childNodes].some(
    n => n.nodeType == Node.TEXT_NODE && n.textContent.trim());
  const pale = [...document.querySelectorAll("article *")].filter(
    e => hasText(e) && e.checkVisibility() && !e.closest("a.headerlink, svg")
      && contrast(e) < least);
  return pale.map(e => `${e.tagName}.${e.className} ${contrast(e).toFixed(1)}: `
    + e.textContent.trim().slice(0, 40));
}"""

SCRIPTS = {
    "links": (LINKS,),
    "places": (PLACES,),
    "missing": (MISSING,),
    "wide": (WIDE,),
    "pale": (PALE, LEAST_CONTRAST),
    "brightness": (BRIGHTNESS,),
}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    found = filter(None, map(shutil.which, BROWSERS))
    path = os.environ.get("CHROMIUM") or next(found, None)
    if path is None:
        pytest.fail(
            "There is no browser. Install Debian's chromium-headless-shell, or set "
            "CHROMIUM to the path of another Chromium."
        )
    with sync_playwright() as playwright:
        # A container has no sandbox, and the pages are our own.
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def pages():
    found = [
        path for path in sorted(HTML.rglob("*.html")) if "_static" not in str(path)
    ]
    assert len(found) > 50, f"{HTML} is not built"
    return found


def look(browser, pages, width, colors):
    """Return what each script finds on each page, by the names of both."""
    how = {"viewport": {"width": width, "height": 900}, "color_scheme": colors}
    page = browser.new_page(**how)
    found = defaultdict(dict)
    for path in pages:
        page.goto(path.as_uri())
        for name, (script, *given) in SCRIPTS.items():
            found[name][path] = page.evaluate(script, *given)
    page.close()
    return found


@pytest.fixture(scope="module")
def phone(browser, pages):
    return look(browser, pages, 390, "light")


@pytest.fixture(scope="module")
def screen(browser, pages):
    return look(browser, pages, 1280, "dark")


def defects(found):
    """Return the pages where something was found, one line each."""
    lines = [
        f"{path.relative_to(HTML)}: {'; '.join(f)}" for path, f in found.items() if f
    ]
    return "\n".join(lines)


def test_links_lead_somewhere(phone):
    broken = {}
    for page, links in phone["links"].items():
        for link in map(urlsplit, links):
            target = Path(unquote(link.path))
            if link.scheme != "file":
                continue
            is_there = target.is_file()
            if is_there and link.fragment and target in phone["places"]:
                is_there = unquote(link.fragment) in phone["places"][target]
            if not is_there:
                broken.setdefault(page, []).append(link.geturl())
    assert not defects(broken)


def test_pictures_are_shown(phone):
    assert not defects(phone["missing"])


def test_pages_do_not_scroll_sideways(phone, screen):
    assert not defects(phone["wide"])
    assert not defects(screen["wide"])


def test_texts_stand_out(phone, screen):
    assert not defects(phone["pale"])
    assert not defects(screen["pale"])


def test_dark_pages_are_dark(phone, screen):
    assert {*phone["brightness"].values()} == {255}
    assert max(screen["brightness"].values()) < 64
