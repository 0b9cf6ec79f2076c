"""A browser without a window: what a page loads, says on its console, and shows, by what the browser has computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Of every text that is drawn: its contrast with what lies under its middle, by WCAG 2.2. Fills of shapes count, and
# strokes do not: a letter that a line crosses is read by what is beside the line.
_CONTRAST = """
const found = [];
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgba(text) {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = "#000"; canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}
function over(front, ground) {
  return [0, 1, 2].map((i) => front[i] * front[3] + ground[i] * (1 - front[3])).concat(1);
}
function luminance(color) {
  const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = color.slice(0, 3).map((c) => linear(c / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function opacity(element) {
  let value = 1;
  for (let one = element; one; one = one.parentElement) value *= parseFloat(getComputedStyle(one).opacity);
  return value;
}
function painted(element) {
  const style = getComputedStyle(element);
  const drawn = element instanceof SVGElement && !(element instanceof SVGSVGElement);
  if (drawn && (element instanceof SVGTextContentElement || style.fill === "none")) return [0, 0, 0, 0];
  const color = rgba(drawn ? style.fill : style.backgroundColor);
  return [...color.slice(0, 3), color[3] * opacity(element) * (drawn ? parseFloat(style.fillOpacity) : 1)];
}
document.querySelectorAll("details").forEach((one) => one.open = true);
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || element.closest("script, style, title, defs")) continue;
  const style = getComputedStyle(element);
  if (style.visibility !== "visible") continue;
  const range = document.createRange();
  range.selectNodeContents(node);
  if (!range.getClientRects().length) continue;
  element.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
  const box = range.getClientRects()[0];
  const stack = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  const inside = element instanceof SVGElement;
  let ground = [255, 255, 255, 1];
  for (const one of stack.filter((one) => !(one instanceof SVGTextContentElement)).reverse())
    ground = over(painted(one), ground);
  const color = rgba(inside ? style.fill : style.color);
  const front = over([...color.slice(0, 3), color[3] * opacity(element)], ground);
  const [low, high] = [luminance(front), luminance(ground)].sort((a, b) => a - b);
  found.push([(high + 0.05) / (low + 0.05), node.textContent.trim().slice(0, 60), element.tagName, stack.length]);
}
return found;
"""


class Browser:
    """One tab of Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, page: Path, *, dark: bool = False, media: str = "", width: int = 1200, height: int = 900) -> None:
        """Show a page anew; what the browser logged before is forgotten."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._command("Emulation.setEmulatedMedia", media=media, features=scheme)
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(page.as_uri())

    def script(self, text: str, *arguments: Any) -> Any:
        """What a script returns that is run in the page."""
        return self.driver.execute_script(text, *arguments)

    def complaints(self) -> list[str]:
        """All that is on the console: errors, warnings, what the page's policy forbade."""
        return [one["message"] for one in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The addresses of all that was asked for since the page was opened."""
        messages = [json.loads(one["message"])["message"] for one in self.driver.get_log("performance")]
        sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
        return [one["request"]["url"] for one in sent]

    def contrasts(self) -> list[tuple[float, str]]:
        """Each text's contrast with its ground, the least first."""
        found = self.script(_CONTRAST)
        assert all(depth for *_, depth in found), "a text that was measured lies outside of the window"
        return sorted((ratio, f"{text} <{tag}>") for ratio, text, tag, _ in found)

    def column(self, heading: str, number: int = 0) -> list[str]:
        """The cells of a column, from top to bottom."""
        return self.script(
            """
            const heads = [...document.querySelectorAll("table.sortable thead th")];
            const head = heads.filter((one) => one.innerText.trim() === arguments[0])[arguments[1]];
            return [...head.closest("table").tBodies[0].rows].map((row) => row.cells[head.cellIndex].innerText.trim());
            """,
            heading,
            number,
        )

    def sort(self, heading: str, number: int = 0) -> str:
        """Press a column's heading; returns how the page says that it is sorted now."""
        from selenium.webdriver.common.by import By

        buttons = self.driver.find_elements(By.CSS_SELECTOR, "table.sortable thead button")
        button = [one for one in buttons if one.text.strip() == heading][number]
        self.script("arguments[0].scrollIntoView({block: 'center', inline: 'center', behavior: 'instant'})", button)
        button.click()
        return self.script("return arguments[0].closest('th').getAttribute('aria-sort')", button)

    def quit(self) -> None:
        """Close it."""
        self.driver.quit()

    def _command(self, name: str, **parameters: Any) -> None:
        self.driver.execute_cdp_cmd(name, parameters)


def start(chromium: str, chromedriver: str, profile: Path) -> Browser:
    """A browser with a profile of its own, which asks nobody for anything."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-extensions",
        "disable-background-networking", "disable-sync", "disable-component-update", "disable-default-apps",
        f"user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return Browser(Chrome(options=options, service=Service(chromedriver)))
