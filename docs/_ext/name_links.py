"""`ElboLoss` in running text links to its page of the API."""

from typing import Any

from api_pages import names_for_links
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

NAMES = names_for_links()


def link(app: Sphinx, doctree: nodes.document) -> None:
    """Wrap the literals that are names of public objects, outside titles and links."""
    for literal in list(doctree.findall(nodes.literal)):
        full = NAMES.get(literal.astext().removesuffix("()"))
        if full is None or inside(literal, (nodes.title, nodes.reference, addnodes.pending_xref)):
            continue
        reference = addnodes.pending_xref(
            "",
            refdomain="py",
            reftype="obj",
            reftarget=full,
            refdoc=app.env.docname,
            refexplicit=True,
        )
        literal.replace_self(reference)
        reference += literal


def inside(node: nodes.Node, kinds: tuple[type, ...]) -> bool:
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-read", link)
    return {"parallel_read_safe": True}
