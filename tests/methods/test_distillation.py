"""Distillation: losses by hand, teachers that stay as they are, and any spelling leads to the one result."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import train_dojo
from helpers.config.expansion import load_config
from helpers.config.hashing import stage_hashes
from helpers.experiment import load_network, main, run_experiment
from helpers.foundations.data import Dataset, Split, load_dataset
from helpers.foundations.datasets import DataConfig
from helpers.foundations.errors import UserError
from helpers.foundations.seeds import seed_for
from helpers.logger import Log, Record, read_log, write_log
from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods.distillation import Fidelity, TrainedNetwork, fidelity, soft_loss
from helpers.methods.stage_settings import PruneStage, TrainStage
from helpers.running import orchestration, tasks
from helpers.running.measures import measure
from helpers.running.planning import make_plan
from helpers.running.tasks import Task, TaskResult, perform, restore
from helpers.stages.registry import SLOW_BFLOAT16, run_stage
from helpers.train_dojo import DistillDojo, TrainDojo
from helpers.utils import load_log

FLATTEN, LOGITS = {"type": "flatten"}, {"type": "linear", "units": 10}
MLP = {"layers": [FLATTEN, {"type": "linear", "units": 12}, LOGITS]}
WIDE = {"layers": [FLATTEN, {"type": "linear", "units": 24}, LOGITS]}
NORM = {"layers": [*WIDE["layers"][:2], {"type": "batch_norm"}, {"type": "dropout"}, LOGITS]}
DATA = {"dataset": "mnist", "train_size": 1000, "validation_size": 500}
BASE = {"type": "train", "steps": 8, "batch_size": 100, "name": "base"}
KD = BASE | {"name": "kd"}
PRUNE = {"type": "prune", "kind": "weight", "sparsity": 0.5}
TEMPERATURES = [0.5, 1.0, 4.0, 20.0]


def kd(teacher: Any, **words: Any) -> dict[str, Any]:
    return KD | {"teacher": teacher} | words


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Logits of about the size that networks give, float64."""
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# The loss


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("teachers", [1, 3])
def test_the_soft_loss_and_its_gradient_are_those_of_the_formulas(temperature: float, teachers: int) -> None:
    z, v = draw(7, 10).requires_grad_(), draw(teachers, 7, 10, seed=1)
    p = softmax(v.numpy() / temperature).mean(0)
    q = softmax(z.detach().numpy() / temperature)
    loss = soft_loss(z, v, temperature)
    loss.backward()
    divergence = (p * np.log(p / q)).sum() / 7
    assert loss.item() == pytest.approx(temperature**2 * divergence)
    np.testing.assert_allclose(z.grad, temperature * (q - p) / 7, rtol=1e-9, atol=1e-14)
    assert soft_loss(z, v, temperature, "kl_unscaled").item() == pytest.approx(divergence)
    squares = (z.detach().numpy() - v.numpy().mean(0)) ** 2
    assert soft_loss(z, v, temperature, "logits").item() == pytest.approx(squares.mean())


def test_at_a_high_temperature_the_gradient_matches_logits() -> None:
    z, v = (draw(5, 10, seed=seed) for seed in (0, 1))
    z, v = z - z.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    z.requires_grad_()
    soft_loss(z, v[None], 1e4).backward()
    torch.testing.assert_close(z.grad, (z - v).detach() / (10 * 5), rtol=1e-2, atol=1e-5)


class Watched(DistillDojo):
    """Notes the batches, the images and what the teachers say of them; raises at a step, if asked to."""

    raises_at: int | None = None

    def loss(self, logits: Tensor, labels: Tensor, batch: Tensor, images: Tensor) -> Tensor:
        if self.progress.step == self.raises_at:
            raise KeyboardInterrupt
        self.__dict__.setdefault("seen", []).append((batch, images))
        return super().loss(logits, labels, batch, images)


def teacher(digits: Dataset, seed: int) -> TrainedNetwork:
    network = MaskedBodyBuilder(WIDE, seed=seed).eval().requires_grad_(False)
    return TrainedNetwork(network, digits.mean, digits.std)


def dojo(digits: Dataset, net: dict[str, Any] = MLP, seeds: tuple[int, ...] = (9,), **words: Any) -> Any:
    """A dojo with a fresh student and teachers of these seeds; an ordinary one where there are none."""
    words = {"type": "train", "steps": 12, "batch_size": 128, "teacher": ["x"] if seeds else None} | words
    student = MaskedBodyBuilder(net, seed=3), digits, TrainStage.model_validate(words), 0
    return (
        Watched(*student, teachers=[teacher(digits, seed) for seed in seeds])
        if seeds
        else TrainDojo(*student)
    )


def trained(made: TrainDojo) -> dict[str, Tensor]:
    made.train()
    return made.network.state_dict()


