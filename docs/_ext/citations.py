"""The page of citations: every entry of references.bib, where it is used, and its BibTeX."""

import re
import unicodedata
from pathlib import Path

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
ACCENTS = {
    '"': "\N{COMBINING DIAERESIS}",
    "'": "\N{COMBINING ACUTE ACCENT}",
    "v": "\N{COMBINING CARON}",
}
LETTERS = {r"{\o}": "ø", r"{\l}": "ł"}
Entry = dict[str, str]


def read_entries(text: str) -> list[Entry]:
    """Fields of all entries, with `key`, and the entry itself as `bibtex`."""
    entries = []
    for block in re.findall(r"@misc\{.*?\n\}\n", text, flags=re.DOTALL):
        fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", block, flags=re.MULTILINE))
        fields["title"] = fields["title"][1:-1]  # its second braces keep capitals
        entries.append({**fields, "key": block[6 : block.index(",")], "bibtex": block})
    return entries


def plain(text: str) -> str:
    """TeX's accents as letters."""
    for tex, letter in LETTERS.items():
        text = text.replace(tex, letter)
    text = re.sub(r"\{\\(['\"v])\{?(\w)\}?\}", lambda found: found[2] + ACCENTS[found[1]], text)
    return unicodedata.normalize("NFC", text)


def names(author: str) -> str:
    """The last names: "A", "A and B", "A, B and C", of more than four "A et al."."""
    last = [plain(one).split(",")[0] for one in author.split(" and ")]
    if len(last) > 4:
        return f"{last[0]} et al."
    return " and ".join(part for part in (", ".join(last[:-1]), last[-1]) if part)


def sources() -> dict[str, str]:
    """Title and text of everything that cites: pages of the site, and the package."""
    found = {}
    cited = [*DOCS.glob("*.md"), *DOCS.glob("course/*.py"), *(ROOT / "pyrovae").rglob("*.py")]
    for path in sorted(cited):
        if path.parent.name == "course":
            title = f"[course, page {path.stem[:2].lstrip('0')}](course/{path.stem}.rst)"
        elif path.suffix == ".md":
            title = f"[{path.stem}](../{path.name})"
        else:
            title = f"`{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}`"
        found[title] = path.read_text()
    return found


def page() -> str:
    entries, texts = read_entries((DOCS / "references.bib").read_text()), sources()
    lines = [
        "# Citations",
        "",
        "What the library and these pages draw on, and where it is cited by its arXiv number.",
        "",
    ]
    for entry in entries:
        where = entry.get("howpublished", "")
        if "eprint" in entry:
            where = f"[arXiv:{entry['eprint']}](https://arxiv.org/abs/{entry['eprint']})"
        line = f"* {names(entry['author'])} {entry['year']}. *{plain(entry['title'])}*. {plain(where)}."
        users = [title for title, text in texts.items() if entry.get("eprint", " ") in text]
        lines.append(
            f"{line} Cited in {', '.join(users)}." if "eprint" in entry and users else line
        )
    lines += ["", "## BibTeX", "", "```bibtex", *(entry["bibtex"] for entry in entries), "```", ""]
    return "\n".join(lines)


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = page()
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
