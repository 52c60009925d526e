"""The dojo: steps are those of the formulas; a killed training goes on as if nothing had happened."""

import io
import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from helpers.foundations.data import Dataset, Split
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.evaluation import evaluate
from helpers.methods.stage_settings import TrainStage
from helpers.train_dojo import TrainDojo, learning_rate_factor

MLP = {"layers": [{"type": "flatten"}, {"type": "linear", "units": 16}, {"type": "linear", "units": 10}]}
SOFTMAX = {"layers": [{"type": "flatten"}, {"type": "linear", "units": 10}]}
DROPOUT = {"layers": [*MLP["layers"][:2], {"type": "batch_norm"}, {"type": "dropout"}, MLP["layers"][2]]}
SGD = {"type": "sgd", "lr": 0.05}
MOMENTUM = SGD | {"momentum": 0.9, "weight_decay": 0.01}


class Watched(TrainDojo):
    """Notes the batches and their losses; raises at a step, if asked to."""

    raises_at: int | None = None

    def loss(self, logits: Tensor, labels: Tensor, batch: Tensor, images: Tensor) -> Tensor:
        if self.progress.step == self.raises_at:
            raise KeyboardInterrupt
        loss = super().loss(logits, labels, batch, images)
        assert labels.equal(self.dataset.train.labels[batch])
        self.__dict__.setdefault("seen", []).append((batch.tolist(), loss.item(), logits.detach()))
        return loss


def dojo(
    digits: Dataset, net: dict[str, Any] = MLP, seed: int = 0, trained_before: int = 0, **words: Any
) -> Watched:
    """A dojo with a fresh network; without other words, 12 steps of Adam."""
    words = {"type": "train", "batch_size": 100} | ({} if "epochs" in words else {"steps": 12}) | words
    network = MaskedBodyBuilder(net, seed=3)
    return Watched(network, digits, TrainStage.model_validate(words), seed, trained_before)


def batches(watched: Watched) -> list[list[int]]:
    watched.train()
    return [batch for batch, *_ in watched.seen]


# Learning rate


@pytest.mark.parametrize(
    ("words", "make"),
    [
        ({"type": "constant"}, lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1)),
        ({"type": "linear", "final": 0.1}, lambda o: torch.optim.lr_scheduler.LinearLR(o, 1, 0.1, 20)),
        ({"type": "cosine"}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20)),
        ({"type": "cosine", "final": 0.2}, lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 20, 0.1)),
        (
            {"type": "multi_step", "milestones": [0.5, 0.75], "factor": 0.3},
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [10, 15], 0.3),
        ),
    ],
)
def test_the_learning_rate_of_every_step_is_that_of_torchs_scheduler(
    digits: Dataset, words: dict[str, Any], make: Callable
) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.5)
    oracle, expected = make(optimizer), []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        oracle.step()
    watched = dojo(digits, SOFTMAX, steps=20, log_every=1, optimizer=SGD | {"lr": 0.5}, schedule=words)
    assert watched.train().curves["lr"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"type": "constant"}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ({"type": "linear"}, [0.25, 0.5, 0.75, 1, 1, 0.75, 0.5, 0.25]),
        ({"type": "linear", "final": 0.6}, [0.25, 0.5, 0.75, 1, 1, 0.9, 0.8, 0.7]),
        ({"type": "cosine"}, [0.25, 0.5, 0.75, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
        ({"type": "multi_step", "milestones": [0.75]}, [0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1]),
    ],
)
def test_a_warm_up_of_four_steps_rises_evenly_before_the_decay(
    words: dict[str, Any], expected: list[float]
) -> None:
    stage = TrainStage.model_validate({"type": "train", "steps": 8, "schedule": words | {"warmup_steps": 4}})
    assert [learning_rate_factor(stage.schedule, step, 8) for step in range(8)] == pytest.approx(expected)