def are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(value.equal(other[key]) for key, value in one.items())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_mixes_cross_entropy_and_soft_loss(digits: Dataset, alpha: float) -> None:
    made = dojo(digits, alpha=alpha, temperature=2.5, label_smoothing=0.1)
    batch, z = torch.tensor([17, 3, 999, 400]), draw(4, 10).float()
    labels, images = digits.train.labels[batch], digits.train.images[batch]
    v = made.teachers[0].network(images).double().numpy()
    q, p, soft = softmax(z.double().numpy()), softmax(v / 2.5), softmax(z.double().numpy() / 2.5)
    hard = -(0.9 * np.log(q[range(4), labels]) + 0.1 * np.log(q).mean(1)).mean()
    expected = (1 - alpha) * hard + alpha * 2.5**2 * (p * np.log(p / soft)).sum(1).mean()
    assert made.loss(z, labels, batch, images).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shift", [0, 1])
def test_with_alpha_0_it_is_the_training_without_a_teacher_bit_by_bit(digits: Dataset, shift: int) -> None:
    plain = trained(dojo(digits, NORM, (), shift=shift))
    assert are_equal(plain, trained(dojo(digits, NORM, shift=shift, alpha=0.0)))
    assert not are_equal(plain, trained(dojo(digits, NORM, shift=shift, alpha=0.1)))


@pytest.mark.parametrize(("alpha", "is_same"), [(1.0, True), (0.9, False)])
def test_with_alpha_1_labels_do_not_matter(digits: Dataset, alpha: float, is_same: bool) -> None:
    one, other = dojo(digits, alpha=alpha), dojo(digits, alpha=alpha)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    train = Split(digits.train.images, digits.train.labels[order], digits.train.index)
    other.dataset = Dataset(**vars(digits) | {"train": train})
    assert are_equal(trained(one), trained(other)) == is_same


# What the teachers see and say


@pytest.mark.parametrize("shift", [0, 2])
def test_the_loss_hears_what_the_teachers_say_of_the_very_view_that_the_student_sees(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    heard: list[Tensor] = []
    views: list[Tensor] = []

    def spy(logits: Tensor, theirs: Tensor, *words: Any) -> Tensor:
        heard.append(theirs)
        return soft_loss(logits, theirs, *words)

    monkeypatch.setattr(train_dojo, "soft_loss", spy)
    made = dojo(digits, shift=shift, steps=16, seeds=(9, 10))  # two epochs
    made.network.register_forward_pre_hook(lambda net, args: views.append(args[0]) if net.training else None)
    made.train()
    assert len(heard) == len(views) == len(made.seen) == 16
    for theirs, view, (batch, _) in zip(heard, views, made.seen, strict=True):
        stored = digits.train.images[batch]
        assert view.equal(stored) == (shift == 0)
        expected = torch.stack([one.network(view) for one in made.teachers])
        torch.testing.assert_close(theirs, expected, rtol=1e-4, atol=1e-4)
        assert (expected[0] - expected[1]).abs().max() > 1
        if shift:
            assert (theirs[0] - made.teachers[0].network(stored)).abs().max() > 0.1
    first, again = (torch.cat([batch for batch, _ in made.seen[i : i + 8]]) for i in (0, 8))
    assert first.sort().values.equal(again.sort().values)
    assert not first.equal(again)


def test_what_is_pruned_of_a_student_stays_exactly_0(digits: Dataset) -> None:
    made = dojo(digits, net=MLP | {"activation": "tanh"}, steps=60, optimizer={"type": "adam", "lr": 0.01})
    layer, units = made.network.weighted()["linear_1"], torch.arange(12) > 2
    mask = torch.rand(12, 784, generator=torch.Generator().manual_seed(0)) < 0.3
    made.network.set_masks({"linear_1": LayerMask(mask & units[:, None], units)})
    made = Watched(made.network, digits, made.stage, 0, teachers=made.teachers)
    before = layer.weight.detach().clone()
    made.train()
    gone = ~layer.weight_mask
    assert layer.weight[gone].abs().max() == 0
    assert layer.weight.grad[gone].abs().max() > 0  # something pulled at them
    assert (layer.weight != before)[~gone].float().mean() > 0.5


def test_a_teacher_with_another_normalisation_sees_the_same_pixels_in_its_own_way(digits: Dataset) -> None:
    theirs = load_dataset(DataConfig.model_validate(DATA | {"train_size": 40}))
    assert (digits.mean - theirs.mean).abs() > 1e-4
    network = MaskedBodyBuilder(WIDE, seed=9).eval()
    found = TrainedNetwork(network, theirs.mean, theirs.std).logits(digits.test.images[:300], digits)
    expected = network(theirs.test.images[:300])  # the same images, as its own training had them
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (network(digits.test.images[:300]) - expected).abs().max() > 0.02


# Fidelity


class Table(nn.Module):
    """Says these log-probabilities of the image whose only pixel is its number."""

    def __init__(self, *shares: tuple[float, float]):
        super().__init__()
        self.rows = torch.tensor(shares).log()

    def forward(self, images: Tensor) -> Tensor:
        return self.rows[images.flatten().long()]


def says(digits: Dataset, *shares: tuple[float, float]) -> TrainedNetwork:
    return TrainedNetwork(Table(*shares), digits.mean, digits.std)


def test_fidelity_is_that_by_hand(digits: Dataset) -> None:
    # Mean probabilities of the three: (0.46, 0.54), (0.9, 0.1), (0.3, 0.7); the mean logits of the first
    # would say class 0.
    teachers = [says(digits, (0.98, 0.02), (0.9, 0.1), (0.1, 0.9))]
    teachers += 2 * [says(digits, (0.2, 0.8), (0.9, 0.1), (0.4, 0.6))]
    student = says(digits, (0.3, 0.7), (0.4, 0.6), (0.5, 0.5 + 1e-4))

    def of(labels: list[int]) -> Fidelity:
        split = Split(torch.arange(3.0).view(3, 1, 1, 1), torch.tensor(labels), torch.arange(3))
        return fidelity(student, teachers, split, digits)

    def kl(p: float, q: float) -> float:
        return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))

    expected = [kl(0.46, 0.3), kl(0.9, 0.4), kl(0.3, 0.5)]
    found = of([0, 1, 1])  # the teachers are wrong of the first two
    assert found == pytest.approx((2 / 3, sum(expected) / 3, 1 / 2, sum(expected[:2]) / 2), abs=1e-4)
    right = of([1, 0, 1])
    assert right == pytest.approx((*found[:2], math.nan, math.nan), nan_ok=True)


