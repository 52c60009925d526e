"""BodyBuilder: the network is the one that the config describes, with the parameters that paper gives it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers.body_builder import BodyBuilder
from helpers.foundations.datasets import DATASETS
from helpers.foundations.errors import UserError
from helpers.foundations.nets import NetConfig

torch.set_num_threads(1)

CONFIGS = Path(__file__).parents[1] / "configs"
FLATTEN = {"type": "flatten"}
BATCH_NORM = {"type": "batch_norm"}


def linear(units: int = 10, **more) -> dict:
    return {"type": "linear", "units": units, **more}


def conv(filters: int, kernel: int, **more) -> dict:
    return {"type": "conv2d", "filters": filters, "kernel": kernel, **more}


def shipped(name: str) -> dict:
    """The `net` of a config in configs/."""
    return json.loads((CONFIGS / f"{name}.json").read_text("utf-8"))["net"]


def images(count: int = 2, dataset: str = "mnist") -> torch.Tensor:
    return torch.randn(count, *DATASETS[dataset][0], generator=torch.Generator().manual_seed(1))


# Kernels, strides, pools, padding: one of each, and every type of layer.
EVERY_TYPE = {
    "layers": [
        conv(6, 5, padding=2, stride=2),
        BATCH_NORM,
        {"type": "maxpool", "kernel": 3, "stride": 1},
        conv(4, 3),
        {"type": "avgpool"},
        {"type": "adaptive_avgpool", "size": 3},
        FLATTEN,
        {"type": "dropout", "p": 0.25},
        linear(12),
        BATCH_NORM,
        linear(),
    ]
}
NETS = {
    "lenet5": shipped("lenet5_oneshot"),
    "challenge": shipped("mlp_oneshot"),
    "cnn8": shipped("cnn8_oneshot"),
    "300-100": {"layers": [FLATTEN, linear(300), linear(100), linear()]},
    "every type": EVERY_TYPE,
}


@pytest.mark.parametrize(
    ("net", "params", "macs"),
    [
        # 20·(5²·1+1) + 50·(5²·20+1) + 500·(800+1) + 10·(500+1); 24²·500 + 8²·25000 + 800·500 + 500·10
        ("lenet5", 431_080, 2_293_000),
        # 300·785 + 100·301 + 10·101; the same without biases
        ("300-100", 266_610, 266_200),
        # 1000·785 + 1000·1001 + 500·1001 + 200·501 + 10·201; the same without biases
        ("challenge", 2_388_710, 2_386_000),
    ],
)
def test_parameters_and_macs_are_those_computed_by_hand(net, params, macs):
    network = BodyBuilder(NETS[net])
    table = network.summary()
    assert sum(values.numel() for values in network.parameters()) == params == table["params"].sum()
    assert network.macs == macs == table["macs"].sum()


@pytest.mark.parametrize("net", NETS)
def test_macs_are_half_the_flops_that_torch_counts(net):
    network = BodyBuilder(NETS[net]).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images(1))
    assert counter.get_total_flops() == 2 * network.macs


@pytest.mark.parametrize("net", NETS)
def test_each_layer_of_the_summary_has_the_shape_and_parameters_of_its_module(net):
    network, found = BodyBuilder(NETS[net]).eval(), {}
    for name, module in network.layers.items():
        module.register_forward_hook(
            lambda m, i, output, name=name: found.update({name: tuple(output.shape[1:])})
        )
    network(images())
    table = network.summary()
    assert list(table.columns) == ["layer", "type", "output_shape", "params", "macs"]
    assert list(table["type"]) == [layer["type"] for layer in NETS[net]["layers"]]
    for row in table.itertuples():
        assert found[row.layer] == row.output_shape
        assert sum(values.numel() for values in network.layers[row.layer].parameters()) == row.params


def test_layers_compute_what_the_config_asks_for():
    """Kernel, stride, padding and size by their output sides: (28+4-5)//2+1, 14-3+1, 12-3+1, 10//2, 3."""
    shapes = BodyBuilder(EVERY_TYPE).summary()["output_shape"]
    maps = [(6, 14, 14), (6, 14, 14), (6, 12, 12), (4, 10, 10), (4, 5, 5), (4, 3, 3)]
    assert list(shapes) == [*maps, (36,), (36,), (12,), (12,), (10,)]
    network = BodyBuilder(EVERY_TYPE)
    assert isinstance(network.layers["maxpool_1"], nn.MaxPool2d)
    assert isinstance(network.layers["avgpool_1"], nn.AvgPool2d)
    assert network.layers["dropout_1"].p == 0.25


def test_colour_images_make_logits_too():
    net = {"layers": [conv(2, 3), FLATTEN, linear()]}
    assert BodyBuilder(net, "cifar10")(images(3, "cifar10")).shape == (3, 10)


def types(layers: list[dict], activation: str = "relu") -> list[type]:
    return [
        type(module) for module in BodyBuilder({"layers": layers, "activation": activation}).layers.values()
    ]