def test_the_optimizer_steps_with_the_scheduled_rate_from_the_first_step_on(digits: Dataset) -> None:
    schedule = {"type": "linear", "warmup_steps": 4}
    watched = dojo(digits, SOFTMAX, steps=8, optimizer=SGD | {"lr": 0.2}, schedule=schedule, log_every=1)
    seen: list[float] = []
    watched.optimizer.register_step_pre_hook(lambda one, *_: seen.append(one.param_groups[0]["lr"]))
    logged = watched.train().curves["lr"]
    assert seen == logged == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.15, 0.1, 0.05])


# Optimizers


def by_hand(words: dict[str, Any], gradient: np.ndarray, state: dict[str, Any], weight: np.ndarray) -> Any:
    """One update from the papers' formulas, in float64."""
    decay, lr = words.get("weight_decay", 0.0), words["lr"]
    t = state["t"] = state.get("t", 0) + 1
    if words["type"] == "adamw":
        weight = weight * (1 - lr * decay)
    else:
        gradient = gradient + decay * weight
    if words["type"] == "sgd":
        momentum = words.get("momentum", 0.0)
        velocity = state["v"] = momentum * state.get("v", 0.0) + gradient
        return weight - lr * (gradient + momentum * velocity if words.get("nesterov") else velocity)
    first, second = words.get("betas", (0.9, 0.999))
    m = state["m"] = first * state.get("m", 0.0) + (1 - first) * gradient
    v = state["v"] = second * state.get("v", 0.0) + (1 - second) * gradient**2
    return weight - lr * (m / (1 - first**t)) / (np.sqrt(v / (1 - second**t)) + words.get("eps", 1e-8))