# Running


def in_process(performed: list[str], tasks_: list[Task], *_: Any) -> Iterator[TaskResult]:
    """The engine without workers; insists on the order."""
    done: set[str] = set()
    for task in tasks_:
        assert done >= set(task.needs)
        done.add(task.key)
        performed.append(task.key)
        try:
            yield perform(task)
        except UserError as error:
            yield TaskResult(task.key, error=str(error), is_input=True)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have experiments run in this process; the tasks in their order."""
    performed: list[str] = []
    monkeypatch.setattr(orchestration, "execute", partial(in_process, performed))
    monkeypatch.setattr(tasks, "_KEPT_LOGITS", {})
    return performed


def school(**arms: Any) -> dict[str, Any]:
    """A config with these arms, each a list of stages or more words."""
    words = {name: arm if isinstance(arm, dict) else {"stages": arm} for name, arm in arms.items()}
    return {"data": DATA, "net": MLP, "arms": words}


@pytest.fixture
def attend(write_config: Callable, tmp_path: Path, here: list[str]) -> Callable[..., Any]:
    """Runs a school of these arms in this process, into tmp_path."""
    return lambda **arms: run_experiment(write_config(school(**arms), "school"), out=tmp_path)


ARMS = {
    "big": {"stages": [BASE], "net": WIDE},
    "other": [BASE | {"optimizer": {"type": "sgd", "lr": 0.05}}],
    "student": [kd({"arm": "big"}), PRUNE, BASE],
    "pair": [kd([{"arm": "big"}, {"arm": "other"}], temperature=2.0, alpha=0.6)],
    "live": [kd({"arm": "big"}, shift=1)],
    "again": [BASE, PRUNE, kd({"arm": "again", "stage": "base"})],
}


@pytest.fixture(scope="module")
def taught(write_config: Callable, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tables of ARMS, run in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orchestration, "execute", partial(in_process, []))
        path = write_config(school(**ARMS), "school")
        found = run_experiment(path, out=tmp_path_factory.mktemp("taught"))
    found.config = path
    return found


def row(found: Any, arm: str, stage: int = 0) -> Any:
    return found.results.query(f"arm == {arm!r} and stage == {stage}").iloc[0]


def network_of(found: Any, arm: str, stage: int = 0) -> MaskedBodyBuilder:
    return load_network(row(found, arm, stage)["result"], found.path.parents[1])


def test_two_workers_find_the_same_to_the_last_bit(
    taught: Any, scheduler: str, same_tables: Callable, tmp_path: Path
) -> None:
    found = run_experiment(taught.config, out=tmp_path, scheduler=scheduler)
    assert found.computed == len(found.final()) > 0  # by the workers, and not out of a cache
    same_tables(found, taught)


def test_rows_tell_of_fidelity_where_a_stage_distils_and_nowhere_else(taught: Any) -> None:
    names = [f"teacher_{name}" for name in Fidelity._fields]
    rows = taught.results
    assert [name for name in rows.columns if name.startswith("teacher_")] == names
    told = rows[rows["teacher_agreement"].notna()]
    found = set(zip(told["arm"], told["stage"], strict=True))
    assert found == {("student", 0), ("pair", 0), ("live", 0), ("again", 2)}
    assert rows.loc[rows["teacher_agreement"].isna(), names].isna().all(axis=None)
    test = load_dataset(DataConfig.model_validate(DATA)).test
    for arm, stage, teachers in (("pair", 0, ["big", "other"]), ("again", 2, ["again"])):
        networks, student = [network_of(taught, name) for name in teachers], network_of(taught, arm, stage)
        with torch.no_grad():
            q = softmax(student(test.images).double().numpy())
            p = np.mean([softmax(one(test.images).double().numpy()) for one in networks], axis=0)
        agrees, divergence = p.argmax(1) == q.argmax(1), (p * np.log(p / q)).sum(1)
        wrong, found = p.argmax(1) != test.labels.numpy(), row(taught, arm, stage)
        expected = [agrees.mean(), divergence.mean(), agrees[wrong].mean(), divergence[wrong].mean()]
        assert list(found[names]) == pytest.approx(expected, abs=1e-5)


def test_the_flops_of_training_count_the_passes_of_the_teachers(taught: Any) -> None:
    macs, wide = 784 * 12 + 12 * 10, 784 * 24 + 24 * 10
    own = 6 * macs * 800  # 8 steps of 100 images
    assert row(taught, "student")["train_flops"] == own + 2 * wide * 1000  # each training image once
    assert row(taught, "pair")["train_flops"] == own + 2 * (wide + macs) * 1000
    assert row(taught, "live")["train_flops"] == own + 2 * wide * 800  # each image that is seen
    assert row(taught, "again", 2)["train_flops"] == 2 * own + 2 * macs * 1000
    assert row(taught, "student", 2)["train_flops"] == row(taught, "student")["train_flops"] + own


def test_the_weights_of_a_student_are_computed_again_where_they_are_lost(
    taught: Any, tmp_path: Path, here: list[str], capsys: pytest.CaptureFixture
) -> None:
    found = run_experiment(taught.config, out=tmp_path)
    places = (("student", 2), ("pair", 0))
    expected = [network_of(found, *place).state_dict() for place in places]
    for path in (tmp_path / "networks").glob("*.pt"):  # those of teachers too
        path.unlink()
    tasks._KEPT_LOGITS.clear()
    capsys.readouterr()
    for place, weights in zip(places, expected, strict=True):
        assert are_equal(network_of(found, *place).state_dict(), weights)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 5  # two train stages of the student, the pair, two teachers
    assert all(line.endswith("computed again: same as the record") for line in said)


def test_missing_teachers_are_trained_before_their_student_and_kept_ones_are_not(
    write_config: Callable, tmp_path: Path, here: list[str]
) -> None:
    plan = ARMS | {"student": [kd({"arm": "big"})]}
    path = write_config(school(**{arm: plan[arm] for arm in ("pair", "student", "big", "other")}), "school")
    keys = {run.arm: run.hashes[0] for run in load_config(path).runs}
    networks = tmp_path / "networks"
    networks.mkdir()
    needs = {task.key: set(task.needs) for task in make_plan(load_config(path), Log(), networks).tasks}
    assert needs[keys["pair"]] == {keys["big"], keys["other"]}
    assert needs[keys["student"]] == {keys["big"]}
    assert needs[keys["big"]] == needs[keys["other"]] == set()
    run_experiment(path, out=tmp_path)
    assert here[2:] == [keys["pair"], keys["student"]]
    assert set(here[:2]) == {keys["big"], keys["other"]}
    (networks / f"{keys['other']}.pt").unlink()
    here.clear()
    again = run_experiment(path, overrides=["kd.alpha=0.25"], out=tmp_path)
    new = {row(again, arm)["result"] for arm in ("pair", "student")}
    assert here[0] == keys["other"]  # whose record is there, but not its weights
    assert set(here[1:]) == new
    assert new.isdisjoint(keys.values())


@pytest.fixture
def chain(tmp_path: Path, here: list[str]) -> tuple[Callable[..., str], list[Path]]:
    """Runs the last of three experiments, each taught by the one before; and the logs of the first two.

    Those have run, and nothing is left in the cache.
    """
    names, taught_by = (
        ("first", "second", "third"),
        (None, {"config": "first.json"}, {"config": "second.json"}),
    )
    for name, words in zip(names, taught_by, strict=True):
        config = school(main=[kd(words)]) | {"profiles": {"quick": {"seeds": [3]}}}
        (tmp_path / f"{name}.json").write_text(json.dumps(config))

    def run(name: str, **words: Any) -> str:
        found = run_experiment(tmp_path / f"{name}.json", "quick", out=tmp_path, **words).final()
        assert list(found["status"]) == ["ok"]
        return found["run"].item()

    run("first"), run("second")
    shutil.rmtree(tmp_path / "networks")
    here.clear()
    return partial(run, "third"), [tmp_path / "logs" / "quick" / f"{name}.hdf5" for name in names[:2]]


AGAIN = "weights were not in the cache, computed again: "


def told(capsys: pytest.CaptureFixture, *words: str) -> list[str]:
    """The lines with any of these words."""
    return [line for line in capsys.readouterr().out.splitlines() if any(word in line for word in words)]


def test_teachers_of_other_experiments_are_held_against_the_records_in_their_logs(
    chain: Any, capsys: pytest.CaptureFixture
) -> None:
    run, paths = chain
    logs = [read_log(path) for path in paths]
    (one,), (other,) = (log.records for log in logs)
    record = logs[1].records[other]
    record = Record(record.row | {"test_errors": 4321}, record.curves, record.arrays, record.config)
    write_log(paths[1], Log({other: record}, logs[1].runs))
    capsys.readouterr()
    student = run()
    found = told(capsys, AGAIN)
    assert found[0] == f"{one}: {AGAIN}same as the record"
    assert found[1].startswith(f"{other}: {AGAIN}")
    assert "test errors, the record has 4321 and stays" in found[1]
    assert len(found) == 2
    assert read_log(paths[1]).records[other].row["test_errors"] == 4321
    assert list(read_log(paths[1].with_name("third.hdf5")).records) == [student]


@pytest.mark.parametrize("force", [False, True])
def test_a_damaged_log_of_a_teachers_experiment_is_told_and_with_force_never_opened(
    chain: Any, here: list[str], capsys: pytest.CaptureFixture, force: bool
) -> None:
    run, paths = chain
    (other,) = read_log(paths[1]).records
    paths[0].write_bytes(b"no log")
    capsys.readouterr()
    student = run(force=force)
    assert here[-2:] == [other, student]
    found = told(capsys, AGAIN, "no log", str(paths[0]))
    if force:
        assert not found
    else:
        assert found[0].startswith(f"{paths[0]}: expected ")
        assert found[1:] == [f"{other}: {AGAIN}same as the record"]
    assert paths[0].read_bytes() == b"no log"


def test_each_task_has_the_stages_that_its_hashes_are_of(write_config: Callable, tmp_path: Path) -> None:
    rates = [BASE | {"optimizer": {"type": "sgd", "lr": 0.01 * i}} for i in range(1, 21)]
    arms = {f"t{i}": [words] for i, words in enumerate(rates)}
    path = write_config(school(student=[kd([{"arm": arm} for arm in arms])], **arms), "school")
    for task in make_plan(load_config(path), Log(), tmp_path).tasks:
        assert next(stage_hashes(task.data, task.net, [task.seed], task.stages)) == task.hashes


def the_task(path: Path, networks: Path, arm: str = "student", stage: int = 0) -> Task:
    """The task that ends with a stage of an arm, its teachers known; what comes before has been done."""
    networks.mkdir(exist_ok=True)
    key = next(run.hashes[stage] for run in load_config(path).runs if run.arm == arm)
    for task in make_plan(load_config(path), Log(), networks).tasks:
        if task.key == key:
            return task
        perform(task)
    raise AssertionError(f"no task ends with {key}")


def test_nothing_of_a_teacher_changes_and_it_does_not_drop_out(
    digits: Dataset, write_config: Callable, tmp_path: Path
) -> None:
    arms = {"big": {"stages": [BASE], "net": NORM}, "student": [kd({"arm": "big"}, shift=1)]}
    task = the_task(write_config(school(**arms), "school"), tmp_path / "networks")
    heard = tasks._teacher_logits(task, task.stages[0], print, "cpu")
    network = heard.teachers[0].network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    student = MaskedBodyBuilder(NORM, seed=3)
    at_first = {key: value.clone() for key, value in student.state_dict().items()}
    Watched(student, digits, task.stages[0], 0, teachers=heard.teachers).train()
    assert are_equal(network.state_dict(), before)
    assert all(one.grad is None and not one.requires_grad for one in network.parameters())
    changed = [key for key, value in student.state_dict().items() if not value.equal(at_first[key])]
    assert {key.split(".")[-1] for key in changed} >= {"weight", "bias", "running_mean", "running_var"}
    images, norm = digits.test.images[:50], network.layers["batch_norm_1"]
    hidden = network.layers["linear_1"](images.flatten(1))
    hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    expected = network.layers["linear_2"](hidden.relu())
    torch.testing.assert_close(heard.teachers[0].logits(images, digits), expected, rtol=1e-4, atol=1e-4)


def test_students_hear_what_the_teacher_says_of_their_own_images_in_its_own_normalisation(
    attend: Callable,
) -> None:
    data = {arm: DATA | {"train_size": size} for arm, size in (("big", 40), ("few", 300), ("many", 1000))}
    arms = {arm: {"stages": [kd({"arm": "big"})], "data": data[arm]} for arm in ("few", "many")}
    found = attend(big={"stages": [BASE], "net": WIDE, "data": data["big"]}, **arms)
    theirs = load_dataset(DataConfig.model_validate(data["big"]))
    big = TrainedNetwork(network_of(found, "big"), theirs.mean, theirs.std)
    stage = TrainStage.model_validate(kd(["x"]))
    for arm in arms:
        own = load_dataset(DataConfig.model_validate(data[arm]))
        student = MaskedBodyBuilder(MLP, seed=seed_for(0, "init"))
        DistillDojo(student, own, stage, 0, teachers=[big]).train()
        assert are_equal(student.state_dict(), network_of(found, arm).state_dict())


@pytest.mark.parametrize(("capability", "precision"), [("AVX512", "bfloat16"), ("AVX2", "float32")])
def test_a_teacher_speaks_in_its_own_precision_where_the_processor_has_it(
    digits: Dataset,
    write_config: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: str,
    precision: str,
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(tasks, "_KEPT_LOGITS", known := {})
    arms = {"big": {"stages": [BASE | {"precision": "bfloat16"}], "net": WIDE}}
    task = the_task(write_config(school(**arms, student=[kd({"arm": "big"})]), "school"), tmp_path / "nets")
    messages = perform(task).messages
    assert messages == (() if precision == "bfloat16" else (SLOW_BFLOAT16,))
    made = tasks.cached_record(task.networks, task.key, print).provenance
    assert (made["precision"], made["teachers_precision"]) == ("float32", [precision])
    (big,) = task.teachers.values()
    network, images = restore(big, 1, print, "cpu").network.eval(), digits.train.images
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        (kept,) = known.values()
        torch.testing.assert_close(kept[0], network(images).float(), rtol=1e-5, atol=1e-5)


def test_a_stage_after_a_distillation_has_no_teacher(write_config: Callable, tmp_path: Path) -> None:
    path = write_config(school(big=[BASE], student=[kd({"arm": "big"})]), "school")
    state = restore(the_task(path, tmp_path / "networks"), 1, print, "cpu")
    assert "teacher_agreement" in measure(state)[0]
    run_stage(state, PruneStage.model_validate(PRUNE))
    assert not any(name.startswith("teacher") for name in measure(state)[0])


def test_fidelity_is_of_the_student_in_evaluation_mode(attend: Callable) -> None:
    arms = {"big": [BASE], "student": {"stages": [kd({"arm": "big"})], "net": NORM}}
    found, test = attend(**arms), load_dataset(DataConfig.model_validate(DATA)).test
    one, other = (network_of(found, arm)(test.images).argmax(1) for arm in arms)
    assert row(found, "student")["teacher_agreement"] == (one == other).double().mean().item()


@pytest.mark.parametrize("shift", [0, 1])
def test_a_killed_distillation_goes_on_bit_by_bit(
    write_config: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    stage = kd({"arm": "big"}, shift=shift, steps=None, epochs=3, batch_size=192)
    arms = {"big": {"stages": [BASE], "net": WIDE}, "student": {"stages": [stage], "net": NORM}}
    path = write_config(school(**arms), "school")
    straight, killed = (the_task(path, tmp_path / name) for name in ("a", "b"))
    perform(straight)
    monkeypatch.setattr("helpers.stages.registry.DistillDojo", Watched)
    monkeypatch.setattr(Watched, "raises_at", 15)
    monkeypatch.setattr(tasks, "_KEPT_LOGITS", {})
    with pytest.raises(KeyboardInterrupt):
        perform(killed)
    partial_save = torch.load(tasks.partial_path(killed.networks, killed.key), weights_only=True)
    assert partial_save["progress"]["step"] == 12
    monkeypatch.undo()
    perform(killed)
    one, other = (torch.load(tasks.weights_path(task.networks, task.key)) for task in (straight, killed))
    assert are_equal(one["weights"], other["weights"])
    one, other = (tasks.cached_record(task.networks, task.key, print) for task in (straight, killed))
    assert all(
        one.curves[name].tobytes() == other.curves[name].tobytes() for name in ("train_loss", "val_loss")
    )
    assert one.row["train_flops"] == other.row["train_flops"]


def test_a_rewind_into_a_distillation_repeats_its_first_steps_with_the_teacher(attend: Callable) -> None:
    rewound = [kd({"arm": "big"}), PRUNE, {"type": "rewind", "to": {"step": 5}}, BASE]
    plain = {"short": [kd({"arm": "big"}, steps=5)], "untaught": [kd(None, steps=5)]}
    found = attend(big={"stages": [BASE], "net": WIDE}, student=rewound, **plain)
    assert set(found.results["status"]) == {"ok"}
    places = (("student", 2), ("short", 0), ("untaught", 0))
    rewound, short, untaught = (network_of(found, *place).weighted()["linear_1"] for place in places)
    assert rewound.weight.equal(short.weight * rewound.weight_mask)
    assert not rewound.weight.equal(untaught.weight * rewound.weight_mask)
    assert rewound.weight_mask.float().mean() == 0.5


def test_a_student_whose_teacher_diverged_has_diverged_and_the_others_go_on(
    write_config: Callable, tmp_path: Path, here: list[str], capsys: pytest.CaptureFixture
) -> None:
    wild = [BASE | {"optimizer": {"type": "sgd", "lr": 1e30}}]
    student = [kd({"arm": "wild"}), PRUNE]
    path = write_config(school(wild=wild, student=student, calm=[BASE]), "school")
    hashes = {run.arm: run.hashes for run in load_config(path).runs}
    assert main([str(path), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert f"its teacher {hashes['wild'][0]} has diverged" in said.out + said.err
    assert "Traceback" not in said.out + said.err
    results = load_log(tmp_path / "logs" / "school.hdf5").results.set_index(["arm", "stage"])
    assert list(results.loc["student", "status"]) == ["diverged", "diverged"]
    assert np.isnan(results.loc[("student", 1), "test_accuracy"])  # nothing is pruned after it
    assert results.loc[("calm", 0), "status"] == "ok"
    here.clear()
    assert main([str(path), "--out", str(tmp_path)]) == 0
    assert not here  # divergence is a result: nothing is left to do


def test_load_network_loads_a_student_whose_teacher_is_none_of_the_runs(attend: Callable) -> None:
    found = attend(big=[BASE], student=[kd({"arm": "big", "seed": 5})])
    assert network_of(found, "student").macs == 784 * 12 + 12 * 10


# Configs

REPEAT = {"type": "repeat", "times": 2, "stages": [BASE | {"name": "lap"}]}
OTHERS = {
    "big": [BASE],
    "grid": [BASE | {"optimizer": {"type": "sgd", "lr": "$rate"}}],
    "loop": [REPEAT],
    "mirror": [kd({"arm": "student"})],
    "clothes": {"stages": [BASE], "data": {"dataset": "fashion_mnist"}},
    "greedy": {"stages": [BASE], "data": {"validation_size": 0}},
    "mixed": {"stages": [BASE], "data": {"split_seed": 1}},
    "subset": {"stages": [BASE], "data": {"train_size": 100, "split_seed": "seed"}},
}
CIRCLE = "leads back to itself"
SEEN = "has been trained on images that its student validates on"
MISTAKES = [
    ({}, "", CIRCLE),  # without an arm, the student's own
    ({"config": "school.json"}, "", "expected an 'arm': school.json has student, big, grid"),
    ({"arm": "bgi"}, ".arm", "unknown arm 'bgi'; did you mean 'big'?"),
    ([{"arm": "big"}, {"arm": "bgi"}], "[1].arm", "unknown arm 'bgi'"),
    ({"arm": "grid"}, "", "expected one result, found 2: say which in 'sweep' (axes: 'rate')"),
    ({"arm": "grid", "sweep": {"rtae": 1}}, ".sweep", "unknown axis 'rtae'; did you mean 'rate'?"),
    ({"arm": "grid", "sweep": {"rate": 3}}, ".sweep.rate", "expected one of 0.5, 1, found 3"),
    ({"arm": "big", "stage": "bsae"}, ".stage", "unknown stage 'bsae'; did you mean 'base'?"),
    ({"arm": "loop", "stage": "lap"}, ".stage", "'lap' is repeated, which makes several results"),
    ({"config": "techer.json"}, ".config", "teacher.json'?"),
    ({"config": "bad.json"}, ".config", "bad.json: stages[0].epoch: unknown key"),
    (
        {"config": "poor.json"},
        ".config",
        "poor.json: profiles: expected the profile 'quick', which a teacher",
    ),
    (["420da8db12b505c5"], "[0]", "expected an object such as {'arm': 'teacher'}, found \"420da8"),
    ({"arm": "student"}, "", CIRCLE),
    ({"config": "school.json", "arm": "student"}, "", CIRCLE),
    ({"arm": "mirror"}, "", CIRCLE),
    ({"arm": "student", "stage": "kd"}, "", CIRCLE),
    ({"arm": "clothes"}, "", "expected a teacher of mnist, found one of fashion_mnist"),
    ({"arm": "greedy"}, "", f"{SEEN} (its validation_size 0, split_seed 0; the student's 500 and 0)"),
    ({"arm": "mixed"}, "", f"{SEEN} (its validation_size 500, split_seed 1; the student's 500 and 0)"),
]
NOISY = [
    ("420da8db12b505c5", "", "expected an object"),
    ({"amr": "big"}, ".amr", "unknown key; did you mean 'arm'?"),
    ({"arm": "big", "seed": "smae"}, ".seed", "expected 'same' or a whole number from 0"),
    ({"arm": "big", "seed": -1}, ".seed", "found -1"),
    ([{"arm": "big", "stag": 1}], "[0].stag", "unknown key; did you mean 'stage'?"),
    ({"config": "../{folder}/school.json", "arm": "student"}, "", CIRCLE),
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a config with a student of these stages beside OTHERS, into a folder with other files."""
    plain, quick = {"data": DATA, "net": MLP, "stages": [BASE]}, {"profiles": {"quick": {"base.steps": 3}}}
    (tmp_path / "poor.json").write_text(json.dumps(plain))
    (tmp_path / "teacher.json").write_text(json.dumps(plain | quick))
    (tmp_path / "bad.json").write_text(json.dumps(plain | quick | {"stages": [BASE | {"epoch": 1}]}))

    def write_student(stages: list[dict[str, Any]], **changes: Any) -> Path:
        path, arms = tmp_path / "school.json", {"student": stages} | OTHERS
        if "mirror" not in json.dumps(stages):
            arms = {arm: words for arm, words in arms.items() if arm != "mirror"}
        text = json.dumps(school(**arms) | quick | {"sweep": {"rate": [0.5, 1]}} | changes)
        path.write_text(text.replace("{folder}", tmp_path.name))
        return path

    return write_student


