"""Two steps of each optimizer against its rule in plain numbers."""

import math

import pytest
import torch

from src.config.registry import OPTIMIZERS, load
from src.config.train import OptimizerSettings

RATE, BETA1, BETA2, EPSILON = 0.1, 0.5, 0.9, 1e-3
GRADIENTS = [3.0, -1.0, 2.0]


def found(name: str) -> float:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    settings = OptimizerSettings(
        name=name, learning_rate=RATE, beta1=BETA1, beta2=BETA2, epsilon=EPSILON
    )
    optimizer = load(OPTIMIZERS[name])([weight], RATE, settings, False)
    for gradient in GRADIENTS:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    return float(weight.detach())


def test_adam() -> None:
    weight, mean, square = 1.0, 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, 1):
        mean = BETA1 * mean + (1 - BETA1) * gradient
        square = BETA2 * square + (1 - BETA2) * gradient**2
        unbiased = math.sqrt(square / (1 - BETA2**step))
        weight -= RATE * mean / (1 - BETA1**step) / (unbiased + EPSILON)
    assert found("adam") == pytest.approx(weight, rel=1e-5)


def test_rmsprop() -> None:
    weight, speed, square = 1.0, 0.0, 0.0
    for gradient in GRADIENTS:
        square = BETA2 * square + (1 - BETA2) * gradient**2
        speed = BETA1 * speed + gradient / (math.sqrt(square) + EPSILON)
        weight -= RATE * speed
    assert found("rmsprop") == pytest.approx(weight, rel=1e-5)


def test_sgd_with_momentum() -> None:
    weight, speed = 1.0, 0.0
    for gradient in GRADIENTS:
        speed = BETA1 * speed + gradient
        weight -= RATE * speed
    assert found("sgd") == pytest.approx(weight, rel=1e-5)
