"""Networks as drawings: names, totals, a box a layer."""

import pytest
from drawn import NET, log_of, made, outside
from matplotlib.figure import Figure

from helpers.analysis import architecture, show
from helpers.analysis.architecture import draw_network


def records(*layers: tuple) -> list[dict]:
    """Records from (type, output shape, kernel, params, macs) after a 28 × 28 input."""
    found = [NET[0]]
    for index, (kind, shape, kernel, params, macs) in enumerate(layers):
        record = {"layer": f"{kind}_{index}", "type": kind, "output_shape": shape}
        record |= {"params": params, "macs": macs} | ({"kernel": kernel} if kernel else {})
        found.append(record)
    return found


MLP = records(
    ("flatten", (784,), None, 0, 0),
    ("linear", (1000,), None, 785000, 784000),
    ("linear", (1000,), None, 1001000, 1000000),
    ("linear", (500,), None, 500500, 500000),
    ("linear", (200,), None, 100200, 100000),
    ("linear", (10,), None, 2010, 2000),
)
LENET = records(
    ("conv2d", (20, 24, 24), 5, 520, 288000),
    ("maxpool", (20, 12, 12), 2, 0, 0),
    ("conv2d", (50, 8, 8), 5, 25050, 1600000),
    ("maxpool", (50, 4, 4), 2, 0, 0),
    ("flatten", (800,), None, 0, 0),
    ("linear", (500,), None, 400500, 400000),
    ("linear", (10,), None, 5010, 5000),
)
CNN = records(
    ("conv2d", (32, 28, 28), 3, 320, 225792),
    ("conv2d", (32, 28, 28), 3, 9248, 7225344),
    ("maxpool", (32, 14, 14), 2, 0, 0),
    ("conv2d", (64, 14, 14), 3, 18496, 3612672),
    ("conv2d", (64, 14, 14), 3, 36928, 7225344),
    ("maxpool", (64, 7, 7), 2, 0, 0),
    ("conv2d", (128, 7, 7), 3, 73856, 3612672),
    ("conv2d", (128, 7, 7), 3, 147584, 7225344),
    ("maxpool", (128, 3, 3), 2, 0, 0),
    ("flatten", (1152,), None, 0, 0),
    ("linear", (500,), None, 576500, 576000),
    ("dropout", (500,), None, 0, 0),
    ("linear", (200,), None, 100200, 100000),
    ("linear", (10,), None, 2010, 2000),
)


@pytest.mark.parametrize(
    ("net", "labels", "totals"),
    [
        (
            MLP,
            ["input\n28×28", "linear\n1000", "linear\n10"],
            "2.39 M parameters · 2.39 M multiply-accumulates",
        ),
        (LENET, ["conv\n20@5\n24×24", "pool\n12×12", "linear\n500"], "431 k parameters · 2.29 M multiply"),
        (CNN, ["conv\n128@3\n7×7", "linear\n500\n+drop"], "965 k parameters · 29.8 M multiply-accumulates"),
    ],
)
def test_a_drawing_names_layers_and_totals(net, labels, totals):
    fig = show("", architecture(log_of(made(), net=net)).set(title="Net"), size=(5, 2.4))
    (ax,) = fig.axes
    written = [text.get_text() for text in ax.texts]
    assert set(labels) <= set(written)
    assert written[-1].startswith(totals)
    n_boxes = sum(record["type"] not in ("flatten", "dropout") for record in net)
    assert len(written) == n_boxes + 1
    assert len(ax.patches) == 7 * n_boxes - 1  # six faces a box, a fan between two
    assert ax.get_title() == "Net"
    assert outside(fig) == []


def test_a_layer_says_its_stride_its_norm_and_what_else_it_is():
    ax = Figure().add_subplot()
    conv = {"layer": "a", "type": "conv2d", "output_shape": (8, 14, 14), "params": 1, "macs": 1}
    norm = {"layer": "b", "type": "batch_norm", "output_shape": (8, 14, 14), "params": 1, "macs": 0}
    select = {"layer": "c", "type": "select", "output_shape": (5,), "params": 0, "macs": 0}
    draw_network(ax, [NET[0], conv, norm, conv | {"kernel": 3, "stride": 2}, select, NET[-1]])
    expected = ["conv\n8\n14×14\n+norm", "conv/2\n8@3\n14×14", "select\n5"]
    assert [text.get_text() for text in ax.texts][1:4] == expected


def test_heights_grow_with_pixels_and_units():
    ax = Figure().add_subplot()
    draw_network(ax, LENET)
    faces = [patch for patch in ax.patches if patch.get_alpha() == 1.0]
    heights = [patch.get_xy()[:, 1].max() for patch in faces]
    assert heights == sorted(heights[:5], reverse=True) + sorted(heights[5:], reverse=True)
    assert heights[0] == pytest.approx(0.5)
