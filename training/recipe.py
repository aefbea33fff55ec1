"""How a network is trained: every choice that the weights depend on, validated once."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from isoserve.models.backbones import Preprocessing, build_backbone
from isoserve.models.card import DEFAULT_ALPHA, DEFAULT_DELTA
from isoserve.models.classifier import Classifier, build_classifier
from isoserve.models.heads import IsoMax2Head, IsoMaxHead, IsoMaxPlusHead


class Recipe(BaseModel):
    """The defaults are the papers' recipe ([IsoMax2] section 4); the schedule scales to epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Literal["paper", "fast", "frozen", "finetune"] = Field(
        "paper", description="How to train; each recipe has defaults of its own for what follows."
    )
    network: str = Field(
        "resnet34_32",
        description="Backbone: ours for small images end in _32; efficientnet_lite0, timm/NAME, or "
        "one of torchvision's.",
    )
    weights: str = Field(
        "none",
        description="Of the network at the start: none (random), default (those its library "
        "publishes), or a FILE, .safetensors or .pth.",
    )
    loss: Literal["softmax", "isomax", "isomax+", "isomax2"] = Field(
        "isomax2", description="Last layer and its loss."
    )
    epochs: int = Field(300, ge=1, description="Passes over the training images.")
    batch_size: int = Field(64, ge=2, description="Images a step, over all devices together.")
    learning_rate: float = Field(
        0.1, gt=0, description="At its peak, of all weights but scales and tilts."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum of SGD.")
    weight_decay: float = Field(1e-4, ge=0, description="On all weights but scales and tilts.")
    scale_learning_rate: float = Field(
        0.1, gt=0, description="Of isomax2's scales and tilts, as a share of the learning rate."
    )
    scale_weight_decay: float = Field(0.0, ge=0, description="On isomax2's scales and tilts.")
    entropic_scale: float = Field(10.0, gt=0, description="E_s of isomax and isomax+.")
    prototype_start: Literal["zeros", "normal", "class-means"] = Field(
        "zeros",
        description="Of the prototypes of isomax and isomax2: zeros as in their papers, normal "
        "with standard deviation 1, as those of isomax+ always, or the mean features of their "
        "classes (frozen).",
    )
    optimizer: Literal["sgd", "muon", "adamw"] = Field(
        "sgd",
        description="sgd: with Nesterov momentum; muon: that, but convolutions take steps of "
        "orthogonalised momentum; adamw: for networks that were trained before.",
    )
    body_learning_rate: float = Field(
        1.0, gt=0, description="Of adamw's network below the head, as a share of the learning rate."
    )
    freeze: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the network's layers, from the input on, that keep their weights.",
    )
    filter_learning_rate: float = Field(
        0.12, gt=0, description="Of muon's convolutions, at its peak."
    )
    augmentation: Literal["crop", "translate", "photo"] = Field(
        "crop",
        description="crop: padded random crop and random mirroring, as in the papers; translate: "
        "small shifts with reflected borders, mirrored in every second epoch; photo: crops out of "
        "larger photographs, mirroring, TrivialAugment and random erasing.",
    )
    mixing: float = Field(
        0.0,
        ge=0,
        description="Alpha of MixUp and CutMix, which mix each batch and its labels; 0: neither.",
    )
    cutout: int = Field(
        0, ge=0, description="Side of the square cut out of each training image; 0: none."
    )
    pixmix: float = Field(
        0.0, ge=0, le=1, description="Share of each batch that is mixed with pictures of fractals."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: each class weighs as much in the loss, however many images it has.",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of the target spread over all classes."
    )
    normalise_distances: bool = Field(
        False, description="Train on distances divided by their mean over the classes."
    )
    averaging: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Decay per step of the weights' moving average, which is what is exported; "
        "0: no average.",
    )
    teacher: str | None = Field(
        None, description="Run folder of a trained network whose class probabilities are learned."
    )
    teacher_weight: float = Field(
        0.7, ge=0, le=1, description="Of the teacher's probabilities, against the labels."
    )
    acet_steps: int = Field(
        0,
        ge=0,
        description="Steps of ACET's attack on noise beside each batch; 40 in its paper, 0: none.",
    )
    schedule: Literal["step", "one-cycle", "cosine"] = Field(
        "step",
        description="step: x 0.1 after 1/2, 2/3 and 5/6 of the epochs, as in the papers; "
        "one-cycle: linear warm-up over a fifth, then linear decay to zero, for few epochs; "
        "cosine: linear warm-up over a twentieth, then half a cosine to zero.",
    )
    views: int = Field(
        1,
        ge=1,
        description="In which frozen sees each image: as it is served, and so many less one at "
        "random.",
    )
    flip: bool = Field(True, description="Mirror half of the images; off for digits and text.")
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = Field(
        "32-true", description="Of the backbone; the head is always float32."
    )
    seed: int = Field(
        0, ge=0, lt=2**64, description="Fixes weights, order, augmentation and held-out images."
    )
    held_out: float = Field(
        0.1, gt=0, lt=1, description="Share of the training images held out for calibration."
    )
    compile: bool = Field(
        False, description="Compile the network by torch.compile: slow to start, then faster."
    )
    alpha: float = Field(DEFAULT_ALPHA, gt=0, lt=1, description="Share that may be rejected.")
    delta: float = Field(DEFAULT_DELTA, gt=0, lt=1, description="Chance to exceed alpha.")
    crop_size: int | None = Field(
        None,
        ge=8,
        le=4096,
        description="Side in pixels of the crops that photo trains on; the input's if not given. "
        "Smaller ones are cheaper, and things in a crop then look as large as in a whole "
        "photograph.",
    )
    image_size: int | None = Field(
        None, ge=8, le=4096, description="Input side in pixels; the network's own if not given."
    )

    def fresh_classifier(self, num_classes: int) -> Classifier:
        """The recipe's network and head, freshly initialised.

        Raises:
            ValueError: no such network.
        """
        return self._classifier(num_classes, "none")

    def starting_classifier(self, num_classes: int) -> Classifier:
        """The recipe's network with the weights it starts from, and a fresh head.

        Raises:
            ValueError: no such network, or weights that are not to be had or do not fit.
        """
        return self._classifier(num_classes, self.weights)

    def preprocessing(self) -> Preprocessing | None:
        """What the weights it starts from expect of pixels; None for random ones."""
        return None if self.weights == "none" else build_backbone(self.network).preprocessing

    def _classifier(self, num_classes: int, weights: str) -> Classifier:
        classifier = build_classifier(self.network, self.loss, num_classes, weights)
        head = classifier.head
        if isinstance(head, (IsoMaxHead, IsoMaxPlusHead)):
            head.entropic_scale = self.entropic_scale
        if self.prototype_start == "normal" and isinstance(head, (IsoMaxHead, IsoMax2Head)):
            nn.init.normal_(head.prototypes)
        return classifier

    def learning_rate_factor(self, progress: float) -> float:
        """Factor on every group's learning rate; progress in [0, 1) is the share of steps done."""
        if self.schedule == "one-cycle":
            warm_up = 0.2
            if progress < warm_up:
                return max(progress / warm_up, 0.02)
            return (1 - progress) / (1 - warm_up)
        if self.schedule == "cosine":
            warm_up = 0.05
            if progress < warm_up:
                return max(progress / warm_up, 0.02)
            return (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up))) / 2
        return 0.1 ** sum(progress >= milestone for milestone in (1 / 2, 2 / 3, 5 / 6))
