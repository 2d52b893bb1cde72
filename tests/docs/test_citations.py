"""Every arXiv number that code and pages cite has an entry in references.bib, and the other way round."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
sys.path.append(str(ROOT / "docs" / "_ext"))
import citations  # noqa: E402

ENTRIES = citations.read_entries((ROOT / "docs" / "references.bib").read_text())
FOLDERS = ("pyrovae", "scripts", "docs")


def test_entries_are_whole() -> None:
    assert len({entry["key"] for entry in ENTRIES}) == len(ENTRIES) > 100
    for entry in ENTRIES:
        assert (
            entry["author"]
            and entry["title"][0] not in "{ "
            and re.fullmatch(r"\d{4}", entry["year"])
        )
        assert ("eprint" in entry) != ("howpublished" in entry)


def test_what_is_cited_is_listed() -> None:
    cited = set()
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if (
                path.suffix in (".py", ".md")
                and "_build" not in path.parts
                and "generated" not in path.parts
            ):
                cited |= set(re.findall(r"arXiv:(\d{4}\.\d{4,5})", path.read_text()))
    listed = {entry["eprint"] for entry in ENTRIES if "eprint" in entry}
    assert cited == listed


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("Neal, Radford M.", "Neal"),
        ("Kingma, Diederik P. and Welling, Max", "Kingma and Welling"),
        (
            r"S{\o}nderby, Casper Kaae and Raiko, T. and Maal{\o}e, L.",
            "Sønderby, Raiko and Maaløe",
        ),
        (r"R{\"a}tsch, G. and A, B. and C, D. and E, F. and G, H.", "Rätsch et al."),
    ],
)
def test_names(author: str, expected: str) -> None:
    assert citations.names(author) == expected
