"""The invariance certificates: the truth table of the normalizations, measured, and what happens to their gradients.

The expected table stands here and nowhere in the package: Table 1 of Ba, Kiros, Hinton 2016, and its extension.
"""

import json

import numpy as np
import pytest

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import testing
from tinygrad_norm.testing.invariance import NORMALIZATIONS, SHAPES

CHANGES = (
    "weight scale", "weight shift", "row scale", "data scale", "data shift", "case scale", "row constants",
    "case constants", "weight sign",
)  # fmt: skip
TRUTH = {  # Y: invariant, -: not, s: the sign changes
    "none": "--------s",
    "batch": "Y-YYY---s",
    "weight": "Y-Y-----s",
    "layer": "YY-Y-Y--s",
    "cosine": "Y-YY-Y--s",
    "centered_cosine": "Y-YY-YYYs",
    "rms": "Y--Y-Y--s",
    "weight_standardization": "Y-Y---YYs",
    "weight_mean_only": "Y-Y-Y---s",
}
VERDICTS = {"Y": "invariant", "-": "not", "s": "sign"}
NORMS = [name for name in TRUTH if name != "none"]
ROWS = [name for name in NORMS if name not in ("layer", "rms")]  # each row of W has a scale of its own


def expected(name):
    return {change: VERDICTS[letter] for change, letter in zip(CHANGES, TRUTH[name], strict=True)}


def verdicts(certificate):
    return {line.name: line.verdict for line in certificate.lines}


def test_every_normalization_has_a_row():
    assert set(TRUTH) == set(NORMALIZATIONS)


# ---- verdicts


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [2.0, 3.0, 0.1, 2.0**-20, 1000.0])
@pytest.mark.parametrize("norm", TRUTH)
def test_the_truth_table(norm, scale, dtype):
    assert verdicts(testing.check_invariance(norm, scale=scale, dtype=dtype)) == expected(norm)


@pytest.mark.parametrize("norm", TRUTH)
def test_verdicts_are_far_from_the_limit(measured, norm):
    """Invariance holds to rounding, and what is not invariant is off by percents: the limit decides nothing."""
    for seed in range(20):
        for line in testing.check_invariance(norm, seed=seed).lines:
            if line.verdict == "not":
                assert line.deviation > 0.01
            else:
                assert measured("values that must not change, in float64", line.deviation) < 1e-14


@pytest.mark.parametrize("norm", NORMS)
def test_a_negative_scale_turns_the_sign(norm):
    found = testing.check_invariance(norm, scale=-4.0)
    for name, verdict in expected(norm).items():
        if verdict == "invariant" and "scale" in name:
            assert found[name].verdict == "sign", name
            assert found[name].exact
        else:
            assert found[name].verdict == verdict, name
    # gradients of minus the value: by x minus the old one, by W 1/abs(lambda) times it
    assert (found["weight scale"].value_factor, found["weight scale"].x_factor) == (-1.0, -1.0)
    assert found["weight scale"].w_factor == 0.25


# ---- gradients


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [2.0, 0.125, 2.0**20, 2.0**-12])
@pytest.mark.parametrize("norm", TRUTH)
def test_powers_of_two_change_no_bit(norm, scale, dtype):
    """Value and gradient by x are bitwise equal, and the gradient by W is exactly 1/lambda of what it was."""
    found = testing.check_invariance(norm, scale=scale, dtype=dtype)
    for name in ("weight scale", "row scale", "data scale", "case scale", "weight sign"):
        line = found[name]
        if line.verdict != "not":
            assert line.value_exact and line.x_exact and line.w_exact, name
    if norm != "none":
        assert (found["weight scale"].x_factor, found["weight scale"].w_factor) == (1.0, 1 / scale)


def test_other_factors_change_bits():
    """So the flags can be off: 3 is no power of two."""
    for norm in ("batch", "layer", "weight", "cosine"):
        line = testing.check_invariance(norm, scale=3.0)["weight scale"]
        assert line.verdict == "invariant" and not line.exact


