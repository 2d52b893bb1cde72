"""Docstrings of this library for Sphinx.

They are plain text: paragraphs, `code` in single backticks, tables and lists as in Markdown, and
lines that begin with a name ("lr: ...", "Shapes: ...", "Raises: ...", "Example:"). They become
reStructuredText in which nothing but the code is markup, so that no formula is read as a role.
"""

import re
import textwrap
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"(Shapes and errors|Shapes|Raises|Errors|Source|Units|Keys|Warning): ?(.*)")
FIELD = re.compile(r"(\*{0,2}[a-z_]\w*(?:(?:, | and )\*{0,2}[a-z_]\w*)*): (.*)")
CODE = re.compile(r"``(.+?)``|`([^`]+)`", re.DOTALL)
SPECIAL = re.compile(r"([\\*`|_])")


def plain(text: str) -> str:
    """Text with its code as literals, and all else escaped."""
    parts, end = [], 0
    for match in CODE.finditer(text):
        parts.append(SPECIAL.sub(r"\\\1", text[end : match.start()]))
        code = " ".join((match[1] or match[2]).split())
        before = "" if not match.start() or text[match.start() - 1] in " \n([" else "\\ "
        after = "" if match.end() == len(text) or text[match.end()] in " \n.,;:)]" else "\\ "
        parts.append(f"{before}``{code}``{after}")
        end = match.end()
    return "".join([*parts, SPECIAL.sub(r"\\\1", text[end:])])


def convert(text: str) -> str:
    """reStructuredText of a docstring."""
    blocks = re.split(r"\n\s*\n", textwrap.dedent(text).strip("\n"))
    out: list[str] = []
    index = 0
    while index < len(blocks):
        block = blocks[index]
        index += 1
        if block.rstrip().endswith("::"):  # the indented block that follows is code
            out.append(plain(block.rstrip()[:-1]))
            if index < len(blocks):
                out.append(code_block(blocks[index]))
                index += 1
        elif re.match(r"\|.*\n\|[-|: ]+\n", block):
            out.append(table(block))
        else:
            out.extend(paragraphs(block.split("\n")))
    return "\n\n".join(out)


def paragraphs(lines: list[str]) -> list[str]:
    """A block without empty lines: sections, fields, lists, examples and prose follow one another."""
    out: list[str] = []
    while lines:
        line = lines.pop(0)
        body: list[str] = []
        if line.strip().startswith(">>>"):
            body = take(lines, lambda one: True)
            out.append(code_block("\n".join([line, *body])))
        elif re.fullmatch(r"Examples?:\s*", line):
            out.append("**Example.**")
        elif match := SECTION.fullmatch(line):
            body = take(lines, lambda one: not starts(one))
            out.append(f"**{match[1]}.** {prose([match[2], *body])}")
        elif match := FIELD.fullmatch(line):
            body = take(lines, lambda one: not starts(one))
            names = match[1].replace("*", "").replace(" and ", ", ").split(", ")
            names = ", ".join(f"``{name}``" for name in names)
            out.append(f"* {names}: {prose([match[2], *body])}")
        elif match := re.fullmatch(r"\s*[*-] (.*)", line):
            body = take(lines, lambda one: one.startswith(" ") and not starts(one))
            out.append(f"* {prose([match[1], *body])}")
        else:
            body = take(lines, lambda one: not starts(one))
            out.append(prose([line, *body]))
    return out


def starts(line: str) -> bool:
    """Does something new start on this line?"""
    known = SECTION.fullmatch(line) or FIELD.fullmatch(line)
    return bool(known or re.match(r"Examples?:\s*$|\s*>>>|[*-] ", line))


def take(lines: list[str], belongs: Any) -> list[str]:  # noqa: ANN401
    taken = []
    while lines and belongs(lines[0]):
        taken.append(lines.pop(0))
    return taken


def prose(lines: list[str]) -> str:
    return plain(" ".join(line.strip() for line in lines).strip())


def code_block(text: str) -> str:
    """Without the directives to doctest."""
    text = re.sub(r" *# doctest: [+A-Z_, ]+$", "", textwrap.dedent(text), flags=re.MULTILINE)
    return ".. code-block:: python\n\n" + textwrap.indent(text, "   ")


def table(block: str) -> str:
    """A Markdown table as a list-table."""
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        for line in block.split("\n")
        if not re.fullmatch(r"[|\s:-]+", line)
    ]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in rows:
        for position, cell in enumerate(row):
            lines.append(f"   {'* -' if position == 0 else '  -'} {plain(cell)}")
    return "\n".join(lines)


def process(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    lines[:] = [*convert("\n".join(lines)).split("\n"), ""] if any(lines) else []


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