@pytest.mark.parametrize(
    "words",
    [
        SGD,
        MOMENTUM,
        MOMENTUM | {"nesterov": True},
        {"type": "adam", "lr": 0.01},
        {"type": "adam", "lr": 0.01, "betas": [0.8, 0.9], "eps": 1e-3, "weight_decay": 0.1},
        {"type": "adamw", "lr": 0.01, "weight_decay": 0.5},
    ],
)
def test_three_steps_are_those_of_the_formula(digits: Dataset, words: dict[str, Any]) -> None:
    watched = dojo(digits, SOFTMAX, steps=3, optimizer=words)
    layer = watched.network.weighted()["linear_1"]
    weight = layer.weight.detach().double().numpy().copy()
    bias, states = np.zeros(10), ({}, {})
    places = batches(watched)
    for batch in places:
        images = digits.train.images[batch].flatten(1).double().numpy()
        logits = images @ weight.T + bias
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        error = (shares - np.eye(10)[digits.train.labels[batch].numpy()]) / len(batch)
        weight = by_hand(words, error.T @ images, states[0], weight)
        bias = by_hand(words, error.sum(0), states[1], bias)
    # Pixels that are black in every image have gradients near 0, where Adam divides 0 by 0 or so.
    np.testing.assert_allclose(layer.weight.detach().numpy(), weight, rtol=1e-3, atol=2e-5)
    np.testing.assert_allclose(layer.bias.detach().numpy(), bias, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("kind", ["weight", "unit"])
@pytest.mark.parametrize(
    "words",
    [
        {"type": "adam", "weight_decay": 0.1},
        {"type": "adamw", "weight_decay": 0.1},
        MOMENTUM | {"nesterov": True},
    ],
)
def test_what_is_pruned_is_exactly_0_after_200_steps(
    digits: Dataset, words: dict[str, Any], kind: str
) -> None:
    # Unlike ReLU, tanh hands gradients on to units that emit 0.
    watched = dojo(digits, MLP | {"activation": "tanh"}, steps=200, batch_size=32, optimizer=words)
    layer, draw = watched.network.weighted()["linear_1"], torch.Generator().manual_seed(0)
    weights, units = torch.rand(layer.weight.shape, generator=draw) < 0.3, torch.arange(16) % 3 == 0
    mask = (
        LayerMask(weights, torch.ones_like(units)) if kind == "weight" else LayerMask(weights | True, units)
    )
    watched.network.set_masks({"linear_1": mask})
    # As a stage does it: the masks are there before the optimizer is made.
    watched = Watched(watched.network, digits, watched.stage, 0)
    before = layer.weight.detach().clone()
    watched.train()
    gone = ~weights if kind == "weight" else ~units
    assert layer.weight[gone].abs().max() == 0
    assert layer.weight.grad[gone].abs().max() > 0  # something pulled at them
    assert (layer.weight != before)[~gone].float().mean() > 0.5
    if kind == "unit":
        assert layer.bias[gone].abs().max() == 0


# Data


def test_every_epoch_is_a_new_permutation_of_all_training_images(digits: Dataset) -> None:
    found = batches(dojo(digits, epochs=3, batch_size=128))
    assert [len(batch) for batch in found] == 3 * [*7 * [128], 104]
    epochs = [list(chain(*found[start : start + 8])) for start in (0, 8, 16)]
    assert all(sorted(epoch) == list(range(1000)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ({}, True),
        ({"net": DROPOUT, "shift": 2}, True),  # paired: what else is drawn leaves the order alone
        ({"optimizer": SGD, "log_every": 1}, True),
        ({"seed": 1}, False),
        ({"trained_before": 1}, False),
    ],
)
def test_seed_and_train_stages_before_decide_the_order_alone(
    digits: Dataset, change: dict[str, Any], is_same: bool
) -> None:
    assert (batches(dojo(digits)) == batches(dojo(digits, **change))) == is_same


def test_the_loss_of_an_epoch_is_a_mean_over_its_samples_though_the_last_batch_is_smaller(
    digits: Dataset,
) -> None:
    # At this rate no weight changes, so the epoch sees one network.
    watched = dojo(digits, epochs=2, batch_size=384, optimizer=SGD | {"lr": 1e-30})
    curves, train = watched.train().curves, digits.train
    with torch.no_grad():
        logits = watched.network.eval()(train.images).double()
    assert curves["train_loss"] == pytest.approx(2 * [F.cross_entropy(logits, train.labels).item()], rel=1e-6)
    right = (logits.argmax(1) == train.labels).double().mean().item()
    assert curves["train_accuracy"] == pytest.approx(2 * [right])


def test_a_row_holds_the_means_over_the_batches_since_the_row_before(digits: Dataset) -> None:
    watched = dojo(digits, DROPOUT, epochs=2, batch_size=128, log_every=3, shift=1)
    curves = watched.train().curves
    assert curves["step"] == [3, 6, 9, 12, 15, 16]
    assert curves["epoch"] == pytest.approx([0.384, 0.768, 1.128, 1.512, 1.896, 2])
    for row, end in enumerate(curves["step"]):
        chunk = watched.seen[3 * row : end]
        size = sum(len(batch) for batch, *_ in chunk)
        assert curves["train_loss"][row] == pytest.approx(sum(len(b) * loss for b, loss, _ in chunk) / size)
        right = sum((out.argmax(1) == digits.train.labels[b]).sum().item() for b, _, out in chunk)
        assert curves["train_accuracy"][row] == pytest.approx(right / size)


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ({"epochs": 2}, [10, 20]),
        ({"steps": 12}, [10, 12]),
        ({"steps": 12, "log_every": 5}, [5, 10, 12]),
        ({"steps": 12, "log_every": 50}, [12]),
        ({"epochs": 0}, []),
    ],
)
def test_a_curve_has_a_row_every_log_every_steps_and_at_the_end(
    digits: Dataset, words: dict[str, Any], steps: list[int]
) -> None:
    curves = dojo(digits, **words).train().curves
    assert curves["step"] == steps
    assert {len(column) for column in curves.values()} == {len(steps)}
    assert curves["wall_s"] == sorted(curves["wall_s"])