@pytest.mark.parametrize("scale", [3.0, 0.1, 1e5])
@pytest.mark.parametrize("norm", TRUTH)
def test_gradients_follow_the_chain_rule(measured, norm, scale):
    """Where the value is f times the old one and an input was scaled by s, its gradient is f/s times the old one."""
    found = testing.check_invariance(norm, scale=scale)
    for line in found.lines:
        if line.verdict != "not" or line.value_factor is not None:
            error = max(line.x_deviation, line.w_deviation)
            assert measured("gradients off the 1/lambda law, in float64", error) < 1e-12, line.name

    def factors(name):
        return [found[name].value_factor, found[name].x_factor, found[name].w_factor]

    close = pytest.approx
    if norm == "none":
        assert factors("weight scale") == close([scale, scale, 1.0])
        assert factors("data scale") == close([scale, 1.0, scale])
        return
    assert factors("weight scale") == close([1.0, 1.0, 1 / scale])
    if found["row scale"].verdict == "invariant":
        assert factors("row scale") == close([1.0, 1.0, 1 / scale])
    if found["data scale"].verdict == "invariant":
        assert factors("data scale") == close([1.0, 1 / scale, 1.0])
    else:  # weight norm and its like: the value grows with the data, and so does the gradient by W
        assert factors("data scale") == close([scale, 1.0, scale])
    if found["case scale"].verdict == "invariant":
        assert factors("case scale") == close([1.0, 1 / scale, 1.0])
    if found["data shift"].verdict == "invariant":
        assert factors("data shift") == close([1.0, 1.0, 1.0])
    assert factors("weight sign") == close([-1.0, -1.0, 1.0])


@pytest.mark.parametrize("norm", NORMS)
def test_the_factors_by_differences(norm):
    """The same factors, from values alone: central differences at W and at 3 W."""
    rng = np.random.default_rng(0)
    x, w, c = (rng.normal(0.5, 1.0, n) for n in SHAPES)

    def slopes(x, w):
        def loss(x, w):
            return float((NORMALIZATIONS[norm](tn.tensor(x), tn.tensor(w), 0.0).numpy() * c).sum())

        found = []
        for a, at in ((x, lambda a: loss(a, w)), (w, lambda a: loss(x, a))):
            slope = np.empty(a.shape)
            for i in np.ndindex(a.shape):
                step = np.zeros(a.shape)
                step[i] = 1e-5 * np.abs(w).max()
                slope[i] = (at(a + step) - at(a - step)) / (2 * step[i])
            found.append(slope)
        return found

    (by_x, by_w), (again_x, again_w) = slopes(x, w), slopes(x, 3.0 * w)
    np.testing.assert_allclose(again_x, by_x, rtol=0, atol=1e-6 * np.abs(by_x).max())
    np.testing.assert_allclose(3.0 * again_w, by_w, rtol=0, atol=1e-6 * np.abs(by_w).max())


@pytest.mark.parametrize("dtype, limit", [("float64", 1e-13), ("float32", 1e-5)])
@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_is_at_a_right_angle_to_what_may_be_scaled(measured, norm, dtype, limit):
    for seed in range(10):
        found = testing.check_invariance(norm, seed=seed, dtype=dtype)
        assert measured(f"cosine of weights and gradient in {dtype}", found.matrix_angle) < limit
        assert (
            measured(f"of single rows in {dtype}", found.row_angle) < limit if norm in ROWS else found.row_angle > 0.01
        )
        # ... so that weights grow by Pythagoras: ||w'||^2 = ||w||^2 + rate^2 ||gradient||^2
        assert found.matrix_growth < 100 * limit
        assert found.row_growth < 1000 * limit if norm in ROWS else found.row_growth > 0.01


def test_without_normalization_there_is_no_such_law():
    found = testing.check_invariance("none")
    assert found.matrix_angle > 0.01 and found.matrix_growth > 0.1


# ---- eps


WITH_VARIANCE = ["batch", "layer", "rms", "weight_standardization"]


@pytest.mark.parametrize("eps", [1e-8, 1e-5, 1e-3, 0.1])
@pytest.mark.parametrize("scale", [2.0, -0.25, 10.0])
@pytest.mark.parametrize("norm", WITH_VARIANCE)
def test_eps_breaks_the_law_as_the_closed_form_says(norm, scale, eps):
    found = testing.check_invariance(norm, eps=eps, scale=scale)
    assert found["weight scale"].verdict == "not"
    assert found.closed_form < 1e-13
    assert found.paired.verdict == ("invariant" if scale > 0 else "sign")
    assert found.paired.x_deviation < 1e-12 and found.paired.w_deviation < 1e-12
    if scale != 10.0:
        assert found.paired.exact
    assert found.matrix_angle > 1e-13


