"""Take pictures of every page of `palate ui`: `python scripts/screenshots.py --runs FOLDER`.

A desk is set up in a folder of its own: the support desk's log in a store, votes of three people,
and the runs of FOLDER (finished ones, for instance of `palate quickstart`). Then Debian's chromium
takes each page at 1280 and at 375 pixels, light and dark, into `--out`. With `--docs` the four
pictures of a page become one small sheet in docs/images/ui/, and docs/ui-pages.md shows them all.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from palate.ui.running import Running
from palate.ui.settings import Settings
from palate.ui.site import Site

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
WIDTHS, SCHEMES = (1280, 375), ("light", "dark")
TALLEST = 1600  # pixels of a picture: the beginning of a page tells
SAYS = ("clearly-first", "slightly-first", "tie", "slightly-second", "clearly-second")
PATIENCE = 180_000  # milliseconds
IMAGES = ROOT / "docs" / "images" / "ui"
GAP = 8  # pixels between the pictures of a sheet
SHOWN = """\
# The pages, shown

Each page of [`palate ui`](ui.md) over the support desk's log and two runs, wide and narrow, light
and dark. `python scripts/screenshots.py --runs FOLDER --docs` takes them again.
"""


def main() -> None:
    """Set up the desk, and take the pictures."""
    parser = argparse.ArgumentParser(description="Take pictures of every page.")
    parser.add_argument("--runs", type=Path, required=True, help="a folder of finished runs")
    parser.add_argument("--out", type=Path, default=Path("screenshots"))
    parser.add_argument("--only", default="", help="pages whose name holds this")
    parser.add_argument("--models", nargs=2, help="two contenders, asked for real")
    parser.add_argument("--votes", type=int, default=30, help="of each of three people")
    parser.add_argument("--docs", action="store_true", help="write the sheets of docs/ui-pages.md")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, desk(Path(folder), args) as site:
        vote(site, args.votes)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            for width in WIDTHS:
                for scheme in SCHEMES:
                    take(browser, site, args, width, scheme)
            browser.close()
    if args.docs:
        show(args.out)


def show(out: Path) -> None:
    """One sheet for each page, half as large, and the page that shows them."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    names = sorted({path.name.rsplit("-", 2)[0] for path in out.glob("*-light.png")})
    lines = [SHOWN]
    for name in names:
        parts = [Image.open(out / f"{name}-{w}-{s}.png") for w in WIDTHS for s in SCHEMES]
        small = [part.convert("RGB").resize((part.width // 2, part.height // 2)) for part in parts]
        wide = sum(part.width for part in small) + GAP * (len(small) - 1)
        sheet = Image.new("RGB", (wide, max(part.height for part in small)), "#b9b4aa")
        at = 0
        for part in small:
            sheet.paste(part, (at, 0))
            at += part.width + GAP
        sheet.save(IMAGES / f"{name}.webp", quality=70, method=6)
        title = name.replace("-", " ")
        lines.append(
            f"## {title}\n\n![{title}, wide and narrow, light and dark](images/ui/{name}.webp)\n"
        )
    (ROOT / "docs" / "ui-pages.md").write_text("\n".join(lines), encoding="utf-8")


@contextmanager
def desk(folder: Path, args: argparse.Namespace) -> Iterator[Site]:
    """A site over the log of the example and the runs."""
    db = folder / "palate.db"
    log = ROOT / "examples" / "support_desk" / "traffic.jsonl"
    command = [sys.executable, "-m", "palate.cli", "import", str(log), "--db", str(db)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own program
    guidelines = folder / "guidelines.md"
    guidelines.write_text(GUIDELINES, encoding="utf-8")
    settings = Settings(
        db=str(db),
        runs=args.runs,
        port=0,
        token="screenshots",
        me="kim",
        overlap=0.6,
        guidelines=guidelines,
        models=tuple(args.models or ()),
    )
    started = threading.Event()
    running = Running(settings, print, lambda site: started.set())
    thread = threading.Thread(target=lambda: asyncio.run(running.run()), daemon=True)
    thread.start()
    started.wait(60)
    yield running.site
    running.end()
    thread.join(30)


def vote(site: Site, votes: int) -> None:
    """Three people vote: mostly for the same, and each now and then otherwise."""
    for seed, name in enumerate(("ann", "ben", "kim")):
        draw = random.Random(seed)
        with httpx.Client(base_url=site.url, timeout=60, follow_redirects=True) as client:
            client.get(site.people.link(site.url, None if name == "kim" else name))
            person = site.people.by_session(next(iter(client.cookies.jar)).value or "")
            assert person is not None, "the link has given a session"
            client.headers["x-csrf-token"] = site.people.form_token(person)
            for show, words in (("pairs", SAYS), ("single", ("up", "down"))):
                for _ in range(votes):
                    told = client.get("/label.json", params={"show": show}).json()
                    while told["item"] is None and told["progress"]["reading"]:
                        time.sleep(0.2)
                        told = client.get("/label.json", params={"show": show}).json()
                    item = told["item"]
                    if item is None:
                        break
                    body = {"item": item["item"], "round": item["round"]}
                    longer = 0
                    if show == "pairs":
                        lengths = [len(answer["text"]) for answer in item["answers"]]
                        longer = 4 if lengths[1] < lengths[0] else 0
                    say = words[longer] if draw.random() < 0.7 else draw.choice(words)
                    client.post("/label/vote", json={**body, "say": say}).raise_for_status()


def pages(site: Site, client: httpx.Client) -> dict[str, str]:
    """The pages by a short name."""
    runs = [one["name"] for one in client.get("/runs.json").json()["runs"]]
    found = client.get("/data/search.json", params={"words": "order"}).json()
    first = next((row["id"] for row in found.get("rows", found.get("found", []))), None)
    listed = {
        "home": "/",
        "label": "/label",
        "label-single": "/label?show=single",
        "agreement": "/agreement",
        "runs": "/runs",
        "run-new": "/runs/new",
        "arena": "/arena",
        "arena-contenders": "/arena/contenders",
        "data": "/data",
        "data-search": "/data/search?words=order",
        "data-lint": "/data/lint",
        "api": "/api",
        "missing": "/nowhere",
    }
    listed |= {f"run-{at}": f"/runs/{name}" for at, name in enumerate(runs[:2])}
    listed |= {f"run-{at}-samples": f"/runs/{name}/samples" for at, name in enumerate(runs[:1])}
    if len(runs) > 1:
        listed["runs-compare"] = f"/runs/compare?run={runs[0]}&run={runs[1]}"
    if first is not None:
        listed["data-interaction"] = f"/data/i/{first}"
    return listed


def take(browser: Browser, site: Site, args: Any, width: int, scheme: Any) -> None:
    """Every page at one width in one scheme."""
    context = browser.new_context(
        viewport={"width": width, "height": 860}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(site.people.link(site.url))
    with httpx.Client(base_url=site.url, timeout=60) as client:
        client.headers["authorization"] = f"Bearer {site.settings.token}"
        listed = pages(site, client)
    for name, path in listed.items():
        if args.only in name:
            page.goto(site.url + path)
            page.wait_for_timeout(900)  # charts draw, and streams tell their first points
            save(page, args.out / f"{name}-{width}-{scheme}.png")
    if args.models and args.only in "arena-duel":
        duel(page, site)
        save(page, args.out / f"arena-duel-{width}-{scheme}.png")
    context.close()


def duel(page: Page, site: Site) -> None:
    """The two models answer one message of a customer's, and one of them is voted for."""
    page.goto(f"{site.url}/arena")
    page.get_by_text("Sampling settings").click()
    page.get_by_label("System prompt").fill(SYSTEM)
    page.get_by_label("Longest answer").fill("64")
    page.get_by_text("Sampling settings").click()
    page.get_by_label("Your message").fill("The tent I ordered has not arrived yet.")
    page.keyboard.press("Enter")
    page.get_by_text("Both have ended").wait_for()
    page.keyboard.press("2")
    page.get_by_text("Your vote is saved.").wait_for()


def save(page: Page, path: Path) -> None:
    """The page from its top, and a word where it is wider than the window."""
    size = page.evaluate("[document.documentElement.scrollWidth, document.body.scrollHeight]")
    view = page.viewport_size
    assert view is not None, "it was set"
    if size[0] > view["width"]:
        print(f"{path.stem}: {size[0]} pixels wide")  # noqa: T201
    # A window as tall as the page: what sticks to its edge stands where a reader sees it.
    page.set_viewport_size({"width": view["width"], "height": min(max(size[1], 600), TALLEST)})
    page.wait_for_timeout(200)
    page.screenshot(path=path)
    page.set_viewport_size(view)


SYSTEM = """\
You are the assistant of Harbour & Pine, a shop for home and outdoor goods. Answer in one paragraph
of 15 to 50 words, and end with a question about the order or the item.
"""
GUIDELINES = """\
# What a good answer is

- It is about what the customer wrote, and ends with a question of our own.
- It has 15 to 50 words, and one paragraph.
- It promises no refund, and asks for no password.

Both may be bad: say so, rather than choosing the smaller evil.
"""

if __name__ == "__main__":
    main()
