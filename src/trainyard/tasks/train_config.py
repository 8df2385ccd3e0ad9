"""Block `train` of a recipe: what is minimised, how, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainyard.data.raw import Kind
from trainyard.errors import InputError
from trainyard.params import Count, Fraction, NonNegative, Positive, Seed
from trainyard.tasks.augment_config import AugmentConfig, foreign, oversized

if TYPE_CHECKING:
    from trainyard.models.spec import InputSpec

MOVED = {"word_dropout": "it is train.augment.token_dropout now: write augment: {token_dropout: ...}"}
"""Keys of earlier versions, and where what they said is said now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartConfig:
    """Weights to begin with, from a network of the same shape that was trained on other data."""

    weights: str
    """A safetensors file: a model.safetensors of ours, or a ResNet's under torchvision's names."""
    sha256: str | None = None
    """Of the file, so that another file is another training. Left out, the message says what it is."""
    freeze: bool = False
    """Train only the layers that the file has not, such as a head for other classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmaConfig:
    """An exponential moving average of the weights, which is what is scored, kept and exported (Polyak 1992; Tarvainen 2017,
    arXiv:1703.01780). The weights that train do not see it."""

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Share of the average that each optimizer step leaves: the last 1 / (1 - decay) steps count, 1,000 of 0.999. Early in a
    training fewer do, the last tenth of the steps so far, so that a short one is not spoilt by its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How a network learns. Where it runs is in `cluster:`, which changes no result."""

    epochs: Count
    """Passes over the training split."""
    batch_size: Count | Literal["full"]
    """Samples in one optimizer step, over all workers: 1 is stochastic, N mini-batch, `full` batch gradient descent."""
    micro_batch_size: Count | None = None
    """Most samples of one forward pass on one worker; a larger share is accumulated in pieces. None: no limit."""
    optimizer: Literal["sgd", "adam", "adamw"]
    """sgd: gradient descent, with momentum where it is above 0. adam: a step size for each weight from its gradients' moments
    (Kingma 2014, arXiv:1412.6980). adamw: the same, with weight decay beside the gradient instead of in it
    (Loshchilov 2017, arXiv:1711.05101)."""
    learning_rate: Positive
    """Size of a step, at the schedule's highest point."""
    momentum: Fraction = 0.0
    """For sgd: the share of its last step that a step keeps (Polyak 1964)."""
    nesterov: bool = False
    """Nesterov's momentum, for sgd with momentum above 0."""
    weight_decay: NonNegative = 0.0
    """Of the weights, not of biases and normalisation: for adamw the share by which they shrink in a step, times its learning
    rate; for sgd and adam added to the gradient, times the weights."""
    schedule: Literal["constant", "cosine", "one_cycle"] = "constant"
    """Of the learning rate over all steps. cosine: a linear rise from 0, then half a cosine to 0 (Loshchilov 2016,
    arXiv:1608.03983). one_cycle: a linear rise from 1/25, then half a cosine to 1/10,000 (Smith 2017, arXiv:1708.07120)."""
    warmup_fraction: Fraction = 0.0
    """Share of all steps over which the learning rate rises; for cosine and one_cycle."""
    gradient_clip: Positive | None = None
    """Largest 2-norm of the gradient over all parameters. None: not clipped."""
    loss: Literal["cross_entropy", "mse", "mae", "cross_entropy_dice"] = "cross_entropy"
    """mse: squared error of the class probabilities, or of the numbers that are forecast; mae: their absolute error."""
    dice_weight: NonNegative = 1.0
    """Factor of the Dice term in cross_entropy_dice."""
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread over all classes; for cross_entropy."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: the loss of a class is weighted inversely to its share of the training split."""
    batch_statistics: Literal["worker", "global"] = "worker"
    """What batch normalisation sees. worker: each worker its share of a batch, so the number of workers changes the result;
    global: the batch of all workers, for a message more in each of its layers."""
    start_from: StartConfig | None = None
    """Weights to begin with. None: the model's initialisation."""
    augment: AugmentConfig | None = None
    """How training samples are changed in every epoch. None: not at all."""
    ema: EmaConfig | None = None
    """Score and keep a moving average of the weights instead of the weights themselves. None: do not."""
    keep: Literal["best", "last"] = "best"
    """Epoch whose weights are the model: that with the best primary metric on the validation split, or the last one, which is
    the surer choice where a schedule ends at zero and the validation split is small."""
    early_stopping_patience: Count | None = None
    """Epochs without a better primary metric after which training ends. None: never."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the hardware multiplies it natively, fp32 elsewhere; never fp16."""
    compile: Literal["auto", "never", "always"] = "auto"
    """auto: the network is compiled where the first steps show that those left pay it back; for images, with
    deterministic: false, and where there is a C++ compiler."""
    deterministic: bool = True
    """Only algorithms that give the same bits each time."""
    seed: Seed = 0
    """Of first weights, order of samples, augmentation and dropout."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError(
                f"nesterov: true goes with optimizer: sgd and momentum above 0, found optimizer: {self.optimizer} and "
                f"momentum: {self.momentum}; change one of them"
            )
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(
                f"momentum: {self.momentum} goes with optimizer: sgd, found {self.optimizer}, which has its own; "
                "remove momentum, or use sgd"
            )
        if self.warmup_fraction and self.schedule == "constant":
            raise ValueError(
                f"warmup_fraction: {self.warmup_fraction} has no meaning with schedule: constant; "
                "use schedule: cosine, or remove it"
            )
        if self.keep == "last" and self.early_stopping_patience is not None:
            raise ValueError(
                f"early_stopping_patience: {self.early_stopping_patience} ends with epochs that were worse, found keep: last; "
                "use keep: best, or remove it"
            )
        if self.label_smoothing and self.loss in ("mse", "mae"):
            raise ValueError(
                f"label_smoothing: {self.label_smoothing} goes with loss: cross_entropy, found {self.loss}; remove one of them"
            )


def misfits(config: TrainConfig, kind: Kind) -> list[tuple[str, str, str]]:
    """Return what a kind of data cannot be trained with: key, what was found, what is expected."""
    found = []
    if kind == "forecasting":
        if config.loss not in ("mse", "mae"):
            found.append(("loss", f"{config.loss} needs classes, but the data are for forecasting", "use mse or mae"))
        if config.class_weights != "none":
            found.append(("class_weights", f"{config.class_weights} needs classes, but forecasts have none", "remove it"))
    elif kind == "text_classification" and config.start_from is not None:
        known = "weights know no words: each text data set has a vocabulary of its own"
        found.append(("start_from", known, "remove it; words begin with data.vectors"))
    if kind != "forecasting" and config.loss == "mae":
        found.append(("loss", f"mae is the error of numbers, but the data are for {kind}", "use cross_entropy or mse"))
    return found + (foreign(config.augment, kind) if config.augment else [])


def check_train(config: TrainConfig, spec: InputSpec) -> None:
    """Refuse a training that the data are not made for.

    Raises:
        InputError: listing all that does not fit.
    """
    wrong = misfits(config, spec.kind)
    if not wrong and config.augment and spec.channels:
        wrong = oversized(config.augment, spec)
    if wrong:
        raise InputError("\n".join(f"train.{key}: {found}; {expected}" for key, found, expected in wrong))
