import numpy as np
import torch

from isoserve.training.augment import crop_and_flip


def _images() -> torch.Tensor:
    # Distinct values at each place, none of them 0, so that black is told from image.
    values = torch.arange(1, 3 * 16 * 16 + 1) % 255 + 1
    return values.reshape(1, 3, 16, 16).repeat(200, 1, 1, 1).to(torch.uint8)


def test_each_image_is_shifted_and_perhaps_mirrored() -> None:
    images = _images()
    out = crop_and_flip(images, torch.Generator().manual_seed(0))
    original = images[0].numpy()
    padded = np.pad(original, ((0, 0), (2, 2), (2, 2)))
    crops = {}
    for top in range(5):
        for left in range(5):
            crop = padded[:, top : top + 16, left : left + 16]
            crops[crop.tobytes()] = (top, left, False)
            crops[crop[:, :, ::-1].tobytes()] = (top, left, True)
    seen = [crops[np.ascontiguousarray(image).tobytes()] for image in out.numpy()]
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
    assert 60 < sum(mirrored for _, _, mirrored in seen) < 140


def test_without_flip_nothing_is_mirrored() -> None:
    ramp = torch.arange(1, 17).repeat(64, 3, 16, 1).to(torch.uint8)  # rises from left to right
    out = crop_and_flip(ramp, torch.Generator().manual_seed(0), flip=False).int()
    inside = (out[..., 1:] > 0) & (out[..., :-1] > 0)
    assert ((out[..., 1:] > out[..., :-1]) | ~inside).all()


def test_the_same_generator_gives_the_same_batch() -> None:
    images = _images()
    first = crop_and_flip(images, torch.Generator().manual_seed(5))
    assert torch.equal(first, crop_and_flip(images, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, crop_and_flip(images, torch.Generator().manual_seed(6)))
