"""A headless browser for tests of pages: what is missing, what overlaps, what is fetched."""

import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in BROWSERS if (path := shutil.which(name))), None)
PATIENCE = 120  # seconds for an answer; a busy machine starts a browser slowly
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
         "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND",
         "--remote-debugging-pipe")  # fmt: skip
NEEDED = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser on PATH (looked for {', '.join(BROWSERS)})"
)

# Boxes of pictures, drawings and words as one sees them: what a scrolling box cuts off does not
# count. Two boxes overlap when they share more than two pixels each way and neither element lies in
# the other.
MEASURE = """
(() => {
  const width = document.documentElement.clientWidth;
  const name = e => e.tagName + ' ' + (e.alt || e.textContent).slice(0, 40);
  const seen = (element, box) => {
    let [l, t, r, b] = [box.left, box.top, box.right, box.bottom];
    if (!element.checkVisibility({visibilityProperty: true})) return null;
    for (let e = element; e && e !== document.body; e = e.parentElement) {
      const style = getComputedStyle(e), own = e.getBoundingClientRect();
      if (style.clipPath !== 'none') return null;
      if (style.overflowX !== 'visible' && e !== element && !(e instanceof SVGElement)) {
        l = Math.max(l, own.left); r = Math.min(r, own.right);
      }
    }
    return r - l > 1 && b - t > 1 ? [l, t, r, b] : null;
  };
  const boxes = [];
  const words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const node = words.currentNode, parent = node.parentElement;
    if (!node.data.trim() || ['SCRIPT', 'STYLE', 'title'].includes(parent.tagName)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const line of range.getClientRects()) boxes.push([parent, seen(parent, line)]);
  }
  for (const e of document.querySelectorAll('img, svg[role=img]'))
    boxes.push([e, seen(e, e.getBoundingClientRect())]);
  const shown = boxes.filter(([e, box]) => box);
  const overlaps = [];
  shown.forEach(([one, a], i) => shown.slice(i + 1).forEach(([other, b]) => {
    const across = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
    const down = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
    if (across > 2 && down > 2 && one !== other && !one.contains(other) && !other.contains(one))
      overlaps.push(name(one) + ' | ' + name(other));
  }));
  const drawings = [...document.querySelectorAll('svg[role=img]')], images = [...document.images];
  const silent = [
    ...images.filter(e => !e.alt.trim()), ...drawings.filter(e => !e.getAttribute('aria-label'))
  ];
  const isSmall = e =>
    !(e instanceof SVGElement) && parseFloat(getComputedStyle(e).fontSize) < 10;
  return {
    width, scroll: document.documentElement.scrollWidth,
    boxes: shown.length, images: images.length, overlaps, silent: silent.length,
    broken: images.filter(e => !e.naturalWidth).map(name),
    outside: shown.filter(([e, box]) => box[0] < -1 || box[2] > width + 1).map(([e]) => name(e)),
    small: shown.filter(([e]) => isSmall(e)).length,
  };
})()
"""
OPEN = "document.querySelectorAll('details').forEach(e => e.open = true)"


class Browser:
    """A headless browser that is spoken to by the DevTools protocol over a pair of pipes."""

    def __init__(self, folder: Path) -> None:
        theirs, self.out = os.pipe()
        self.back, answers = os.pipe()
        command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        connect = f'exec "$@" 3<&{theirs} 4>&{answers}'  # the protocol wants these two numbers
        given = {"pass_fds": (theirs, answers), "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(["bash", "-c", connect, "bash", *command], **given)  # type: ignore[call-overload]
        os.close(theirs)
        os.close(answers)
        self.rest, self.number, self.events, self.session = b"", 0, list[dict[str, Any]](), ""
        target = next(
            t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def read(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.rest:
            assert select.select([self.back], [], [], PATIENCE)[0], (
                f"no answer of the browser in {PATIENCE} s"
            )
            part = os.read(self.back, 1 << 16)
            assert part, "the browser has gone"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def call(self, method: str, **values: Any) -> dict[str, Any]:
        """The answer to a command; events on the way are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": values}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def look(self, page: Path, width: int, opened: bool = False) -> dict[str, Any]:
        """What MEASURE finds on `page` in a window of `width` pixels.

        Also what was fetched, and what the console said.
        """
        self.events.clear()
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())
        if opened:
            self.call("Runtime.evaluate", expression=OPEN)
        found = self.call("Runtime.evaluate", expression=MEASURE, returnByValue=True)["result"][
            "value"
        ]
        asked = [
            e["params"]["request"]["url"]
            for e in self.events
            if e["method"] == "Network.requestWillBeSent"
        ]
        found["fetched"] = [
            url for url in asked if url != page.as_uri() and not url.startswith("data:")
        ]
        kinds = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        found["console"] = [
            json.dumps(event["params"]) for event in self.events if event["method"] in kinds
        ]
        return found

    def close(self) -> None:
        """End the browser."""
        os.write(self.out, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        self.process.wait(30)
        os.close(self.out)
        os.close(self.back)
