"""What a callable reaches."""

from functools import partial

import pyro
from objective_cases import vae
from pyro import poutine
from pyro.infer import config_enumerate
from torch import nn

import pyrovae as pv
from pyrovae.core.modules import find_modules


def test_modules_are_found_however_often_one_looks() -> None:
    """Not so if things that are gone lend their identity to others."""
    for _ in range(200):
        first, second = nn.Linear(2, 2), nn.Linear(2, 2)
        programs = [poutine.scale(net, 0.5) for net in (first, second)] + [
            partial(lambda net, x: net(x), second)
        ]
        assert {id(net) for net in find_modules(*programs).values()} == {id(first), id(second)}


NETS = [nn.Linear(2, 2)]


class Owner:
    def __init__(self) -> None:
        self.net = nn.Linear(2, 2)

    def method(self, x: object) -> object:
        return self.net(x)


def test_modules_are_found_in_what_functions_name_inside() -> None:
    first, owner = nn.Linear(2, 2), Owner()
    bound, half = owner.method, partial(lambda net, x: net(x), first)

    def program(x: object) -> object:
        return [net(x) for net in NETS] + [bound(x), half(x)] + [later(x)]

    assert {id(net) for net in find_modules(program).values()} == {
        id(NETS[0]),
        id(first),
        id(owner.net),
    }
    later = nn.Linear(2, 2)
    assert later in find_modules(program).values()


def test_a_scaled_pair_is_found_in_its_loss() -> None:
    for _ in range(50):
        model, guide = vae()
        loss = pv.ElboLoss(poutine.scale(model, 0.5), poutine.scale(guide, 0.5))
        assert len(list(loss.parameters())) == len([*model.parameters(), *guide.parameters()])


def test_what_handlers_of_pyro_wrap_is_found() -> None:
    net = nn.Linear(2, 3)

    def program(x: object) -> object:
        return net(x)

    for wrapped in (
        poutine.scale(program, 2.0),
        poutine.scale(scale=2.0)(program),
        config_enumerate(program),
        pyro.condition(poutine.mask(program, True), data={}),
        partial(lambda f, x: f(x), program),
        poutine.scale(partial(program), 2.0),
    ):
        assert list(find_modules(wrapped).values()) == [net]
    owner = Owner()
    assert list(find_modules(poutine.scale(scale=2.0)(owner.method)).values()) == [owner.net]
