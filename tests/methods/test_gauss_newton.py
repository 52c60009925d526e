"""The solve on the logits: the step that numpy finds with the Jacobian written out, and no other."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers.masked_body_builder import LayerMask, MaskedBodyBuilder
from helpers.methods import gauss_newton
from helpers.methods.gauss_newton import LogitsFit, conjugate_gradients, solve_logits
from helpers.methods.refit import refit

POOL, FLATTEN, NORM = {"type": "adaptive_avgpool", "size": 4}, {"type": "flatten"}, {"type": "batch_norm"}


def linear(units: int = 10) -> dict[str, Any]:
    return {"type": "linear", "units": units}


LOGITS = [POOL, FLATTEN, linear()]
MLP = [POOL, FLATTEN, linear(6), NORM, linear(5), {"type": "dropout"}, linear()]
CONV = {"type": "conv2d", "filters": 3, "kernel": 3}
CNN = [{"type": "adaptive_avgpool", "size": 6}, CONV, {"type": "maxpool"}, FLATTEN, linear()]
IMAGES = 7 * torch.randn(70, 1, 28, 28, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def pruned(
    layers: list[dict], keep: float = 0.6, seed: int = 0
) -> tuple[MaskedBodyBuilder, dict[str, Tensor]]:
    """A float64 network without some weights and a unit, and its dense reference."""
    network = MaskedBodyBuilder({"layers": layers}, seed=seed).double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.weighted().values():
            layer.bias.normal_(generator=draw)
    reference = {k: v.clone() for k, v in network.state_dict().items() if not k.endswith("_mask")}
    masks = network.masks()
    for name, mask in masks.items():
        weight = torch.rand(mask.weight.shape, generator=draw) < keep
        unit = torch.arange(len(mask.unit)) != 2
        masks[name] = LayerMask(weight, unit | (name == network.logits_name))
    network.set_masks(masks)
    return network, reference


def fit_of(network: MaskedBodyBuilder, reference: dict[str, Tensor]) -> LogitsFit:
    network.eval()
    batches = list(IMAGES.split(30))
    with torch.no_grad():
        return LogitsFit(network, [network.dense_twin(reference)(batch) for batch in batches], batches)


def jacobian(network: MaskedBodyBuilder, fit: LogitsFit) -> np.ndarray:
    """[images × classes, survivors], written out a logit at a time."""
    parameters = {name: network.get_parameter(name) for name in fit.masks}
    rows = []
    for logit in network(IMAGES).flatten():
        gradients = torch.autograd.grad(logit, list(parameters.values()), retain_graph=True)
        rows.append(fit.gather(dict(zip(parameters, gradients, strict=True))))
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("layers", [LOGITS, MLP, CNN], ids=["logits", "mlp", "cnn"])
def test_its_products_are_those_of_the_jacobian_written_out(layers):
    network, reference = pruned(layers)
    fit = fit_of(network, reference)
    matrix, missing = jacobian(network, fit), torch.cat(fit.goals) - network(IMAGES)
    assert matrix.shape[1] == sum(int(mask.sum()) for mask in fit.masks.values())
    vector = torch.randn(matrix.shape[1], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = matrix.T @ (matrix @ vector.numpy()) / 70 + gauss_newton.DAMPING * vector.numpy()
    with torch.no_grad():
        product, gradient = fit.product(vector), fit.gradient()
        again, anew = fit.product(vector), fit_of(network, reference)
        anew.is_small = False
        assert again.equal(product)
        assert anew.product(vector).equal(product)
        assert (len(fit.kept), len(anew.kept)) == (3, 0)
    np.testing.assert_allclose(product.numpy(), expected, atol=1e-9)
    right = matrix.T @ missing.detach().flatten().numpy() / 70
    np.testing.assert_allclose(gradient.numpy(), right, atol=1e-9)


@pytest.mark.parametrize("layers", [LOGITS, MLP, CNN], ids=["logits", "mlp", "cnn"])
def test_the_step_is_the_damped_least_squares_of_numpy(layers, monkeypatch):
    monkeypatch.setattr(gauss_newton, "ITERATIONS", 500)
    network, reference = pruned(layers, keep=0.9)
    fit, before = fit_of(network, reference), copy.deepcopy(network)
    matrix, missing = jacobian(network, fit), (torch.cat(fit.goals) - network(IMAGES)).detach()
    rows = np.concatenate([matrix, np.sqrt(70 * gauss_newton.DAMPING) * np.eye(matrix.shape[1])])
    right = np.concatenate([missing.flatten().numpy(), np.zeros(matrix.shape[1])])
    step = np.linalg.lstsq(rows, right, rcond=None)[0]
    solve_logits(network, reference, IMAGES)
    after, start = (fit.gather(dict(one.named_parameters())).detach() for one in (network, before))
    moved = (after - start).numpy()
    # Halved where the whole step would overshoot.
    factor = moved @ step / (step @ step)
    assert any(np.isclose(factor, 0.5**n, rtol=1e-5) for n in range(6))
    np.testing.assert_allclose(moved, factor * step, atol=1e-6)
    if layers is LOGITS:
        assert factor == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_it_lowers_the_error_of_the_logits_and_again_and_again(seed):
    network, reference = pruned(MLP, seed=seed)
    network.eval()
    goal = network.dense_twin(reference)(IMAGES)
    errors = [float((network(IMAGES) - goal).detach().square().sum())]
    for _ in range(3):
        refit(network, reference, IMAGES, "logits", 1e-3)
        errors.append(float((network(IMAGES) - goal).detach().square().sum()))
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.9 * errors[0]


def test_a_step_that_does_not_help_is_left_out(monkeypatch):
    network, reference = pruned(MLP)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    monkeypatch.setattr(LogitsFit, "gradient", lambda fit: -1e6 * torch.ones_like(fit.gather(fit.values)))
    solve_logits(network, reference, IMAGES)
    assert all(value.equal(before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("layers", [MLP, CNN], ids=["mlp", "cnn"])
def test_masks_modes_statistics_and_images_are_left_as_they_were(layers):
    network, reference = pruned(layers)
    network.train()
    masks, images, held = network.masks(), IMAGES.clone(), list(network.parameters())
    norms = {key: value.clone() for key, value in network.state_dict().items() if "batch_norm" in key}
    words = {key: value.clone() for key, value in reference.items()}
    assert solve_logits(network, reference, images) > 0
    network.check_masks()
    assert all(all(map(torch.equal, mask, masks[name])) for name, mask in network.masks().items())
    assert all(module.training for module in network.modules())
    assert all(value.equal(network.state_dict()[key]) for key, value in norms.items())
    assert all(value.equal(words[key]) for key, value in reference.items())
    assert images.equal(IMAGES)
    assert all(one is other for one, other in zip(held, network.parameters(), strict=True))
    assert all(value.requires_grad and value.grad is None for value in held)


def test_a_network_without_any_error_stays():
    network, reference = pruned(MLP, keep=1.1)
    network.load_state_dict(reference, strict=False)
    network.set_masks({n: LayerMask(m.weight | True, m.unit | True) for n, m in network.masks().items()})
    network.load_state_dict(reference, strict=False)
    solve_logits(network, reference, IMAGES)
    assert all(network.state_dict()[key].equal(value) for key, value in reference.items())


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_unknowns():
    draw = np.random.default_rng(0)
    root = torch.from_numpy(draw.normal(size=(9, 6)))
    matrix, right = root.T @ root, torch.from_numpy(draw.normal(size=6))
    found = conjugate_gradients(lambda vector: matrix @ vector, right, 6)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))
    less = conjugate_gradients(lambda vector: matrix @ vector, right, 3)
    assert not torch.allclose(less, found, rtol=1e-2)
    assert conjugate_gradients(lambda vector: matrix @ vector, 0 * right, 6).tolist() == [0] * 6