def test_the_size_of_what_eps_does():
    """To first order eps / (2 var) (1 - 1 / lambda^2): linear in eps."""
    small, large = (testing.check_invariance("batch", eps=eps)["weight scale"].deviation for eps in (1e-7, 1e-5))
    assert large / small == pytest.approx(100, rel=1e-3)
    assert testing.check_invariance("batch", eps=1e-3, scale=1e-3)["weight scale"].deviation > 0.5


@pytest.mark.parametrize("norm", ["weight", "cosine", "centered_cosine", "weight_mean_only"])
def test_eps_as_a_least_length_breaks_nothing_above_it(norm):
    found = testing.check_invariance(norm, eps=1e-5)
    assert verdicts(found) == expected(norm) and found["weight scale"].exact
    assert found.closed_form is None
    assert testing.check_invariance(norm, eps=1e3)["weight scale"].verdict == "not"  # below it, it does


def test_without_eps_nothing_is_paired():
    found = testing.check_invariance("batch")
    assert found.paired is None and found.closed_form is None


# ---- functions of one's own, and what is not invariant


def test_batch_norm_outside_training_sees_everything():
    mean, var = tn.zeros(6, dtype="float64"), tn.ones(6, dtype="float64")

    def frozen(x, w, eps):
        return F.batch_norm(F.linear(x, w), mean, var, eps=eps)

    found = testing.check_invariance(frozen)
    assert found.norm == "frozen"
    assert set(verdicts(found).values()) == {"not", "sign"}
    assert found["weight scale"].value_factor == pytest.approx(2.0) and found["data shift"].deviation > 0.1
    var += 0.7
    mean += 0.3
    assert testing.check_invariance(frozen)["weight sign"].verdict == "not"


def test_a_norm_before_the_weights_is_blind_to_the_data_only():
    def before(x, w, eps):
        return F.linear(F.layer_norm(x, x.shape[1], eps=eps), w)

    found = testing.check_invariance(before)
    assert found["weight scale"].verdict == found["row scale"].verdict == "not"
    assert found["weight scale"].value_factor == pytest.approx(2.0)
    assert [found[name].verdict for name in ("data scale", "case scale", "case constants")] == ["invariant"] * 3


def test_eps_under_the_root_of_a_length_breaks_the_law():
    def guarded(x, w, eps):
        return F.linear(x, w / tn.sqrt((w * w).sum(axis=1, keepdims=True) + 1e-6))

    assert testing.check_invariance(guarded)["weight scale"].verdict == "not"


def test_a_wrong_gradient_is_measured():
    """A backward that takes the length for a constant: the value is invariant, the gradient has a part along W."""

    def detached(x, w, eps):
        return F.linear(x, w / tn.sqrt((w * w).sum(axis=1, keepdims=True)).detach())

    found = testing.check_invariance(detached)
    assert verdicts(found) == expected("weight") and found["weight scale"].exact
    assert found.row_angle > 0.01 and found.row_growth > 0.01


def test_a_gradient_that_does_not_scale_is_measured():
    def stuck(x, w, eps):
        v = F.weight_norm(w, tn.ones(len(w), 1, dtype=w.dtype))
        return F.linear(x, v.detach() + (w - w.detach()))

    line = testing.check_invariance(stuck)["weight scale"]
    assert line.verdict == "invariant" and line.value_exact and line.x_exact
    assert line.w_factor == 1.0 and not line.w_exact and line.w_deviation == 1.0


def test_composites_obey_too():
    """The definitions, not only the kernels."""
    with tn.composite():
        for norm in ("batch", "layer", "weight", "cosine"):
            found = testing.check_invariance(norm)
            assert verdicts(found) == expected(norm) and found["weight scale"].exact


def test_a_function_that_ignores_an_input():
    found = testing.check_invariance(lambda x, w, eps: F.linear(x * 0.0, w.detach()))
    assert all(line.deviation == 0 for line in found.lines)
    assert found.row_angle == found.row_growth == 0


