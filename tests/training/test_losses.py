import math

import pytest
import torch
from torch import Tensor

from src.config.registry import LOSSES, load
from src.training.losses import Network, gradient_penalty

LOGITS = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_cross_entropy_is_that_of_the_sigmoid() -> None:
    """-log D for real images, -log(1 - D) for generated ones, -log D for the generator."""
    loss, logits = load(LOSSES["bce"]), LOGITS.tolist()
    assert float(loss.on_real(LOGITS, 1.0)) == pytest.approx(mean([softplus(-x) for x in logits]))
    assert float(loss.on_fake(LOGITS)) == pytest.approx(mean([softplus(x) for x in logits]))
    assert loss.for_generator(LOGITS) == loss.on_real(LOGITS, 1.0)


def test_smoothing_moves_the_best_answer_for_real_images() -> None:
    """With target 0.9 the loss is least where the sigmoid is 0.9."""
    answers = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    losses = torch.stack([load(LOSSES["bce"]).on_real(x.view(1), 0.9) for x in answers])
    assert float(torch.sigmoid(answers[losses.argmin()])) == pytest.approx(0.9, abs=1e-3)


def test_hinge_rests_beyond_the_margin() -> None:
    loss = load(LOSSES["hinge"])
    assert float(loss.on_real(LOGITS, 1.0)) == pytest.approx((3 + 1.5 + 1 + 0.5 + 0) / 5)
    assert float(loss.on_fake(LOGITS)) == pytest.approx((0 + 0.5 + 1 + 1.5 + 4) / 5)
    assert float(loss.for_generator(LOGITS)) == pytest.approx(-0.2)


def test_the_critic_estimates_a_difference_of_means() -> None:
    loss = load(LOSSES["wasserstein"])
    assert float(loss.on_real(LOGITS, 1.0) + loss.on_fake(LOGITS + 2)) == pytest.approx(2)
    assert float(loss.for_generator(LOGITS)) == pytest.approx(-0.2)


def test_a_relativistic_loss_is_the_cross_entropy_of_a_difference() -> None:
    """It takes differences; its value for none is log 2, as for a coin."""
    loss = load(LOSSES["relativistic"])
    assert loss.compares_pairs
    assert not loss.classifies
    gaps = (LOGITS - LOGITS.flip(0)).tolist()
    found = float(loss.on_real(LOGITS - LOGITS.flip(0), 1.0))
    assert found == pytest.approx(mean([softplus(-gap) for gap in gaps]))
    assert float(loss.on_fake(LOGITS - LOGITS)) == pytest.approx(math.log(2))


SLOPE = torch.linspace(-1, 1, 16, dtype=torch.float64).view(1, 1, 4, 4)


def linear(images: Tensor) -> Tensor:
    """Its gradient is SLOPE everywhere."""
    return (images * SLOPE).sum((1, 2, 3))


def square(images: Tensor) -> Tensor:
    """Its gradient is the image itself."""
    return images.square().sum((1, 2, 3)) / 2


def test_penalties_have_their_closed_forms() -> None:
    random = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 6, 1, 4, 4, dtype=torch.float64, generator=random)
    between = torch.rand(6, dtype=torch.float64, generator=random)
    norm = float(SLOPE.norm())

    def penalty(name: str, discriminator: Network) -> float:
        return float(
            gradient_penalty(load(LOSSES[name]), discriminator, real, fake, between).detach()
        )

    for name in ("bce", "hinge", "relativistic"):
        assert penalty(name, linear) == pytest.approx(norm**2 / 2)
        expected = float(real.square().sum((1, 2, 3)).mean() / 2)
        assert penalty(name, square) == pytest.approx(expected)
    assert penalty("wasserstein", linear) == pytest.approx((norm - 1) ** 2)
    x = fake + between.view(-1, 1, 1, 1) * (real - fake)
    expected = float((x.flatten(1).norm(dim=1) - 1).square().mean())
    assert penalty("wasserstein", square) == pytest.approx(expected)


def test_a_penalty_of_a_dead_discriminator_has_a_finite_gradient() -> None:
    weight = torch.zeros(1, requires_grad=True)
    images = torch.ones(3, 1, 4, 4)
    penalty = gradient_penalty(
        load(LOSSES["wasserstein"]),
        lambda x: weight * x.sum((1, 2, 3)),
        images,
        images,
        torch.zeros(3),
    )
    assert float(penalty.detach()) == pytest.approx(1, abs=1e-4)
    penalty.backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
