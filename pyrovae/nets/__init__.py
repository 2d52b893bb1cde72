"""Nets: plain modules that act on the rightmost dims and broadcast over the rest."""

from pyrovae.nets.batched import Batched
from pyrovae.nets.bounded import BoundedScale
from pyrovae.nets.codebook import Codebook
from pyrovae.nets.constant import Constant
from pyrovae.nets.conv import ConvDecoder, ConvEncoder
from pyrovae.nets.corrupted import Corrupted
from pyrovae.nets.denoiser import Denoiser
from pyrovae.nets.gated import GatedMLP
from pyrovae.nets.lenet import LeNet
from pyrovae.nets.mlp import MLP
from pyrovae.nets.noise_schedule import NoiseSchedule
from pyrovae.nets.residual import Downsampling, Place, ResidualCell, Upsampling
from pyrovae.nets.resnet import ResNet
from pyrovae.nets.standardized import Standardized

__all__ = [
    "MLP",
    "Batched",
    "BoundedScale",
    "Codebook",
    "Constant",
    "ConvDecoder",
    "ConvEncoder",
    "Corrupted",
    "Denoiser",
    "Downsampling",
    "GatedMLP",
    "LeNet",
    "NoiseSchedule",
    "Place",
    "ResNet",
    "ResidualCell",
    "Standardized",
    "Upsampling",
]