def test_a_teacher_of_another_subset_has_not_seen_what_its_student_validates_on(write: Callable) -> None:
    (student,) = {run.arm: run for run in load_config(write([BASE, kd({"arm": "subset"})])).runs}[
        "student"
    ].teachers.values()
    assert student.data.split_seed == "seed"


@pytest.mark.parametrize(("words", "field", "hint"), [*MISTAKES, *NOISY])
def test_a_mistake_about_a_teacher_is_told_in_one_line_with_its_place(
    write: Callable[..., Path], words: Any, field: str, hint: str
) -> None:
    path = write([BASE, kd(words)])
    with pytest.raises(UserError) as caught:
        load_config(path)
    lines = [line for line in caught.value.lines if "arms.mirror" not in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"{path}: arms.student.stages[1].teacher{field}: ")
    assert hint in lines[0]
    assert len(lines[0]) < 500


def test_a_mistake_is_told_where_it_was_written(write: Callable[..., Path]) -> None:
    swept = {"sweep": {"rate": [0.5, 1], "who": [{"arm": "big"}, {"arm": "bgi"}]}}
    cases = [
        (
            [REPEAT | {"stages": [kd({"arm": "bgi"})]}],
            {},
            "arms.student.stages[0].stages[0].teacher.arm",
            "bgi",
        ),
        ([kd("$who")], swept, "sweep.who[1].arm", "bgi"),
        (
            [kd(None)],
            {"profiles": {"p": {"kd.teacher": {"arm": "bgi"}}}},
            "profiles.p['kd.teacher'].arm",
            "bgi",
        ),
        ([kd([])], {}, "arms.student.stages[0]", "expected at least one teacher, found []"),
    ]
    for word, value in (("temperature", 2.0), ("alpha", 0.5), ("soft_loss", "logits")):
        cases.append(([BASE | {word: value}], {}, "arms.student.stages[0]", f"{word!r} is of distillation"))
    for stages, changes, field, hint in cases:
        with pytest.raises(UserError) as caught:
            load_config(path := write(stages, **changes))
        (line,) = caught.value.lines
        assert line.startswith(f"{path}: {field}: ")
        assert hint in line


