"""Check the built site: every local link leads to a file and an anchor that are there, and no page asks
another host for anything.

    python docs/check_site.py docs/_build/html
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself, by tag."""


class Page(HTMLParser):
    """The ids of a page, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value}
        self.ids.update(found[key] for key in ("id", "name") if key in found)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in LOADED and LOADED[tag] in found and found.get("rel") != "canonical":
            self.loads.append(found[LOADED[tag]])


def problems(root: Path) -> list[str]:
    files = [path for path in sorted(root.rglob("*.html")) if "_static" not in path.parts]
    pages = {path.resolve(): Page(path.read_text()) for path in files}
    found = []
    for path, page in pages.items():
        name = path.relative_to(root.resolve())
        for target in page.loads:
            if urlsplit(target).netloc:
                found.append(f"{name}: loads {target} from another host")
        for target in {*page.links, *page.loads}:
            url = urlsplit(target)
            if url.scheme or url.netloc or (name.name in SPECIAL and not url.path):
                continue
            other = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not other.is_file():
                found.append(f"{name}: {target} leads to no file")
            elif url.fragment and other in pages and unquote(url.fragment) not in pages[other].ids:
                found.append(f"{name}: {target} leads to no anchor")
    for path in [*root.rglob("*.css"), *files]:
        text = path.read_text(errors="ignore")
        for start in ("url(http", "url('http", 'url("http', "@import"):
            if start in text and "//" in text[text.index(start) :][:40]:
                found.append(f"{path.relative_to(root)}: {start} fetches from another host")
    return found


SPECIAL = {"search.html", "genindex.html"}
"""Pages whose anchors are made by scripts or lead to letters without entries."""

if __name__ == "__main__":
    faults = problems(Path(sys.argv[1]))
    sys.exit("\n".join(faults) if faults else 0)
