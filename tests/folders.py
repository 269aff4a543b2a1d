"""Folders of small images, made for tests: scikit-learn's digits as PNG files."""

from pathlib import Path

import numpy as np
from PIL import Image


def digit_folder(folder: Path, counts: dict[int, int], *, size: int = 48) -> Path:
    """Write `counts[digit]` images of each digit to `folder`/<digit>; return the folder."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit, count in counts.items():
        (folder / str(digit)).mkdir(parents=True)
        for number, pixels in enumerate(digits.images[digits.target == digit][:count]):
            image = Image.fromarray((pixels * 15).astype(np.uint8)).resize((size, size))
            image.save(folder / str(digit) / f"{number:03}.png")
    return folder
