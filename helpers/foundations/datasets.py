"""The data sets, and what a config says of the images: which, how many, and who validates."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .settings import Count, StrictModel, seed_or_word

DATASETS: dict[str, tuple[tuple[int, int, int], int, int]] = {
    "mnist": ((1, 28, 28), 10, 60_000),
    "fashion_mnist": ((1, 28, 28), 10, 60_000),
    "kmnist": ((1, 28, 28), 10, 60_000),
    "cifar10": ((3, 32, 32), 10, 50_000),
}
"""Image shape (channels, height, width), number of classes, number of training images."""


class DataConfig(StrictModel):
    """Which images, and which of them train, validate and test."""

    dataset: Literal["mnist", "fashion_mnist", "kmnist", "cifar10"] = Field(description="Which data set.")
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
    return data.train_size or DATASETS[data.dataset][2] - data.validation_size
