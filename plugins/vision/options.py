"""Options of the vision plugin's components. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from core.components import Options
from core.data.options import Splits


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] < limits[1]:
        raise ValueError(f"expected [low, high] with low below high, got {list(limits)}")
    return limits


Limits = Annotated[tuple[float, float], AfterValidator(_rising)]
Side = Annotated[int, Field(gt=0)]
Size = Side | tuple[Side, Side]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if not 0 < limits[0] <= limits[1]:
        raise ValueError(f"expected [low, high] above zero, low first, got {list(limits)}")
    return limits


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]


def _part(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[1] > 1:
        raise ValueError(f"expected parts of the area, 1 at most, got {list(limits)}")
    return limits


Part = Annotated[Range, AfterValidator(_part)]


class Classify(Options):
    """The labels, and how the files that a user points at become images like those of the dataset."""

    size: tuple[Side, Side] | None = Field(
        None,
        description="height and width of the dataset's images, in pixels, where it gives grey images, not files;"
        " null: files go through the recipe's `decode`",
    )
    values: Limits = Field((0.0, 1.0), description="with `size`: what black and white are in the dataset")
    base_labels: Literal["keep", "drop"] | None = Field(
        None,
        description="the base's own labels: new ones follow them, or they give way to a new head with the data's; null:"
        " they are kept where half of the data's are among them",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of convolutions and matrix products in training; bfloat16 is faster where the processor has them"
        " (AMX, AVX512-BF16, GPUs); weights and predictions are float32",
    )


class Detect(Options):
    """Anchors, and which of the boxes that a model proposes are kept."""

    anchors: int = Field(
        9,
        gt=0,
        description="how many sizes are fitted to the boxes of `train`, for models with anchors of ours",
    )
    visible: Probability = Field(
        0.3,
        description="a box is learned from where this part of it, at least, is left in an augmented image",
    )
    score: Probability = Field(0.02, description="boxes with lower scores are not told")
    overlap: Probability = Field(
        0.5,
        description="of two boxes of a class that overlap more (intersection over union), the one with the lower score"
        " goes",
    )
    most: int = Field(
        100, gt=0, le=100, description="boxes told of a picture, at most; COCO's metrics count so many"
    )


class Digits(Options):
    """The new world that the base is adapted to."""

    draw: int = Field(
        0, ge=0, lt=2**32, description="which noise, and which examples to train on and select with"
    )
    noise: float = Field(0.3, ge=0, description="standard deviation, where black is 0 and white is 1")
    train_per_class: int = Field(
        5, gt=0, description="labelled examples of each of the ten classes to train on"
    )
    select_per_class: int = Field(5, gt=0, description="examples of each class to select with")


class Builtin(Options):
    """A base in the plugin's folder `bases`."""

    name: str = Field("digits-0to7", description="the base's name")


class Scale(Options):
    """Values from one fixed range to another."""

    of: Limits = Field((0.0, 16.0), description="the range of the values as they come")
    to: Limits = Field((0.0, 1.0), description="the range they are mapped to, linearly")


class Affine(Options):
    """Each amount is drawn uniformly from its range."""

    degrees: float = Field(0.0, ge=0, le=180, description="rotation, at most, either way")
    scale: float = Field(0.0, ge=0, lt=1, description="zoom, at most, in or out: 0.1 is from 0.9 to 1.1")
    shift: float = Field(0.0, ge=0, description="shift along each side, at most, in pixels")


class Noise(Options):
    """Gaussian noise, drawn for each pixel."""

    sigma: float = Field(
        gt=0, description="standard deviation, in the units of the values at this place in the recipe"
    )
    clamp: Limits | None = Field((0.0, 1.0), description="the range that values are kept in; null for none")


class Decode(Options):
    """What a picture's file becomes: bytes, of which 255 is white."""

    channels: Literal[1, 3] = Field(3, description="3: red, green and blue; 1: grey")
    ground: Literal["black", "white"] = Field("white", description="what lies behind transparent parts")


class Resize(Options):
    """Smaller images are made with antialiasing."""

    size: Size = Field(description="pixels: the short side's length, or [height, width]")
    interpolation: Literal["nearest", "bilinear", "bicubic"] = Field(
        "bilinear", description="between pixels; bicubic where the base was trained with it"
    )


class CenterCrop(Options):
    """The middle of the image."""

    size: Size = Field(description="pixels: the side of a square, or [height, width]")


class RandomCrop(Options):
    """A window at a random place."""

    size: Size = Field(description="pixels: the side of a square, or [height, width]")
    padding: int = Field(0, ge=0, description="pixels that are added on each side first")
    fill: Literal["black", "edge", "reflect"] = Field("black", description="what the added pixels are")


class RandomResizedCrop(Options):
    """A window of random size and shape, resized."""

    size: Size = Field(description="pixels: the side of a square, or [height, width]")
    scale: Part = Field((0.35, 1.0), description="the window's part of the area, at least and at most")
    ratio: Range = Field((3 / 4, 4 / 3), description="width by height of the window, at least and at most")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="between pixels")


class Flip(Options):
    """Mirrored images."""

    direction: Literal["horizontal", "vertical"] = Field("horizontal", description="what changes places")
    probability: Probability = Field(0.5, description="how often")