# ---- the law of growth, by hand


def test_growth_by_hand():
    """w . gradient = sum of cotangent times output times eps / (var + eps), exactly: at eps = 0 nothing."""
    rng = np.random.default_rng(0)
    x, w, c = (rng.normal(0.5, 1.0, n) for n in SHAPES)
    for eps in (0.0, 1e-3, 0.5):
        leaf = tn.tensor(w, requires_grad=True)
        y = NORMALIZATIONS["batch"](tn.tensor(x), leaf, eps)
        y.backward(c)
        share = eps / ((x @ w.T).var(0) + eps)
        np.testing.assert_allclose((w * leaf.grad.numpy()).sum(1), (c * y.numpy() * share).sum(0), atol=1e-13)


# ---- how it is asked and shown


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"norm": "bach"}, ValueError, "norm must be one of none, batch, .* or a function; got 'bach'"),
        ({"dtype": "float16"}, ValueError, "dtype must be 'float64' or 'float32'; got 'float16'"),
        ({"scale": 0.0}, ValueError, "other than 0 and 1; got 0.0"),
        ({"scale": 1}, ValueError, "other than 0 and 1; got 1"),
        ({"scale": float("nan")}, ValueError, "finite number .* got nan"),
        ({"eps": -1e-5}, ValueError, "eps must be 0 or positive; got -1e-05"),
        ({"eps": float("nan")}, ValueError, "eps must be 0 or positive; got nan"),
        ({"norm": lambda x, w, eps: 1.0}, TypeError, r"returns a Tensor of shape \(32, 6\); got 1.0"),
        ({"norm": lambda x, w, eps: x}, TypeError, r"shape \(32, 6\); got .*\(32, 8\)"),
    ],
)  # fmt: skip
def test_what_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        testing.check_invariance(**{"norm": "batch"} | options)


def test_the_same_seed_gives_the_same_certificate():
    assert testing.check_invariance("layer", seed=5) == testing.check_invariance("layer", seed=5)
    assert testing.check_invariance("layer", seed=5) != testing.check_invariance("layer", seed=6)


def test_the_certificate_as_text_markdown_and_json():
    found = testing.check_invariance("layer", eps=1e-5)
    text = str(found)
    assert text.startswith("layer: float64, scale 2, eps 1e-05, seed 0")
    lines = [line.split()[:2] for line in text.splitlines()[2:11]]
    assert [" ".join(words) for words in lines] == list(CHANGES)
    assert "2 W with eps 4e-05: deviation 0.0e+00, to the bit" in text
    assert "off the closed form" in text
    assert "| weight shift | W -> W + 1 c^T | invariant |" in found.to_markdown()
    data = json.loads(found.to_json())
    assert data["lines"][1]["verdict"] == "invariant" and data["paired"]["w_factor"] == 0.5
    with pytest.raises(KeyError, match="no transformation 'scale'; there are weight scale, "):
        found["scale"]


def test_numbers_that_json_does_not_have():
    def broken(x, w, eps):
        return F.linear(x, w) / 0.0

    with np.errstate(divide="ignore", invalid="ignore"):
        found = testing.check_invariance(broken)
    assert set(verdicts(found).values()) == {"not"}
    assert json.loads(found.to_json())["lines"][0]["deviation"] == "nan"


def test_the_table(capsys):
    table = testing.invariance_table()
    printed = capsys.readouterr().out
    assert printed == f"{table}\n"
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines[2:11]] == list(TRUTH)
    words = {"yes": "Y", "no": "-", "sign": "s"}
    for line in lines[2:11]:
        name, *cells = line.split()
        assert "".join(words[cell] for cell in cells[::2]) == TRUTH[name]
    assert max(map(len, lines)) <= 120
    assert table["batch"] == testing.check_invariance("batch")
    assert "| batch | **yes** 0 | no " in table.to_markdown()
    assert [row["norm"] for row in json.loads(table.to_json())] == list(TRUTH)
    assert repr(table).startswith("<InvarianceTable of none, batch,")
    with pytest.raises(KeyError, match="no normalization 'bach'"):
        table["bach"]
