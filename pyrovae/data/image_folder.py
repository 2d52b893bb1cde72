"""Reading a folder of image files as one uint8 array."""

import warnings
from pathlib import Path

import numpy as np

from pyrovae.data.errors import DataError
from pyrovae.data.sizes import refuse_large

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
ORIENTATION = 0x0112
"""The EXIF tag that says how an image is to be turned."""
OTHERS = (".webp", ".tif", ".tiff", ".heic", ".avif", ".jp2", ".ppm", ".pgm")
"""Images that are not read, and are not to be left out without a word."""
_SPLIT_NAMES = {"train", "training", "valid", "val", "validation", "test", "testing"}


def read_image_folder(folder: Path) -> tuple[dict[str, np.ndarray], str]:
    """All images below ``folder``, sorted by path, as x, with y if each lies in a subfolder; and a
    note.

    y numbers the sorted names of the first-level subfolders. Images are grey if all are, RGB
    otherwise; hidden files are skipped and only the first frame of a GIF is read.

    Shapes: x (N, H, W) or (N, H, W, 3), uint8; y (N,), int64.

    Raises:
        DataError: no images, different sizes, unreadable, 16-bit or transparent ones, subfolders
        named train and test.

    Example:
        >>> import tempfile, numpy as np
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as name:
        ...     for i in range(3):
        ...         Image.fromarray(np.full((4, 5), i, np.uint8)).save(f"{name}/{i}.png")
        ...     read_image_folder(Path(name))[0]["x"].shape
        (3, 4, 5)
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise DataError(
            f"{folder} has no images in it; expected files ending in {', '.join(SUFFIXES)}. "
            "For arrays give the .npy or .npz file itself."
        )
    unread = next((path for path in folder.rglob("*") if path.suffix.lower() in OTHERS), None)
    if unread is not None:
        raise DataError(
            f"{unread} is an image of a kind that is not read; expected {', '.join(SUFFIXES)}. "
            "Convert such files, or move them out of the folder."
        )
    owners = [
        path.relative_to(folder).parts[0] if path.parent != folder else None for path in files
    ]
    names = sorted({owner for owner in owners if owner is not None})
    if {name.lower() for name in names} & _SPLIT_NAMES:
        raise DataError(
            f"{folder} has subfolders {names}, which look like train and test parts and would be read as "
            "classes. Give one of them, or save an .npz with x and x_test."
        )
    x, colour = _stack(files)
    note = f"{len(files)} {colour} images"
    if None in owners:
        return {"x": x}, note
    y = np.array([names.index(owner) for owner in owners if owner is not None], np.int64)
    return {"x": x, "y": y}, f"{note} in classes {', '.join(names)}"


def _stack(files: list[Path]) -> tuple[np.ndarray, str]:
    first = _read(files[0], None)
    refuse_large(files[0].parent, first.size * len(files))
    images = [first, *(_read(path, (files[0], first.shape[1::-1])) for path in files[1:])]
    if all(image.ndim == 2 for image in images):
        return np.stack(images), "grey"
    return np.stack(
        [image if image.ndim == 3 else np.stack([image] * 3, axis=-1) for image in images]
    ), "RGB"


def _read(path: Path, like: tuple[Path, tuple[int, int]] | None) -> np.ndarray:
    """One image; `like`: another and its width and height, compared before memory is taken for the
    pixels."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError(
            f"image files are read by Pillow, which cannot be imported ({error}). "
            "Run: pip install pillow"
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path)
        with image:
            if image.getexif().get(ORIENTATION, 1) != 1:  # as cameras store what was held upright
                ImageOps.exif_transpose(image, in_place=True)
            if like is not None and image.size != like[1]:
                sizes = [f"{height} x {width}" for width, height in (like[1], image.size)]
                raise DataError(
                    f"{like[0]} is {sizes[0]} pixels and {path} is {sizes[1]}; expected one size. "
                    "Resize or crop."
                )
            image.load()
            if image.mode[0] in "IF":
                raise DataError(
                    f"{path} has more than 8 bits a pixel (mode {image.mode}); expected 8. Convert it, or "
                    "save the pixels as floats in [0, 1] in an .npy file."
                )
            bands = image.convert("RGBA") if "transparency" in image.info else image
            if "A" in bands.getbands() and (np.asarray(bands.getchannel("A")) < 255).any():
                raise DataError(
                    f"{path} has transparent pixels, whose colour is undefined. "
                    "Put it on a background first."
                )
            return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise nearly anything inside a decoder
        raise DataError(
            f"{path} cannot be read as an image ({error}). Delete it or save it again."
        ) from error
