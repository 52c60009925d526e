"""The data sets, and what a config says of the images: which, how many, and who validates."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from .files import ROOT
from .own_data import read_own
from .settings import Count, StrictModel, seed_or_word

DATA_ROOT = ROOT / "data"


class DatasetInfo(NamedTuple):
    """What a network has to know of a data set."""

    shape: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    images: int
    """Of training."""


DATASETS = {
    "mnist": DatasetInfo((1, 28, 28), 10, 60_000),
    "fashion_mnist": DatasetInfo((1, 28, 28), 10, 60_000),
    "kmnist": DatasetInfo((1, 28, 28), 10, 60_000),
    "cifar10": DatasetInfo((3, 32, 32), 10, 50_000),
}
"""By the config's word; beside them there are the user's own files."""

OWN = ".npz"
"""How the name of a user's own file ends."""


def dataset_info(name: str) -> DatasetInfo:
    """Of a data set by its name, or of a user's own file in data/. Raises ValueError where that is unfit."""
    if not name.endswith(OWN):
        return DATASETS[name]
    own = read_own(DATA_ROOT / name)
    return DatasetInfo(own.shape, own.classes, own.images)


class DataConfig(StrictModel):
    """Which images, and which of them train, validate and test."""

    dataset: Literal[tuple(DATASETS)] | Annotated[str, Field(pattern=r"\.npz$")] = Field(
        description="Which data set, or the name of a file of your own in data/: a .npz of train_images and "
        "test_images, uint8 [n, height, width] or [n, channels, height, width], and train_labels and "
        "test_labels, whole numbers from 0."
    )
    sha256: str | None = Field(
        None, description="Of the images and labels of a file of your own; leave it out, it is filled in."
    )
    validation_size: Count = Field(
        5000, ge=0, description="Images held out of the training set for validation; 0: no validation."
    )
    split_seed: Count | Literal["seed"] = Field(
        0,
        description="Draws the split, from 0; independent of the run's seed. 'seed': the run's seed draws "
        "the train_size images that are trained on; those of validation are the ones of 0.",
    )
    train_size: Count | None = Field(
        None, ge=1, description="Images to train on; default: all that validation leaves."
    )

    @model_validator(mode="before")
    @classmethod
    def _knows_its_own_file(cls, words: Any) -> Any:
        """An own file is identified by what is in it."""
        name = words.get("dataset") if isinstance(words, dict) else None
        if not isinstance(name, str) or not name.endswith(OWN):
            return words
        if "/" in name:
            raise ValueError(f"expected the name of a file in {DATA_ROOT}, found {name!r}")
        return {"sha256": read_own(DATA_ROOT / name).sha256} | words

    @field_validator("split_seed", mode="before")
    @classmethod
    def _is_a_seed(cls, seed: Any) -> Any:
        return seed_or_word(seed, "seed")

    @model_validator(mode="after")
    def _has_a_subset(self) -> "DataConfig":
        if self.split_seed == "seed" and self.train_size is None:
            raise ValueError("the split_seed 'seed' draws a subset: say its 'train_size'")
        return self


def training_images(data: DataConfig) -> int:
    """How many images there are to train on, also where a config leaves their number out."""
    return data.train_size or dataset_info(data.dataset).images - data.validation_size