def student_hashes(path: Path, arm: str = "student", **words: Any) -> list[list[str]]:
    return [run.hashes for run in load_config(path, **words).runs if run.arm == arm]


def digest(stages: str) -> str:
    head = '{"data":{"dataset":"mnist","train_size":1000,"validation_size":500},"net":{"layers":[{"type":'
    head += '"flatten"},{"type":"linear","units":12},{"type":"linear","units":10}]},"schema":1,"seed":0,'
    return hashlib.sha256(f'{head}"stages":[{stages}]}}'.encode()).hexdigest()[:16]


def test_a_hash_is_of_the_teachers_hash_and_of_no_spelling(write: Callable[..., Path]) -> None:
    plain = '{"batch_size":100,"steps":8,"type":"train","version":1}'
    taught = '{"batch_size":100,"steps":8,"teacher":["' + digest(plain) + '"],"type":"train","version":1}'
    defaults = {"teacher": None, "temperature": 4, "alpha": 0.9, "soft_loss": "kl"}
    assert student_hashes(write([BASE])) == student_hashes(write([BASE | defaults])) == [[digest(plain)]]
    big = {"arm": "big"}
    spellings = [big, [big], big | {"stage": "base"}, big | {"seed": 0}, {"config": "teacher.json"}]
    spellings += [{"config": "school.json"} | big, {"config": "teacher.json", "arm": "main", "seed": "same"}]
    for words in spellings:
        assert student_hashes(write([kd(words)])) == [[digest(taught)]]
    (hashes,) = student_hashes(write([BASE, kd({"arm": "student", "stage": "base"})]))
    assert hashes == [digest(plain), digest(f"{plain},{taught}")]


