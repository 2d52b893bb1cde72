"""All families, in the order of the tables."""

from pyrovae.recipes.landscape.densities import DENSITIES
from pyrovae.recipes.landscape.diffusion import DIFFUSION
from pyrovae.recipes.landscape.discrete import DISCRETE
from pyrovae.recipes.landscape.family import Family
from pyrovae.recipes.landscape.real import REAL
from pyrovae.recipes.landscape.unnormalized import UNNORMALIZED
from pyrovae.recipes.landscape.vaes import VAES

RBM, *GENERATORS = UNNORMALIZED
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        *DENSITIES[:3],
        RBM,
        *DENSITIES[3:],
        *VAES,
        *DISCRETE,
        *GENERATORS,
        *REAL,
        DIFFUSION,
    )
}