def test_an_activation_follows_a_layer_and_its_batch_norm_and_never_the_logits():
    layers = [
        conv(2, 3),
        BATCH_NORM,
        {"type": "maxpool"},
        conv(2, 3),
        FLATTEN,
        linear(8),
        {"type": "dropout"},
    ]
    assert types([*layers, linear()]) == [
        nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Conv2d, nn.ReLU, nn.Flatten,
        nn.Linear, nn.ReLU, nn.Dropout, nn.Linear,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "module"),
    [
        ("relu", nn.ReLU),
        ("leaky_relu", nn.LeakyReLU),
        ("gelu", nn.GELU),
        ("sigmoid", nn.Sigmoid),
        ("tanh", nn.Tanh),
    ],
)
def test_the_nets_activation_holds_but_where_a_layer_has_its_own(word, module):
    own = linear(8, activation="identity"), BATCH_NORM, linear(8, activation="tanh")
    assert types([FLATTEN, linear(8), *own, linear()], word) == [
        nn.Flatten, nn.Linear, module, nn.Linear, nn.BatchNorm1d, nn.Linear, nn.Tanh, nn.Linear,
    ]  # fmt: skip


def test_the_forward_pass_is_the_formula_and_ends_in_plain_logits():
    network = BodyBuilder({"layers": [FLATTEN, linear(8), linear()], "activation": "tanh"})
    x = images(5)
    (w1, b1), (w2, b2) = [
        (layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
        for layer in network.weighted().values()
    ]
    expected = np.tanh(x.flatten(1).double().numpy() @ w1.T + b1) @ w2.T + b2
    assert network(x).detach().numpy() == pytest.approx(expected, abs=1e-5)


def test_names_are_types_and_numbers_unless_given():
    network = BodyBuilder({"layers": [FLATTEN, linear(8), linear(8, name="hidden"), linear()]})
    assert list(network.weighted()) == ["linear_1", "hidden", "linear_3"]
    assert network.logits_name == "linear_3"


def state(net: dict, seed: int) -> list[torch.Tensor]:
    return list(BodyBuilder(net, seed=seed).state_dict().values())


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    first = state(EVERY_TYPE, seed=3)
    torch.manual_seed(2)
    again, other = state(EVERY_TYPE, seed=3), state(EVERY_TYPE, seed=4)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[-2], other[-2])


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [(conv(64, 5), 25, 64 * 25), (linear(400), 784, 400)],
    ids=["conv", "linear"],
)
@pytest.mark.parametrize("init", ["kaiming_normal", "kaiming_uniform", "glorot_normal", "glorot_uniform"])
def test_initial_weights_have_the_variance_of_their_paper(init, layer, fan_in, fan_out):
    """He et al. 2015: 2 / fan in; Glorot and Bengio 2010: 2 / (fan in + fan out)."""
    layers = [layer, FLATTEN, linear()] if layer["type"] == "conv2d" else [FLATTEN, layer, linear()]
    weight = next(iter(BodyBuilder({"layers": layers, "init": init}).weighted().values())).weight.detach()
    variance = 2 / fan_in if "kaiming" in init else 2 / (fan_in + fan_out)
    assert weight.mean().abs() < 4 * math.sqrt(variance / weight.numel())
    assert weight.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / weight.numel()))
    # A uniform distribution ends at √3 standard deviations, a normal one does not.
    assert (weight.abs().max() <= math.sqrt(3 * variance) * 1.0001) == ("uniform" in init)


def test_biases_start_at_0_and_batch_norm_as_the_identity():
    for name, values in BodyBuilder(EVERY_TYPE).named_parameters():
        if name.endswith("bias"):
            assert not values.any(), name
        elif "batch_norm" in name:
            assert (values == 1).all(), name


def test_a_dict_and_a_model_build_the_same_network():
    models = [EVERY_TYPE, NetConfig.model_validate(EVERY_TYPE)]
    first, second = (BodyBuilder(net, seed=1).eval()(images()) for net in models)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([linear()], r"net\.layers\[0\].*flatten"),
        ([conv(2, 29), FLATTEN, linear()], r"net\.layers\[0\].*fits 28×28 pixels, found 29"),
        (
            [conv(2, 31, padding=1), FLATTEN, linear()],
            r"net\.layers\[0\].*28×28 pixels with padding 1, found 31",
        ),
        ([FLATTEN, {"type": "maxpool"}, linear()], r"net\.layers\[1\].*flat already"),
        ([FLATTEN, linear(11)], r"net\.layers\[1\].*expected 10, the classes of mnist, found 11"),
        ([FLATTEN], r"net\.layers\[0\].*linear layer with the logits"),
        (
            [FLATTEN, linear(8, name="a"), linear(8, name="a"), linear()],
            r"net\.layers\[2\].*called 'a' already",
        ),
    ],
)
def test_a_layer_that_does_not_fit_is_refused_in_words(layers, message):
    with pytest.raises(UserError, match=message):
        BodyBuilder({"layers": layers})


def test_an_unknown_word_is_refused():
    with pytest.raises(ValidationError, match="unit"):
        BodyBuilder({"layers": [FLATTEN, {"type": "linear", "unit": 10}]})
