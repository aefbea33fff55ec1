"""Images that belong to no class, made out of noise and of in-distribution images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

_TILES = 4


def synthetic_outliers(
    pixels: NDArray[np.uint8], count: int, seed: int
) -> dict[str, NDArray[np.uint8]]:
    """``count`` images of each kind, uint8 [count, H, W, 3].

    uniform and gaussian noise; noise with coarse grain; an image's pixels in random order; its
    sixteen tiles in random order; the mean of two images; its spectrum with random phases.

    Args:
        pixels: in-distribution images, [N, H, W, 3]; sides divisible by 4.
    """
    random = np.random.default_rng(seed)
    shape = (count, *pixels.shape[1:])

    def some() -> NDArray[np.float64]:
        return pixels[random.integers(0, len(pixels), count)].astype(np.float64)

    made = {
        "uniform": 255 * random.random(shape),
        "gaussian": 255 * random.normal(0.5, 1.0, shape),
        "coarse": np.stack([_coarse(image, random) for image in random.random(shape)]),
        "permuted": np.stack([_permuted(image, random) for image in some()]),
        "tiles": np.stack([_tiles(image, random) for image in some()]),
        "blends": (some() + some()) / 2,
        "phases": _other_phases(some(), random),
    }
    return {kind: images.round().clip(0, 255).astype(np.uint8) for kind, images in made.items()}


def _coarse(noise: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    smooth = gaussian_filter(noise, (random.uniform(1, 2.5),) * 2 + (0,), mode="wrap")
    return 255 * (smooth - smooth.min()) / (smooth.max() - smooth.min())


def _permuted(image: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    return random.permutation(image.reshape(-1, 3)).reshape(image.shape)


def _tiles(image: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    height, width = image.shape[0] // _TILES, image.shape[1] // _TILES
    tiles = image.reshape(_TILES, height, _TILES, width, 3).swapaxes(1, 2)
    shuffled = random.permutation(tiles.reshape(-1, height, width, 3))
    return shuffled.reshape(_TILES, _TILES, height, width, 3).swapaxes(1, 2).reshape(image.shape)


def _other_phases(images: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    amplitudes = np.abs(np.fft.fft2(images, axes=(1, 2)))
    noise = random.normal(size=(*images.shape[:3], 1))
    phases = np.angle(np.fft.fft2(noise, axes=(1, 2)))
    return np.fft.ifft2(amplitudes * np.exp(1j * phases), axes=(1, 2)).real
