import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.common.devices import Compute
from src.config.registry import LOSSES, load
from src.config.settings import parse_settings
from src.config.train import TrainSettings
from src.models.layers import Dropout
from src.training import trainer as trainer_module
from src.training.augmentation import augment
from src.training.trainer import CPU, Trainer
from tests.conftest import noted_streams, set_value


def without_dropout(tiny: dict[str, Any], **choices: Any) -> TrainSettings:
    """The tiny settings with other choices, of a step that draws nothing but noise."""
    train = tiny["train"]["normal"]
    train.update(choices)
    train["discriminator"]["dropout"] = 0.0
    return parse_settings(tiny).train.normal


def test_untrained_losses_are_near_chance(settings: TrainSettings, compute: Compute) -> None:
    trainer = Trainer(settings, 16, compute)
    losses = trainer.step(torch.zeros(8, 1, 16, 16))
    assert losses.shape == (3,)
    assert torch.allclose(losses, torch.full((3,), math.log(2)), atol=0.15)


def test_a_step_is_three_adam_updates_of_plain_binary_cross_entropy(
    settings: TrainSettings, compute: Compute
) -> None:
    """Against the step as the thesis states it: sigmoid, cross-entropy, nothing frozen."""
    ours, plain = Trainer(settings, 16, compute), Trainer(settings, 16, compute)
    real = torch.rand(8, 1, 16, 16) * 2 - 1
    g, d = plain.generator, plain.discriminator
    adams = {
        network: torch.optim.Adam(
            network.parameters(), lr=o.learning_rate, betas=(o.beta1, o.beta2), eps=o.epsilon
        )
        for network, o in (
            (g, settings.optimizer.generator),
            (d, settings.optimizer.discriminator),
        )
    }

    def update(network: torch.nn.Module, images: torch.Tensor, target: float) -> float:
        loss = F.binary_cross_entropy(torch.sigmoid(d(images)), torch.full((8,), target))
        for adam in adams.values():
            adam.zero_grad()
        loss.backward()
        adams[network].step()
        return float(loss.detach())

    for _ in range(3):
        on_real = update(d, real, 1.0)
        on_fake = update(d, g(plain._noise(8)).detach(), 0.0)
        generator = update(g, g(plain._noise(8)), 1.0)
        expected = torch.tensor([generator, on_fake, on_real])
        torch.testing.assert_close(ours.step(real), expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours.generator.parameters(), g.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_relativistic_step_compares_each_generated_image_with_a_real_one(
    tiny: dict[str, Any], compute: Compute
) -> None:
    """Against the step in plain words: softplus of differences, one update of each network."""
    settings = without_dropout(tiny, loss="relativistic", discriminator_updates="together")
    ours, plain = Trainer(settings, 16, compute), Trainer(settings, 16, compute)
    g, d = plain.generator, plain.discriminator
    for _ in range(3):
        fake, real_logits = g(plain._noise(8)).detach(), d(REAL)
        loss_d = F.softplus(d(fake) - real_logits).mean()
        plain._optimizer_d.zero_grad()
        (2 * loss_d).backward()  # once for the real image of a pair, once for the generated one
        plain._optimizer_d.step()
        loss_g = F.softplus(real_logits.detach() - d(g(plain._noise(8)))).mean()
        plain._optimizer_g.zero_grad()
        loss_g.backward()
        plain._optimizer_g.step()
        expected = torch.stack([loss_g, loss_d, loss_d]).detach()
        torch.testing.assert_close(ours.step(REAL), expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours.generator.parameters(), g.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_dropout_is_active_in_all_three_updates(
    settings: TrainSettings, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    forward = Dropout.forward

    def spy(self: Dropout, x: torch.Tensor) -> torch.Tensor:
        calls.append(self.training and self.rate > 0)
        return forward(self, x)

    monkeypatch.setattr(Dropout, "forward", spy)
    Trainer(settings, 16, compute).step(torch.zeros(8, 1, 16, 16))
    assert calls == [True, True, True]


def test_each_update_changes_its_own_network_alone(
    settings: TrainSettings, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(settings, 16, compute)
    networks = {"g": trainer.generator, "d": trainer.discriminator}
    changed: list[str] = []
    update = Trainer._update

    def spy(self: Trainer, *arguments: Any) -> None:
        before = {
            name: [p.detach().clone() for p in n.parameters()] for name, n in networks.items()
        }
        update(self, *arguments)
        for name, network in networks.items():
            pairs = zip(before[name], network.parameters(), strict=True)
            if not all(torch.equal(one, other) for one, other in pairs):
                changed.append(name)

    monkeypatch.setattr(Trainer, "_update", spy)
    trainer.step(REAL)
    assert changed == ["d", "d", "g"]
    assert all(parameter.requires_grad for parameter in trainer.discriminator.parameters())


REAL = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def losses(params: dict[str, Any], compute: Compute, steps: int = 3) -> Tensor:
    trainer = Trainer(parse_settings(params).train.normal, 16, compute)
    return torch.stack([trainer.step(REAL) for _ in range(steps)])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "choices",
    [
        {"generator.normalization": "batch"},
        {"generator.normalization": "spectral"},
        {"generator.upsampling": "nearest"},
        {"discriminator.normalization": "batch"},
        {"discriminator.normalization": "spectral"},
        {"discriminator.dropout": 0.1},
        {"discriminator.negative_slope": 0.3},
        {"initialization": "dcgan"},
        {"loss": "hinge"},
        {"loss": "hinge", "gradient_penalty": 5.0},
        {"loss": "wasserstein", "gradient_penalty": 10.0, "discriminator_updates": "together"},
        {"loss": "relativistic", "discriminator_updates": "together"},
        {"generator.exposure": "drawn"},
        {"label_smoothing": 0.1},
        {"gradient_penalty": 1.0},
        {"discriminator_updates": "together"},
        {"augmentation": ["translation"]},
        {"augmentation": ["brightness", "contrast", "cutout"]},
        {"optimizer.generator.name": "rmsprop"},
        {"optimizer.discriminator.name": "sgd"},
        {"optimizer.discriminator.learning_rate": 0.003},
        {"optimizer.learning_rate_half_life": 10},
    ],
)
def test_every_choice_changes_the_training_and_is_repeatable(
    tiny: dict[str, Any], precision: Any, choices: dict[str, Any]
) -> None:
    compute = Compute(torch.device("cpu"), precision, "channels_last", compile=False)
    plain = losses(tiny, compute)
    for key, value in choices.items():
        set_value(*key.split("."), value=value)(tiny["train"]["normal"])
    found = losses(tiny, compute)
    assert found.isfinite().all()
    assert not torch.allclose(found, plain, rtol=1e-5)
    assert torch.equal(losses(tiny, compute), found)


def test_in_bfloat16_an_update_uses_the_weights_that_the_one_before_left(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch keeps a network's bfloat16 weights for as long as autocast lasts."""
    compute = Compute(CPU, "bf16", "channels_last", compile=False)
    found = [Trainer(settings, 16, compute).step(REAL)]
    uncached = torch.autocast("cpu", torch.bfloat16, cache_enabled=False)
    monkeypatch.setattr(Compute, "autocast", lambda self: uncached)
    found.append(Trainer(settings, 16, compute).step(REAL))
    assert torch.equal(*found)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # torch's own, while it traces
@pytest.mark.parametrize(
    "choices",
    [{}, {"loss": "wasserstein", "gradient_penalty": 10.0, "discriminator_updates": "together"}],
)
def test_compiled_networks_train_as_the_others_do(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, choices: dict[str, Any]
) -> None:
    """Traced for forward and backward as always, and then run without a compiler."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    tiny["train"]["normal"].update(choices)
    plain, compiled = (
        losses(tiny, Compute(CPU, "fp32", "channels_last", compile=choice))
        for choice in (False, True)
    )
    torch.testing.assert_close(compiled, plain)


def test_every_stream_of_randomness_has_the_seed_and_a_purpose_of_its_own(
    settings: TrainSettings, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = noted_streams(monkeypatch, trainer_module)
    Trainer(settings, 16, compute)
    assert [seed for _, seed in keys] == [settings.seed] * 5
    assert len(set(keys)) == 5


def test_apart_real_images_are_judged_by_their_smoothed_label_and_the_penalty(
    tiny: dict[str, Any], compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = without_dropout(tiny, label_smoothing=0.1, gradient_penalty=3.0)
    trainer = Trainer(settings, 16, compute)
    x = REAL.clone().requires_grad_(True)
    logits = trainer.discriminator(x)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    expected = F.binary_cross_entropy(torch.sigmoid(logits), torch.full((8,), 0.9))
    expected = expected + 3 / 2 * gradient.square().sum((1, 2, 3)).mean()  # R1
    found: list[Tensor] = []
    monkeypatch.setattr(Trainer, "_update", lambda self, *arguments: found.append(arguments[-1]))
    trainer.step(REAL)
    torch.testing.assert_close(found[0], expected, rtol=1e-4, atol=1e-6)


def test_together_the_discriminator_takes_one_step_down_the_sum(
    tiny: dict[str, Any], compute: Compute
) -> None:
    settings = without_dropout(tiny, loss="hinge", discriminator_updates="together")
    ours, plain = Trainer(settings, 16, compute), Trainer(settings, 16, compute)
    fake = plain._generate(8)
    loss = (
        F.relu(1 - plain.discriminator(REAL)).mean() + F.relu(1 + plain.discriminator(fake)).mean()
    )
    loss.backward()
    plain._optimizer_d.step()
    ours.step(REAL)
    for one, other in zip(
        ours.discriminator.parameters(), plain.discriminator.parameters(), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_step_of_a_critic_has_the_penalty_and_augments_what_it_sees(
    fancy: dict[str, Any], compute: Compute
) -> None:
    """Against the same step written out; the penalty is taken on images as they are."""
    fancy["train"]["normal"]["discriminator"].update(normalization="none", dropout=0.0)
    settings = parse_settings(fancy).train.normal
    ours, plain = Trainer(settings, 16, compute), Trainer(settings, 16, compute)
    critic = plain.discriminator
    fake = plain._generate(8)
    seen = [
        augment(
            images,
            settings.augmentation,
            plain._uniform("augmentation", 8, 6),
            settings.augmentation_strength,
        )
        for images in (REAL, fake)
    ]
    between = plain._uniform("penalty", 8, 1).view(-1, 1, 1, 1)
    x = (fake + between * (REAL - fake)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    penalty = ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    loss = critic(seen[1]).mean() - critic(seen[0]).mean()
    (loss + 10 * penalty).backward()
    plain._optimizer_d.step()
    found = ours.step(REAL)
    assert float(found[1] + found[2]) == pytest.approx(float(loss.detach()), rel=1e-3, abs=1e-5)
    for one, other in zip(ours.discriminator.parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_images_are_drawn_from_the_average_where_there_is_one(
    tiny: dict[str, Any], compute: Compute
) -> None:
    trainer = Trainer(parse_settings(tiny).train.normal, 16, compute)
    assert trainer.sampling_generator is trainer.generator
    tiny["train"]["normal"]["ema_decay"] = 0.99
    averaged = Trainer(parse_settings(tiny).train.normal, 16, compute)
    for _ in range(5):
        assert torch.equal(trainer.step(REAL), averaged.step(REAL))  # it disturbs nothing
    drawn, trained = averaged.sampling_generator.state_dict(), averaged.generator.state_dict()
    assert any(not torch.equal(drawn[name], trained[name]) for name in drawn)


def test_a_critic_that_parts_real_from_generated_is_not_taken_for_a_collapse(
    fancy: dict[str, Any], compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not load(LOSSES["wasserstein"]).classifies
    monkeypatch.setattr(
        "src.training.trainer.collapse_signs",
        lambda *tensors: torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64),
    )
    trainer = Trainer(parse_settings(fancy).train.normal, 16, compute)
    trainer.step(REAL)
    assert trainer.collapse_monitor.find_sign(1) is None


def test_learning_rates_halve_with_every_half_life(
    tiny: dict[str, Any], compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[tuple[float, float]] = []
    step = Trainer._update_in_precision

    def noting(self: Trainer, real: Tensor) -> tuple[Tensor, Tensor]:
        optimizers = (self._optimizer_g, self._optimizer_d)
        g, d = (optimizer.param_groups[0]["lr"] for optimizer in optimizers)
        rates.append((g, d))
        return step(self, real)

    monkeypatch.setattr(Trainer, "_update_in_precision", noting)
    tiny["train"]["normal"]["optimizer"]["learning_rate_half_life"] = 16
    tiny["train"]["normal"]["optimizer"]["discriminator"]["learning_rate"] = 0.004
    losses(tiny, compute, steps=5)  # of 8 images
    expected = [0.001 * 0.5 ** (images / 16) for images in (0, 8, 16, 24, 32)]
    assert [g for g, _ in rates] == pytest.approx(expected)
    assert [d for _, d in rates] == pytest.approx([4 * rate for rate in expected])
