"""Augmentation against torch's own reflection padding."""

import pytest
import torch
from torch import Tensor

from trainers.augment import Augment, gather_augmented
from trainers.errors import DataError


def images(n: int = 12, height: int = 8, width: int = 6, channels: int = 3) -> Tensor:
    shape = (n, height, width, channels)
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(5)).byte()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(image: Tensor, crop: int) -> list[Tensor]:
    """Every window of the (H, W, C) image, padded by torch."""
    height, width = image.shape[:2]
    padded = torch.nn.functional.pad(
        image.permute(2, 0, 1)[None].float(), (crop,) * 4, mode="reflect"
    )[0].permute(1, 2, 0)
    return [
        padded[top : top + height, left : left + width]
        for top in range(2 * crop + 1)
        for left in range(2 * crop + 1)
    ]


def place(out: Tensor, windows: list[Tensor]) -> int | None:
    return next((i for i, window in enumerate(windows) if torch.equal(out, window)), None)


def test_without_crop_and_flip_it_is_plain_indexing() -> None:
    pool, index = images(), torch.tensor([3, 0, 0, 11, 7])
    out = gather_augmented(pool, index, Augment(), generator=generator())
    assert out.dtype == torch.uint8
    assert torch.equal(out, pool[index])


@pytest.mark.parametrize("crop", [1, 2, 4])
def test_every_output_is_a_crop_of_the_reflected_image(crop: int) -> None:
    pool, index = images(), torch.arange(12).repeat(60)
    out = gather_augmented(pool, index, Augment(crop=crop), generator=generator())
    windows = [crops(image, crop) for image in pool]
    places = [place(o.float(), windows[i]) for o, i in zip(out, index.tolist(), strict=True)]
    assert None not in places
    n_shifts = 2 * crop + 1
    assert {place // n_shifts for place in places} == set(range(n_shifts))
    assert {place % n_shifts for place in places} == set(range(n_shifts))


def test_a_flipped_crop_is_the_mirror_image_of_a_crop_about_half_of_the_time() -> None:
    pool, index = images(), torch.arange(12).repeat(60)
    out = gather_augmented(pool, index, Augment(crop=1, flip=True), generator=generator())
    windows = [crops(image, 1) for image in pool]
    mirrored = 0
    for o, i in zip(out, index.tolist(), strict=True):
        if place(o.float(), windows[i]) is None:
            assert place(o.flip(1).float(), windows[i]) is not None
            mirrored += 1
    assert 300 < mirrored < 420  # of 720: 4.5 standard deviations


def test_a_flip_alone_keeps_or_mirrors_each_image() -> None:
    pool, index = images(), torch.arange(12).repeat(10)
    out = gather_augmented(pool, index, Augment(flip=True), generator=generator())
    kept = [torch.equal(o, p) for o, p in zip(out, pool[index], strict=True)]
    turned = [torch.equal(o.flip(1), p) for o, p in zip(out, pool[index], strict=True)]
    assert [a != b for a, b in zip(kept, turned, strict=True)] == [True] * 120
    assert any(kept)
    assert any(turned)


def test_the_generator_alone_decides() -> None:
    pool, index, both = images(), torch.arange(12), Augment(crop=2, flip=True)
    once = gather_augmented(pool, index, both, generator=generator(1))
    torch.rand(5)  # the global generator plays no part
    assert torch.equal(once, gather_augmented(pool, index, both, generator=generator(1)))
    assert not torch.equal(once, gather_augmented(pool, index, both, generator=generator(2)))


def test_the_images_themselves_do_not_change() -> None:
    pool, before = images(), images()
    out = gather_augmented(
        pool, torch.arange(12), Augment(crop=2, flip=True), generator=generator()
    )
    out.zero_()
    assert torch.equal(pool, before)


@pytest.mark.parametrize("crop", [6, 7, 100])
def test_a_crop_as_large_as_the_image_is_refused(crop: int) -> None:
    with pytest.raises(DataError, match=rf"crop must be smaller .* 8 x 6 pixels, got {crop}"):
        gather_augmented(images(), torch.tensor([0]), Augment(crop=crop), generator=generator())


def test_a_negative_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="crop must be at least 0 pixels, got -1"):
        Augment(crop=-1)