def test_shift_moves_the_images_of_training_and_none_of_evaluation(digits: Dataset) -> None:
    watched = dojo(digits, SOFTMAX, steps=4, batch_size=250, shift=2, log_every=4)
    views: dict[bool, list[Tensor]] = {True: [], False: []}
    watched.network.register_forward_pre_hook(lambda net, args: views[net.training].append(args[0]))
    order = list(chain(*batches(watched)))
    stored, shown = digits.train.images[order], torch.cat(views[True])
    moved = (stored != shown).flatten(1).any(1).float().mean()
    assert moved == pytest.approx(1 - 1 / 25, abs=0.04)  # of 5 × 5 places, one is where it was
    centre = shown[:, :, 2:-2, 2:-2]
    found = [stored[:, :, y : y + 24, x : x + 24] == centre for y in range(5) for x in range(5)]
    assert torch.stack([same.flatten(1).all(1) for same in found]).any(0).all()
    assert torch.cat(views[False]).equal(torch.cat([digits.validation.images, digits.test.images]))


# Losses, modes, precision


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_spreads_its_share_over_all_classes(digits: Dataset, smoothing: float) -> None:
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(7)
    loss = TrainDojo.loss(dojo(digits, label_smoothing=smoothing), logits, labels, None, None)
    loss.backward()
    target = (1 - smoothing) * F.one_hot(labels, 10) + smoothing / 10
    shares = logits.detach().softmax(1)
    assert loss.item() == pytest.approx(-(target * shares.log()).sum(1).mean().item(), rel=1e-6)
    torch.testing.assert_close(logits.grad, (shares - target) / 7)


def test_evaluation_uses_running_statistics_and_no_dropout_and_training_goes_on_with_both(
    digits: Dataset,
) -> None:
    watched = dojo(digits, DROPOUT, epochs=1, log_every=2)
    watched.train()
    network, train = watched.network, digits.train
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert network.training
    assert all(module.training for module in network.modules())
    assert evaluate(network, train)[:3] == evaluate(network, train)[:3]
    assert (
        evaluate(network, Split(*(part[:1] for part in vars(train).values()))).predictions
        == (evaluate(network, train).predictions[:1])
    )
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())
    assert network.training
    assert not network(train.images).equal(network(train.images))
    network.eval()
    evaluate(network, train)
    assert not network.training


def test_dropout_is_on_in_every_step_also_after_evaluations(digits: Dataset) -> None:
    watched = dojo(digits, DROPOUT, epochs=1, log_every=1)
    zeros = []
    drop = watched.network.layers["dropout_1"]
    drop.register_forward_hook(
        lambda m, args, out: zeros.append(((out == 0) & (args[0] != 0)).sum() if m.training else None)
    )
    watched.train()
    assert [z > 0 for z in zeros if z is not None] == 10 * [True]


@pytest.mark.parametrize("net", [MLP, DROPOUT])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_evaluate_agrees_with_a_plain_loop_over_single_images(
    digits: Dataset, net: dict[str, Any], part: str
) -> None:
    network, split = dojo(digits, net).network, getattr(digits, part)
    found = evaluate(network, split)
    network.eval()
    loss, predictions = 0.0, []
    with torch.no_grad():
        for image, label in zip(split.images, split.labels, strict=True):
            logits = network(image[None])[0].double()
            loss += (logits.logsumexp(0) - logits[label]).item()
            predictions.append(logits.argmax().item())
    errors = (torch.tensor(predictions) != split.labels).sum().item()
    assert found.loss == pytest.approx(loss / len(split), rel=1e-5)
    assert found.errors == errors
    assert found.accuracy == pytest.approx(1 - errors / len(split), abs=1e-15)
    assert found.predictions.tolist() == predictions