def test_what_a_student_learns_from_and_how_changes_its_hash(write: Callable[..., Path]) -> None:
    big, grid = {"arm": "big"}, {"arm": "grid", "sweep": {"rate": 1.0}}
    stages = [
        BASE,
        kd(big),
        kd(big | {"seed": 1}),
        kd([big, big]),
        kd(grid),
        kd([big, grid]),
        kd([grid, big]),
    ]
    stages += [kd(big, temperature=3.0), kd(big, alpha=0.8), kd(big, soft_loss="logits"), kd(big, alpha=0)]
    hashes = [student_hashes(write([stage]))[0][0] for stage in stages]
    assert len(set(hashes)) == len(stages)


def test_the_same_seed_is_the_students_and_a_number_is_one_for_all(write: Callable[..., Path]) -> None:
    def teachers(seed: Any) -> list[tuple[int, list[int]]]:
        runs = load_config(write([kd({"arm": "big", "seed": seed})], seeds=[0, 3])).runs
        return [(r.seed, [t.seed for t in r.teachers.values()]) for r in runs if r.arm == "student"]

    assert teachers("same") == [(0, [0]), (3, [3])]
    assert teachers(7) == [(0, [7]), (3, [7])]


def test_a_student_learns_from_the_arm_as_it_is_run(write: Callable[..., Path]) -> None:
    runs = load_config(write([kd({"arm": "big"})]), overrides=["base.steps=3"]).runs
    hashes = {run.arm: run.hashes for run in runs}
    assert [list(run.teachers) for run in runs if run.arm == "student"] == [hashes["big"]]