class ColorJitter(Options):
    """Each amount is drawn uniformly: a brightness of 0.2 is a factor from 0.8 to 1.2."""

    brightness: float = Field(0.0, ge=0, description="at most, either way")
    contrast: float = Field(0.0, ge=0, description="at most, either way")
    saturation: float = Field(0.0, ge=0, description="at most, either way")
    hue: float = Field(0.0, ge=0, le=0.5, description="at most, either way; 0.5 is the opposite colour")


class RandAugment(Options):
    """Random operations of torchvision's list: turning, shearing, shifting, colours, contrast, sharpness."""

    operations: int = Field(2, gt=0, description="how many, one after the other")
    magnitude: int = Field(9, ge=0, le=30, description="how strong, of 30")


class Erase(Options):
    """A black rectangle at a random place."""

    probability: Probability = Field(0.25, description="how often")
    scale: Part = Field((0.02, 0.33), description="its part of the area, at least and at most")
    ratio: Range = Field((0.3, 3.3), description="its width by height, at least and at most")


class Images(Options):
    """A folder with one folder a class; or one with `train` and `report` (`test`), and perhaps `select` (`val`), of
    class folders; or a table of path and label."""

    path: str = Field(description="the folder, or a CSV, TSV, JSONL or Parquet file")
    splits: Splits | None = Field(
        None,
        description="how to take select and report where they are not given; null: as the folders or the column"
        " `split` say, or else at random, with each label's share kept (stratified)",
    )
    unreadable: Literal["stop", "skip"] = Field(
        "stop", description="what files that are no pictures, or broken ones, do to the run"
    )
    picture: str = Field(
        "path", description="in a table: the column of the files, relative to the table's folder"
    )
    label: str = Field("label", description="in a table: the column of the labels")


class Boxes(Options):
    """A folder in the form of Pascal VOC: JPEGImages, Annotations, and perhaps ImageSets/Main."""

    path: str = Field(description="the folder")
    splits: Splits | None = Field(
        None,
        description="how to take select and report where ImageSets/Main does not give them; null: at random",
    )
    classes: list[str] | None = Field(
        None,
        min_length=1,
        description="the classes there are; null: those that `train` shows. A box of any other is an error",
    )
    unannotated: Literal["stop", "skip", "empty"] = Field(
        "stop",
        description="what a picture without an annotation file does: end the run, be left out, or count as one of"
        " nothing",
    )


class Idx(Options):
    """Images and labels in idx files, named as MNIST's are; `.gz` too."""

    path: str = Field(
        description="the folder of the files (train-images..., train-labels..., t10k-images...), or one file of images"
    )
    splits: Splits | None = Field(
        None,
        description="how to take select, and report where it is not given, out of train; null: at random, with each"
        " label's share kept (stratified)",
    )
    labels: list[str] | None = Field(
        None, description="what the labels 0, 1, 2... are called; null: as they are"
    )


class DenseBehind(Options):
    """A new dense layer behind each of some layers."""

    behind: list[str] = Field(min_length=1, description="the names of the dense layers, as in the model")
    width: int = Field(256, gt=0, description="how wide the new layers are")


class NewBoxes(Options):
    """Other classes and anchors."""

    classes: int = Field(gt=0, description="how many, without the background")
    anchors: list[list[tuple[Positive, Positive]]] | None = Field(
        None, description="[width, height] in pixels of the model's input, by level; null: as they are"
    )


class Detector(Options):
    """A detector of torchvision's, with its published weights or others."""

    name: str = Field(
        description="as torchvision names it: `fasterrcnn_resnet50_fpn`, `ssdlite320_mobilenet_v3_large`"
    )
    weights: str | None = Field(
        None,
        description="a local file of weights, safetensors or torch's; null: torchvision's own, from the net or torch's"
        " cache",
    )
    pretrained: bool = Field(
        True, description="false: fresh weights (to try things out: nothing is adapted then)"
    )
    labels: list[str] | None = Field(
        None,
        description="with `weights`: what is found, in order; null: COCO's classes, where there are 91 outputs",
    )
    licence: str | None = Field(None, description="with `weights`: their licence, as an SPDX name")
    arguments: dict[str, bool | int | float | str] = Field(
        {}, description="more arguments of the architecture, as in {min_size: 320}"
    )


class Timm(Options):
    """A model of timm's, with its published weights or others."""

    name: str = Field(description="as timm names it: `resnet18`, `resnet18.a1_in1k`, `vit_tiny_patch16_224`")
    weights: str | None = Field(
        None,
        description="a local file of weights, safetensors or torch's; null: timm's own, from its hub or cache",
    )
    pretrained: bool = Field(
        True, description="false: fresh weights (to try things out: nothing is adapted then)"
    )
    labels: list[str] | None = Field(
        None,
        description="with `weights`: what the outputs mean, in order; null: ImageNet's, where there are 1,000",
    )
    licence: str | None = Field(None, description="with `weights`: their licence, as an SPDX name")
    arguments: dict[str, bool | int | float | str] = Field(
        {}, description="more arguments of the architecture, as in {drop_path_rate: 0.1}"
    )
