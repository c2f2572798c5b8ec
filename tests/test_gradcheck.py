"""The gradient checker is itself checked: wrong rules must be seen, right ones must pass."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_norm as tn
from tinygrad_norm import functional as F
from tinygrad_norm import nn
from tinygrad_norm.testing import GradientError, GradientWarning, gradcheck

EPS = 1e-5


def standardized(x):
    d = x - x.mean(axis=0, keepdims=True)
    return d / tn.sqrt((d * d).mean(axis=0, keepdims=True) + EPS)


def planted(rule, reads=tn.INPUTS):
    """Batch normalization with the backward ``rule(g, x, xhat, rstd) -> gradient``."""

    class Planted(tn.Op):
        @staticmethod
        def composite(x):
            return standardized(x)

        @staticmethod
        def forward(xp, x):
            d = x - x.mean(0)
            rstd = 1 / np.sqrt((d * d).mean(0) + EPS)
            return d * rstd, rstd

        @staticmethod
        def backward(xp, g, y, rstd, needs, x):
            return (rule(g, x, (x - x.mean(0)) * rstd, rstd),)

    return lambda x: tn.apply(Planted, x)


def right(g, x, xhat, rstd):
    return rstd * (g - g.mean(0) - xhat * (g * xhat).mean(0))


def sign_of_one_row(g, *rest):
    out = right(g, *rest)
    out[1] *= -1
    return out


def one_entry(g, *rest):
    out = right(g, *rest)
    out[2, 1] += 1e-3
    return out


def eps_left_out(g, x, xhat, rstd):
    d = x - x.mean(0)
    rstd = 1 / np.sqrt((d * d).mean(0))
    return right(g, x, d * rstd, rstd)


def float32_inside(g, x, xhat, rstd):
    return right(*(v.astype("float32") for v in (g, x, xhat, rstd))).astype("float64")


WRONG = {
    "sign": lambda *a: -right(*a),
    "factor 2": lambda *a: 2 * right(*a),
    "scale 1 %": lambda *a: 1.01 * right(*a),
    "scale 0.1 %": lambda *a: 1.001 * right(*a),
    "scale 0.01 %": lambda *a: 1.0001 * right(*a),
    "mean term missing": lambda g, x, xhat, rstd: rstd * (g - xhat * (g * xhat).mean(0)),
    "variance term missing": lambda g, x, xhat, rstd: rstd * (g - g.mean(0)),
    "statistics detached": lambda g, x, xhat, rstd: rstd * g,
    "n - 1 for n": lambda g, x, xhat, rstd: rstd * (g - g.mean(0) - xhat * (g * xhat).sum(0) / (len(g) - 1)),
    "zero": lambda g, x, xhat, rstd: 0 * g,
    "wrong axis": lambda g, x, xhat, rstd: rstd * (g - g.mean(1, keepdims=True) - xhat * (g * xhat).mean(0)),
    "sign of one row": sign_of_one_row,
    "one entry + 1e-3": one_entry,
    "eps left out": eps_left_out,
}


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("bug", WRONG)
@pytest.mark.parametrize("method", ["central", "complex"])
def test_a_planted_bug_is_seen_on_every_seed(bug, method):
    for seed in range(20):
        with pytest.raises(GradientError, match=r"input 0, entry \(\d, \d\): backward gives .*, measured "):
            gradcheck(planted(WRONG[bug]), draw(seed, 8, 5), method=method, seed=seed)


@pytest.mark.parametrize("bug", ["sign", "factor 2", "scale 1 %", "scale 0.1 %", "scale 0.01 %", "zero", "n - 1 for n"])
def test_directions_see_planted_bugs_too(bug):
    for seed in range(10):
        assert not gradcheck(
            planted(WRONG[bug]), draw(seed, 40, 30), mode="directional", seed=seed, raise_exception=False
        )


def test_float32_inside_is_seen_by_the_complex_step():
    for seed in range(20):
        x = draw(seed, 8, 5)
        assert not gradcheck(planted(float32_inside), x, method="complex", seed=seed, raise_exception=False)


def test_no_false_alarm():
    ops = [
        planted(right),
        F.gelu,
        F.softmax,
        lambda x: F.layer_norm(x, 4),
        tn.exp,
        lambda x: x.std(axis=0),
        F.normalize,
    ]
    for seed in range(60):
        x = draw(seed, 8, 4)
        fn = ops[seed % len(ops)]
        assert gradcheck(fn, x, seed=seed)
        assert gradcheck(fn, x, seed=seed, method="complex")
        assert gradcheck(fn, x, seed=seed, mode="directional", order=2)


def test_a_sum_of_a_standardized_output_proves_nothing_and_says_so():
    for rule in (right, WRONG["zero"]):
        fn = planted(rule)
        with pytest.warns(GradientWarning, match=r"input 0: the measured gradient is zero everywhere.*proves nothing"):
            report = gradcheck(lambda x, fn=fn: fn(x).sum(), draw(0, 8, 5))
        assert report.lines[0].verdict == "zero"


# ---- second derivatives


def saved_statistic(x):
    """Right in first order; in second order 1/std counts as a constant: the classic silent bug."""

    class Saved(tn.Op):
        reads = tn.INPUTS

        @staticmethod
        def forward(xp, x):
            d = x - xp.mean(x, axis=0)
            return d / xp.sqrt(xp.mean(d * d, axis=0) + EPS)

        @staticmethod
        def _rule(xp, g, y, x):
            d = x - xp.mean(x, axis=0)
            rstd = 1.0 / xp.sqrt(xp.mean(d * d, axis=0) + EPS)
            if isinstance(rstd, tn.Tensor):
                rstd = rstd.detach()
            xhat = d * rstd
            return rstd * (g - xp.mean(g, axis=0) - xhat * xp.mean(g * xhat, axis=0))

        backward = (_rule,)

    return tn.apply(Saved, x)


def test_second_order_sees_a_statistic_held_constant():
    assert gradcheck(saved_statistic, draw(0, 5, 3))
    with pytest.raises(GradientError, match=r"input 0, entry .*: the graph of the gradient gives"):
        gradcheck(saved_statistic, draw(0, 5, 3), order=2)


def test_second_order_sees_a_kernel_that_differs_from_its_definition():
    with pytest.raises(GradientError, match="create_graph=True the first gradient is"):
        gradcheck(planted(WRONG["scale 0.1 %"]), draw(0, 5, 3), order=2)


def test_second_order_sees_a_rule_that_loses_the_upstream_gradient():
    class Square(tn.Op):
        @staticmethod
        def forward(xp, x):
            return x * x

        @staticmethod
        def _rule(xp, g, y, x):
            return (g.detach() if isinstance(g, tn.Tensor) else g) * 2.0 * x

        backward = (_rule,)

    with pytest.raises(GradientError, match="cotangent 0"):
        gradcheck(lambda x: tn.apply(Square, x), draw(0, 3), order=2)


# ---- kinks


@pytest.mark.parametrize("fn", [tn.abs, F.relu, lambda x: tn.maximum(x, 0.0), lambda x: F.leaky_relu(x, 0.2)])
@pytest.mark.parametrize("method", ["central", "complex"])
def test_a_kink_is_named(fn, method):
    report = gradcheck(fn, np.array([1.0, 0.0, -2.0]), method=method, raise_exception=False)
    assert report.ok
    if method == "central":
        assert report.lines[0].verdict == "kink"
        assert "input 0, entry (1,): not differentiable there" in report.warnings[0]


def test_a_wrong_rule_is_seen_at_a_kink():
    class Wrong(tn.Op):
        @staticmethod
        def forward(xp, x):
            return xp.abs(x)

        backward = (lambda xp, g, y, x: g * xp.where(x == 0, 3.0, xp.sign(x)),)

    assert not gradcheck(lambda x: tn.apply(Wrong, x), np.array([1.0, 0.0]), raise_exception=False)


def test_curvature_is_no_kink():
    report = gradcheck(lambda x: (x * 30.0).sin() + x * x * 1e3, np.array([0.0, 1e-4, 0.3, 2.0]))
    assert report.lines[0].verdict == "ok"


# ---- what else must hold


def test_an_impure_function_is_named():
    with pytest.raises(GradientError, match="not pure: two runs on the same inputs give output 0"):
        gradcheck(lambda x: F.dropout(x, 0.5), draw(0, 20))
    calls = []

    def growing(x):
        calls.append(1)
        return x * float(len(calls))

    with pytest.raises(GradientError, match="not pure"):
        gradcheck(growing, draw(0, 3))


def test_an_edit_of_an_input_is_named():
    class Clobber(tn.Op):
        @staticmethod
        def forward(xp, x):
            y = x * 2.0
            x[0] = 7.0
            return y

        backward = (lambda xp, g, y, x: g * 2.0,)

    with pytest.raises(GradientError, match="input 0 was changed in place"):
        gradcheck(lambda x: tn.apply(Clobber, x), draw(0, 3))

    class ClobberSeed(tn.Op):
        @staticmethod
        def forward(xp, x):
            return x * 2.0

        @staticmethod
        def _rule(xp, g, y, x):
            g *= 2.0
            return g.copy()

        backward = (_rule,)

    with pytest.raises(ValueError, match=r"backward of clobber_seed.*read-only"):
        gradcheck(lambda x: tn.apply(ClobberSeed, x), draw(0, 3))
    ClobberSeed.backward = (lambda xp, g, y, x: np.multiply(g, 2.0, out=g.base),)  # on a GPU nothing is read-only
    with pytest.raises(GradientError, match="cotangent 0 was changed in place"):
        gradcheck(lambda x: tn.apply(ClobberSeed, x), draw(0, 3))

    constant = np.ones(3)

    def edits_constant(x, c):
        c[0] += 1.0
        return x * 1.0

    x = tn.tensor(draw(0, 3), requires_grad=True)
    with pytest.raises(GradientError, match="input 1 was changed in place"):
        gradcheck(edits_constant, [x, constant])


def test_several_inputs_and_outputs():
    def fn(a, b, flag):
        return a @ b, (a * a).sum(), a.argmax(), (b + 1.0 if flag else b)

    report = gradcheck(fn, [draw(0, 3, 4), draw(1, 4, 2), True], order=2)
    assert [(line.name, line.order) for line in report.lines] == [
        ("input 0", 1), ("input 1", 1), ("input 0", 2), ("input 1", 2),
        ("cotangent 0", 2), ("cotangent 1", 2), ("cotangent 2", 2),
    ]  # fmt: skip


def test_requires_grad_chooses_what_is_checked():
    x, w = tn.tensor(draw(0, 3), requires_grad=True), tn.tensor(draw(1, 3))
    assert [line.name for line in gradcheck(lambda x, w: x * w, [x, w]).lines] == ["input 0"]
    assert [line.name for line in gradcheck(lambda x, w: x * w, [x.detach(), w]).lines] == ["input 0", "input 1"]
    assert x.grad is None and not w.requires_grad


def test_a_detached_output_is_wrong_and_an_unused_input_proves_nothing():
    with pytest.raises(GradientError, match=r"input 0, entry .* backward gives 0"):
        gradcheck(lambda x: x.detach() * 2.0, draw(0, 3))
    with pytest.warns(GradientWarning, match="input 1"):
        assert gradcheck(lambda x, y: x * 2.0, [draw(0, 3), draw(1, 3)])


def test_empty_and_0d_inputs():
    report = gradcheck(lambda a, b: a.sum() + b * b, [np.ones((0, 3)), np.array(2.0)])
    assert [line.verdict for line in report.lines] == ["empty", "ok"]


def test_nan_is_wrong():
    with np.errstate(invalid="ignore", divide="ignore"):
        report = gradcheck(lambda x: tn.where(x > 0, tn.log(x), 0.0), np.array([1.0, 0.0]), raise_exception=False)
    assert not report.ok and "nan" in report.failures[0]


# ---- modules


def test_a_module_is_checked_with_its_parameters_and_left_alone():
    tn.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    before = {name: p.numpy().copy() for name, p in net.state_dict().items()}
    report = gradcheck(net, draw(0, 6, 4), order=2)
    names = [line.name for line in report.lines if line.order == 1]
    assert names == ["input 0", *(f"parameter {name}" for name, _ in net.named_parameters())]
    for name, p in net.state_dict().items():
        assert p.numpy().tobytes() == before[name].tobytes(), name
    assert all(p.dtype == "float32" and p.grad is None for p in net.parameters())


def test_a_bias_before_a_batch_norm_is_dead_and_the_report_says_so():
    tn.manual_seed(0)
    with pytest.warns(GradientWarning, match=r"parameter 0.bias: the measured gradient is zero everywhere"):
        gradcheck(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), draw(0, 6, 4))


def test_a_wrong_module_is_caught_by_its_parameter():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(tn.ones(3))

        def forward(self, x):
            return x * self.weight.detach()

    with pytest.raises(GradientError, match="parameter weight, entry"):
        gradcheck(Wrong(), draw(0, 2, 3))


# ---- the ways to ask


def test_float32_is_refused_unless_asked_for():
    x = tn.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"input 0 is float32.*astype\('float64'\).*eps=1e-2"):
        gradcheck(tn.exp, x)
    assert gradcheck(tn.exp, x, eps=1e-2)
    assert not gradcheck(planted(WRONG["scale 1 %"]), draw(0, 8, 5).astype("float32"), rtol=1e-3, raise_exception=False)


def test_bad_arguments():
    x = draw(0, 3)
    with pytest.raises(ValueError, match="method must be 'central' or 'complex'; got 'forward'"):
        gradcheck(tn.exp, x, method="forward")
    with pytest.raises(ValueError, match="mode must be 'full' or 'directional'; got 'fast'"):
        gradcheck(tn.exp, x, mode="fast")
    with pytest.raises(ValueError, match="order must be 1 or 2; got 3"):
        gradcheck(tn.exp, x, order=3)
    with pytest.raises(TypeError, match=r"nothing|needs a floating"):
        gradcheck(lambda n: n, [3])
    with pytest.raises(TypeError, match=r"must return a Tensor or several; got 6.0"):
        gradcheck(lambda x: 6.0, x)
    with pytest.raises(GradientError, match="no floating Tensor"):
        gradcheck(lambda x: x > 0, x)
    with pytest.raises(TypeError, match=r"complex step.*method='central'"):
        gradcheck(lambda x: tn.tensor(x.numpy()) * x, x, method="complex")


def test_the_report_as_text_markdown_and_json():
    report = gradcheck(planted(WRONG["factor 2"]), draw(0, 4, 2), raise_exception=False)
    text = str(report)
    assert "1 wrong" in text and "every one by the factor 2" in text and "WRONG" in text
    assert report.to_markdown().splitlines()[0].startswith("| input | order |")
    data = json.loads(report.to_json())
    assert data["ok"] is False and data["lines"][0]["wrong"] == 8
    assert abs(data["lines"][0]["analytic"] / data["lines"][0]["numeric"] - 2) < 1e-5
    assert bool(report) is False and report.lines[0].shape == (4, 2)


USER_SUITE = """
import tinygrad_norm as tn
from tinygrad_norm import functional as F

pytest_plugins = "tinygrad_norm.testing.fixtures"

def test_right(rng, assert_gradients):
    assert assert_gradients(F.gelu, rng.standard_normal(5)).ok

def test_wrong(rng, assert_gradients):
    assert_gradients(lambda x: x.detach() * x, rng.standard_normal(5))
"""


def test_the_fixtures_in_a_user_s_suite(tmp_path):
    (tmp_path / "test_mine.py").write_text(USER_SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    root = Path(tn.__file__).parent.parent
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "GradientError" in done.stdout


def test_pytest_is_not_needed():
    code = "import sys, tinygrad_norm.testing; assert 'pytest' not in sys.modules and 'hypothesis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=Path(tn.__file__).parent.parent, check=True)
