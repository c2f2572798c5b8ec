"""What nets made of these layers reach: the figures under "Size" in docs/limits.md."""

import pytest

import tinygrad_norm as tn
from tinygrad_norm import nn
from tinygrad_norm.lab.claims.structures import _adding, _small_convnet


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_small_convolutional_net_reads_digits(seed):
    assert _small_convnet("batch", epochs=12, seed=seed) >= 0.985


@pytest.mark.slow
def test_a_layer_normalized_lstm_adds_over_100_steps_and_a_plain_net_does_not():
    errors = []
    for layer in (lambda: nn.LSTM(2, 32, norm="layer"), lambda: nn.RNN(2, 32)):
        tn.manual_seed(0)
        errors.append(_adding(layer(), length=100, rounds=500, seed=0))
    assert errors[0] < 0.05 and errors[1] > 0.15  # 0.17: always the same answer