def test_an_empty_split_has_no_loss_and_no_accuracy(digits: Dataset) -> None:
    nothing = Split(*(part[:0] for part in vars(digits.test).values()))
    loss, accuracy, errors, predictions = evaluate(dojo(digits).network, nothing)
    assert math.isnan(loss)
    assert math.isnan(accuracy)
    assert (errors, len(predictions)) == (0, 0)


@pytest.mark.parametrize(
    ("asked", "capability", "precision"),
    [
        ("float32", "AVX512", "float32"),
        ("bfloat16", "AVX512", "bfloat16"),
        ("bfloat16", "AVX2", "float32"),
        ("bfloat16", "DEFAULT", "float32"),
    ],
)
def test_products_have_the_precision_asked_for_where_the_processor_has_it_and_weights_stay_float32(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, asked: str, capability: str, precision: str
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    watched = dojo(digits, epochs=5, precision=asked)
    kinds: set[tuple[bool, torch.dtype]] = set()
    layer = watched.network.weighted()["linear_1"]
    layer.register_forward_hook(lambda m, args, out: kinds.add((m.training, out.dtype)))
    curves = watched.train().curves
    assert kinds == {(mode, getattr(torch, precision)) for mode in (True, False)}
    assert {p.dtype for p in watched.network.parameters()} == {torch.float32}
    assert all(moment.dtype == torch.float32 for moment in watched.optimizer.state[layer.weight].values())
    assert curves["test_accuracy"][-1] > 0.6
    assert curves["train_loss"][-1] < curves["train_loss"][0] / 2


def test_a_loss_that_is_no_number_ends_the_training_and_is_told(digits: Dataset) -> None:
    progress = dojo(digits, steps=40, log_every=2, optimizer=SGD | {"lr": 1e30}).train()
    assert progress.diverged
    assert progress.step == progress.curves["step"][-1] < 40
    assert not math.isfinite(progress.curves["train_loss"][-1])
    assert not dojo(digits, steps=40).train().diverged


# Going on after a kill

HARD = {"net": DROPOUT, "epochs": 6, "batch_size": 192, "shift": 2, "log_every": 4}


@pytest.mark.parametrize("optimizer", [{"type": "adam"}, MOMENTUM | {"nesterov": True}])
@pytest.mark.parametrize(("every", "raises_at"), [(1, 6), (1, 7), (1, 35), (2, 23), (2, 13), (4, 24)])
def test_a_killed_training_goes_on_bit_by_bit(
    digits: Dataset, optimizer: dict[str, Any], every: int, raises_at: int
) -> None:
    def fresh() -> Watched:
        made = dojo(digits, **HARD, optimizer=optimizer, checkpoint_epochs=every, schedule={"type": "cosine"})
        mask = LayerMask(torch.arange(16 * 784).view(16, 784) % 3 > 0, torch.arange(16) > 0)
        made.network.set_masks({"linear_1": mask})
        return Watched(made.network, digits, made.stage, 0)

    straight, killed, resumed, file = fresh(), fresh(), fresh(), io.BytesIO()

    def keep(words: dict[str, Any]) -> None:
        file.seek(0)
        torch.save(words, file)

    killed.raises_at = raises_at
    with pytest.raises(KeyboardInterrupt):
        killed.train(keep)
    file.seek(0)
    torch.manual_seed(99)  # another process would have drawn other numbers
    resumed.load_state_dict(torch.load(file, weights_only=True))
    started = resumed.progress.step
    assert started == raises_at // (6 * every) * 6 * every
    expected, found = straight.train().curves, resumed.train().curves
    expected.pop("wall_s"), found.pop("wall_s")
    assert found == expected
    assert all(
        value.equal(resumed.network.state_dict()[key]) for key, value in straight.network.state_dict().items()
    )
    assert resumed.seen[0][0] == straight.seen[started][0]


def test_training_leaves_the_global_generator_as_it_was(digits: Dataset) -> None:
    watched, before = dojo(digits, DROPOUT), torch.get_rng_state()
    watched.train()
    assert torch.get_rng_state().equal(before)
