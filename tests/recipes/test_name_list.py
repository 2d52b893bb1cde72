"""Several names in one word."""

import pytest

from pyrovae.recipes.name_list import several
from pyrovae.recipes.refusal import Refusal


def test_names_are_known_and_there_once() -> None:
    known = ["map", "bbb", "swag"]
    assert several("--methods", "bbb,map", known) == ["bbb", "map"]
    with pytest.raises(
        Refusal, match="--methods names bb; expected some of map, bbb, swag. Did you mean bbb"
    ):
        several("--methods", "map,bb", known)
    with pytest.raises(Refusal, match="--methods names map more than once; expected each once"):
        several("--methods", "map,bbb,map", known)
