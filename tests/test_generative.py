"""f-AnoGAN, IGD, DDAD-ASR and MAE multi-reconstruction against independent computations of their formulas."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from test_comparators import SHORT, SIDE, draw
from torch import nn
from torchvision.models import resnet18

from amae.comparators import autoencoder, ddad, ddad_asr, fanogan, igd, mae_multi, wgan
from amae.comparators.interface import TestData, TrainingData
from amae.comparators.losses import WEIGHTS, multi_scale_ssim
from amae.comparators.settings import FAnoGanSettings, IgdSettings, MaskRecSettings, RefinedSettings
from amae.comparators.shared import signed
from amae.mae.architecture import Architecture
from amae.mae.model import MAE
from amae.method.reconstruct import draw_orders, reconstruct
from amae.method.training import Resume, Schedule, epoch_generator, train
from amae.runtime.errors import InputError
from amae.runtime.files import sha256
from amae.settings import ModuleSettings, ReconstructionSettings, from_mapping


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of random numbers."""
    return torch.Generator().manual_seed(seed)


# WGAN-GP and f-AnoGAN


@pytest.mark.parametrize("size", [16, 64, 256])
def test_shapes_of_generator_and_critic(size):
    generator, critic = wgan.make_generator(7, size, 2, channels=3), wgan.make_critic(size, 2, channels=3)
    images = generator(torch.randn(2, 7, generator=seeded()))
    assert images.shape == (2, 3, size, size) and critic(images).shape == (2, 1)
    assert critic.features(images).shape == (2, 4 * 4 * 2 * min(8, size // 4))


def test_generator_and_critic_have_the_published_sizes():
    def up(before, after):
        return before * after + after + 9 * before * after + 9 * after**2 + after + 2 * before + 2 * after

    def down(before, after):
        return before * after + after + 9 * before**2 + 9 * before * after + after + 2 * before + 2 * before

    generator = (128 + 1) * 4 * 4 * 512 + up(512, 512) + up(512, 256) + up(256, 128) + up(128, 64) + 2 * 64 + 9 * 64 + 1
    critic = 9 * 64 + 64 + down(64, 128) + down(128, 256) + down(256, 512) + down(512, 512) + 4 * 4 * 512 + 1
    networks = fanogan.make_networks(FAnoGanSettings())
    for name, expected in [("generator", generator), ("critic", critic)]:
        assert sum(p.numel() for p in networks[name].parameters()) == expected


def test_a_critics_output_depends_on_no_other_image():
    critic, images = wgan.make_critic(16, 2), torch.randn(3, 1, 16, 16, generator=seeded())
    torch.testing.assert_close(critic(images)[1:2], critic(images[1:2]))


def test_gradient_penalty_of_critics_with_a_known_gradient():
    real, fake = torch.randn(2, 5, 1, 3, 3, generator=seeded())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(9, 1))
    weight = linear[1].weight
    norm = weight.norm().item()
    penalty = wgan.gradient_penalty(linear, real, fake, seeded())
    assert penalty.item() == pytest.approx((norm - 1) ** 2, rel=1e-5)
    penalty.backward()  # d/dw (|w| - 1)^2
    torch.testing.assert_close(weight.grad, 2 * (norm - 1) / norm * weight.detach())

    class Square(nn.Module):
        def forward(self, x):
            return x.square().flatten(1).sum(1, keepdim=True) / 2  # its gradient is x

    share = torch.rand(5, 1, 1, 1, generator=seeded(1))
    between = (1 - share) * real + share * fake
    expected = ((between.flatten(1).norm(dim=1) - 1) ** 2).mean()
    torch.testing.assert_close(wgan.gradient_penalty(Square(), real, fake, seeded(1)), expected)
    loss = fanogan.critic_loss(linear, real, fake, 10.0, seeded())
    line = weight.detach().numpy().ravel() @ (fake.mean(0) - real.mean(0)).numpy().ravel()
    assert loss.item() == pytest.approx(line + 10 * (norm - 1) ** 2, rel=1e-4)


def test_the_wgan_is_trained_as_by_two_optimisers(tmp_path):
    settings = FAnoGanSettings(16, 2, updates=2, epochs=1, critic_steps=2, batch_size=4, lr=1e-2)
    images = draw(10, 0, False)[:, ::4, ::4].contiguous()
    torch.manual_seed(0)
    trained, expected = fanogan.make_networks(settings), fanogan.make_networks(settings)
    expected.load_state_dict(trained.state_dict())
    history = fanogan._train_gan(trained, images, settings, 3, Resume(tmp_path / "x.pt", ""))

    generator, critic = expected["generator"], expected["critic"]
    optimisers = [torch.optim.Adam(each.parameters(), 1e-2, betas=(0.0, 0.9)) for each in (generator, critic)]
    random, losses = epoch_generator(3, 0, torch.device("cpu")), []
    for number, ids in enumerate(torch.randperm(24, generator=random).split(4)):
        fake = generator(torch.randn(4, 128, generator=random))
        learner = 0 if number % 3 == 2 else 1
        if learner:
            real, fake = signed(images[ids % 10]), fake.detach()
            share = torch.rand(4, 1, 1, 1, generator=random)
            between = ((1 - share) * real + share * fake).requires_grad_()
            slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0].flatten(1).norm(dim=1)
            loss = critic(fake).mean() - critic(real).mean() + 10 * (slope - 1).square().mean()
        else:
            loss = -critic(fake).mean()
        expected.zero_grad()
        loss.backward()
        optimisers[learner].step()
        losses.append(loss.item())
    for own, other in zip(trained["critic"].parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4)
    codes = torch.randn(4, 128, generator=seeded())  # not weights: some are without effect before a normalisation
    torch.testing.assert_close(trained["generator"](codes), generator(codes), rtol=1e-3, atol=1e-3)
    assert history["loss"].tolist() == pytest.approx([np.mean(losses)], rel=1e-3)


def test_error_of_the_encoder_by_hand():
    torch.manual_seed(0)
    parts = {
        "generator": nn.Sequential(nn.Linear(2, 9), nn.Unflatten(1, (1, 3, 3))),
        "encoder": nn.Sequential(nn.Flatten(), nn.Linear(9, 2)),
        "critic": nn.Sequential(OrderedDict(features=nn.Sequential(nn.Flatten(), nn.Linear(9, 4)))),
    }
    images = torch.randn(5, 1, 3, 3, generator=seeded())

    def linear(layer, x):
        return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()

    x = images.numpy().reshape(5, 9)
    made = linear(parts["generator"][0], linear(parts["encoder"][1], x))
    features = [linear(parts["critic"].features[1], each) for each in (x, made)]
    expected = ((x - made) ** 2).mean(1) + ((features[0] - features[1]) ** 2).mean(1)  # kappa 1
    found = fanogan.errors(nn.ModuleDict(parts), images)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)


def test_the_encoder_is_trained_alone(tmp_path):
    settings = FAnoGanSettings(16, 2, updates=2, encoder_epochs=1, batch_size=4, encoder_lr=1e-2)
    torch.manual_seed(0)
    networks = fanogan.make_networks(settings)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    fanogan._train_encoder(networks, draw(8, 0, False)[:, ::4, ::4], settings, 0, Resume(tmp_path / "x.pt", ""))
    changed = {
        name.split(".")[0] for name, value in networks.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"encoder"}


# MS-SSIM and IGD


def parts_of_ssim(x, y, span):
    """SSIM and its contrast and structure of images (H, W) in numpy, mean over pixels with a whole window of 11."""
    place = np.arange(11) - 5
    window = np.exp(-(place[:, None] ** 2 + place**2) / (2 * 1.5**2))
    window /= window.sum()

    def local(image):
        return (sliding_window_view(image, (11, 11)) * window).sum((2, 3))

    mean_x, mean_y = local(x), local(y)
    sd_x, sd_y = np.sqrt(local(x**2) - mean_x**2), np.sqrt(local(y**2) - mean_y**2)
    covariance = local(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * sd_x * sd_y + c2) / (sd_x**2 + sd_y**2 + c2)
    structure = (covariance + c2 / 2) / (sd_x * sd_y + c2 / 2)
    return (luminance * contrast * structure).mean(), (contrast * structure).mean()


def similar_images(size):
    """Two images and noisy copies, (2, 3, size, size) each."""
    x = torch.rand(2, 3, size, size, generator=seeded()) * 4 - 2
    return x, x + 0.5 * torch.randn(x.shape, generator=seeded(1))


def test_structural_similarity_on_one_scale():
    x, y = similar_images(16)
    torch.testing.assert_close(multi_scale_ssim(x, x, 4.0), torch.ones(2))
    expected = [
        np.mean([parts_of_ssim(a, b, 4.0)[0] for a, b in zip(*pair, strict=True)])
        for pair in zip(x.double().numpy(), y.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(multi_scale_ssim(x, y, 4.0), expected, rtol=1e-4)


@pytest.mark.parametrize(("size", "scales"), [(176, 5), (64, 3)])
def test_structural_similarity_over_scales(size, scales):
    x, y = similar_images(size)
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    a, b, expected = x[0, 0].double().numpy(), y[0, 0].double().numpy(), 1.0
    for scale, weight in enumerate(weights):
        expected *= parts_of_ssim(a, b, 4.7)[scale < scales - 1] ** weight
        a, b = (each.reshape(len(each) // 2, 2, -1, 2).mean((1, 3)) if len(each) % 2 == 0 else each for each in (a, b))
    found = multi_scale_ssim(x[:1, :1], y[:1, :1], 4.7)
    assert found.item() == pytest.approx(expected, rel=1e-4) and expected < 0.99
    torch.testing.assert_close(multi_scale_ssim(x, x, 4.7), torch.ones(2))


def test_opposite_images_have_a_finite_slope():
    x = torch.rand(1, 1, 32, 32, generator=seeded()) - 0.5
    y = (-x).requires_grad_()
    found = multi_scale_ssim(x, y, 1.0)
    found.sum().backward()
    assert 0 < found.item() < 0.1 and torch.isfinite(y.grad).all()


def test_centre_and_sigma_by_numpy():
    codes = torch.randn(50, 4, generator=seeded()) * 3 + torch.tensor([2.0, -1.0, 0.0, 0.0])
    codes[:, 2:] -= codes[:, 2:].mean(0) + torch.tensor([0.02, -0.02])
    centre, sigma = igd.gaussian(codes)
    expected = codes.double().numpy().mean(0)
    assert np.abs(expected[2:]) == pytest.approx([0.02, 0.02], abs=1e-5)
    expected[2:] = np.sign(expected[2:]) * 0.1
    np.testing.assert_allclose(centre, expected, rtol=1e-5)
    assert sigma.item() == pytest.approx(((codes.numpy() - expected) ** 2).sum(1).mean(), rel=1e-5)
    assert igd.gaussian(codes[:1].expand(9, -1) * 0 + 1)[1].item() == 1  # the floor


@pytest.fixture
def small_igd():
    """IGD whose networks are single linear layers, for images of 12 px."""
    torch.manual_seed(0)
    network = igd.Igd(IgdSettings(32, 1, pretrained=False))
    network.backbone, network.project = nn.Flatten(), nn.Linear(3 * 144, igd.LATENT)
    network.decoder = nn.Sequential(nn.Linear(igd.LATENT, 3 * 144), nn.Unflatten(1, (3, 12, 12)))
    network.critic = nn.Sequential(nn.Flatten(), nn.Linear(3 * 144, 1))
    network.centre.normal_(generator=seeded())
    network.sigma.fill_(150.0)
    return network


def linear(layer, x):
    """A linear layer in numpy."""
    return x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()


def error_in_numpy(x, made, span):
    """0.85 (1 - SSIM) + 0.15 L1 / span of images of one scale, (B, 3, 12, 12); a negative SSIM counts as 1e-6."""
    ssim = [
        np.mean([max(1e-6, parts_of_ssim(a, b, span)[0]) for a, b in zip(*pair, strict=True)])
        for pair in zip(x, made, strict=True)
    ]
    return 0.85 * (1 - np.array(ssim)) + 0.15 * np.abs(x - made).mean((1, 2, 3)) / span


def test_losses_of_igd_by_hand(small_igd):
    images = draw(4, 0, True)[:, 20:32, 20:32]
    x, share = small_igd.normalise(images), torch.tensor([[0.1], [0.4], [0.25], [0.0]])
    torch.testing.assert_close(x[0, 1], (images[0] / 255 - 0.456) / 0.224)  # ImageNet's, green
    assert small_igd.span() == pytest.approx(4.7579, abs=1e-4)
    pixels, a, span = x.double().numpy(), share.double().numpy(), 4.757912

    codes = linear(small_igd.project, pixels.reshape(4, -1))
    made = linear(small_igd.decoder[0], codes)
    mixed = linear(small_igd.decoder[0], a * codes + (1 - a) * codes[::-1])
    judged = linear(small_igd.critic[1], mixed)
    distance = 1 - np.exp(-((codes - small_igd.centre.numpy()) ** 2).sum(1) / 150)
    outer = error_in_numpy(pixels, made.reshape(x.shape), span).mean() + distance.mean() + 0.1 * (judged**2).mean()
    near = made + 0.2 * (pixels.reshape(4, -1) - made)
    inner = ((judged - a) ** 2).mean() + (linear(small_igd.critic[1], near) ** 2).mean()
    found = igd.losses(small_igd, x, share)
    assert [each.item() for each in found] == pytest.approx([outer, inner], rel=1e-4)

    for loss, own in zip(found, ({"project", "decoder"}, {"critic"}), strict=True):
        small_igd.zero_grad()
        loss.backward(retain_graph=True)
        assert {name.split(".")[0] for name, p in small_igd.named_parameters() if p.grad is not None} == own


def test_score_of_igd_by_hand():
    torch.manual_seed(0)
    settings = IgdSettings(32, 1, pretrained=False)
    network = igd.Igd(settings).eval()
    network.centre.normal_(generator=seeded())
    network.sigma.fill_(100.0)
    images = draw(3, 0, True)
    score = igd.score(network.state_dict(), TestData(images), settings)["score"]
    with torch.no_grad():
        x = network.normalise(igd.resize(images, 32))
        codes = network.project(network.backbone(x))
        error = igd.reconstruction_error(x, network.decoder(codes), 4.757912)
    distance = 1 - np.exp(-((codes - network.centre) ** 2).sum(1).numpy() / 100)
    np.testing.assert_allclose(score, 0.5 * error.numpy() + 0.5 * distance, rtol=1e-4)


def test_centre_and_sigma_are_taken_every_ten_epochs(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(igd.Igd, "fit_gaussian", lambda network, images: taken.append(network.steps.item()))
    monkeypatch.setattr(igd, "losses", lambda network, x, share: (network.project.weight.sum() * 0, 0))
    settings = IgdSettings(32, 1, pretrained=False, epochs=21, batch_size=4)
    data = TrainingData(draw(9, 0, False), draw(9, 0, False)[:0])
    igd.fit(data, settings, 0, Resume(tmp_path / "x.pt", ""))
    assert taken == [0, 20, 40]  # two steps an epoch: an incomplete batch is left out


def test_a_frozen_backbone_is_torchvisions_file_and_stays_so(tmp_path, monkeypatch):
    torch.manual_seed(1)
    published = resnet18(weights=None)
    published.bn1.running_mean.normal_()
    torch.save(published.state_dict(), tmp_path / "resnet18.pth")
    settings = IgdSettings(32, 1, backbone=str(tmp_path / "resnet18.pth"), epochs=1, batch_size=4)
    data = TrainingData(draw(4, 0, False), draw(4, 0, False)[:0])
    with pytest.raises(InputError, match=r"sha256 is \w{64}, expected f37072fd.*resnet18-f37072fd\.pth.*pretrained"):
        igd.fit(data, settings, 0, Resume(tmp_path / "x.pt", ""))
    with pytest.raises(InputError, match=r"igd\.backbone: missing;.*resnet18-f37072fd\.pth.*pretrained to false"):
        igd.fit(data, IgdSettings(), 0, Resume(tmp_path / "x.pt", ""))
    monkeypatch.setattr(igd, "HASH", sha256(tmp_path / "resnet18.pth")[:8])
    state, _ = igd.fit(data, settings, 0, Resume(tmp_path / "x.pt", ""))
    kept = published.state_dict()
    assert all(torch.equal(state[f"backbone.{name}"], kept[name]) for name in kept if not name.startswith("fc."))
    torch.save({name: value for name, value in kept.items() if "layer4" not in name}, tmp_path / "resnet18.pth")
    monkeypatch.setattr(igd, "HASH", sha256(tmp_path / "resnet18.pth")[:8])
    with pytest.raises(InputError, match=r"not a ResNet-18; keys missing: layer4"):
        igd.fit(data, settings, 0, Resume(tmp_path / "x.pt", ""))


def test_settings_that_contradict_each_other_are_named():
    with pytest.raises(InputError, match=r"backbone: found a\.pth, which pretrained false contradicts"):
        from_mapping(IgdSettings, {"pretrained": False, "backbone": "a.pth"})
    with pytest.raises(InputError, match="backbone: found 3, expected a value of type str"):
        from_mapping(IgdSettings, {"backbone": 3})
    assert from_mapping(IgdSettings, {"backbone": None}).backbone is None
    for kind in (IgdSettings, FAnoGanSettings):
        with pytest.raises(InputError, match="image_size: found 96, expected a power of two"):
            kind(image_size=96)


# DDAD-ASR


def test_blended_patches_follow_their_law():
    images, others = torch.zeros(4000, 64, 64), torch.full((4000, 64, 64), 100.0)
    changed, inside = ddad_asr.blend_patches(images, others, seeded())
    assert torch.equal(changed != 0, inside)  # only within, and everywhere within
    has = inside.flatten(1).any(1)
    assert has.float().mean().item() == pytest.approx(0.5, abs=0.03)
    opacity = changed[has].flatten(1).amax(1) / 100
    assert torch.equal(changed[has].flatten(1).sum(1) > 0, opacity > 0)
    torch.testing.assert_close(changed[has] / 100, inside[has] * opacity[:, None, None])  # one opacity a patch
    assert opacity.mean().item() == pytest.approx(0.5, abs=0.03) and opacity.min() < 0.02 and opacity.max() > 0.98
    rows, columns = inside[has].any(2), inside[has].any(1)
    for axis in (rows, columns):
        first, last = axis.float().argmax(1), 63 - axis.flip(1).float().argmax(1)
        assert torch.equal(axis.sum(1), last - first + 1)  # one stretch
        whole = (first > 0) & (last < 63)
        side = (last - first + 1)[whole]
        assert side.min() >= 5 and side.max() <= 27  # twice 3.2 to 12.8, give or take a pixel
        assert side.float().mean().item() < 16.5 and side.float().mean().item() > 14
        assert (first + last).float().mean().item() / 2 == pytest.approx(31.5, abs=1.0)
    width, height = columns.sum(1), rows.sum(1)
    inner = (rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1]).logical_not()
    assert (width - height)[inner].abs().max() <= 1  # a square


def test_refinement_leaves_the_autoencoders_as_ddad_trains_them(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "HIDDEN", 16)
    settings = RefinedSettings(16, 1, 4, networks=2, refine_epochs=1)
    data = TrainingData(draw(6, 0, False), draw(6, 1, True))
    state, history = ddad_asr.fit(data, settings, 5, Resume(tmp_path / "a" / "x.pt", ""))
    alone, _ = ddad.fit(data, settings, 5, Resume(tmp_path / "b" / "x.pt", ""), False)
    assert all(torch.equal(state[name], value) for name, value in alone.items())
    assert {name.split(".")[0] for name in state.keys() - alone.keys()} == {"refine"}
    assert history["network"].tolist() == ["B0", "B1", "A0", "A1", "refine"]
    modules = ddad.load_modules(state, settings, False, torch.device("cpu"))
    network = ddad_asr.make_network()
    network.load_state_dict({name.removeprefix("refine."): state[name] for name in state if name.startswith("refine")})
    images = ddad_asr.resize(draw(3, 2, True), 16)
    with torch.no_grad():
        maps = ddad.score_maps(modules, signed(images))
        logits = network.eval()(torch.cat([maps["inter"], maps["intra"]], 1)).numpy()
    expected = (1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))).mean((1, 2))
    np.testing.assert_allclose(ddad_asr.score(state, TestData(images), settings)["score"], expected, rtol=1e-5)
    assert sum(p.numel() for p in network.parameters()) == 9 * 2 * 128 + 128 + 9 * 128**2 + 128 + 9 * 256 + 2 + 4 * 128


# MAE multi-reconstruction


def test_multiple_reconstructions_are_averaged_before_the_error():
    torch.manual_seed(0)
    model = MAE(Architecture(SIDE, 16, 32, 1, 2, 16, 1, 2)).eval()
    images, ids = draw(5, 0, True), [f"i{number}" for number in range(5)]
    settings = MaskRecSettings(ModuleSettings(**SHORT), ReconstructionSettings(masks=3))
    data = TestData(images, None, model, ids, 7)
    score = mae_multi.score(model.state_dict(), data, settings)["score"]
    orders = draw_orders(ids, 7, model.architecture.patches, settings.reconstruction)
    one = ReconstructionSettings(masks=1)  # each mask by itself: nan where it shows a patch
    maps = np.stack([reconstruct(model, images, orders[:, k : k + 1], one)[0].numpy() for k in range(3)])
    hidden, x = ~np.isnan(maps), images.numpy() / 255
    assert not hidden.any(0).all()  # at three masks some patch is always visible
    mu = np.where(hidden, maps, 0).sum(0) / np.maximum(hidden.sum(0), 1)
    expected = [((m - i) ** 2)[h].mean() for m, i, h in zip(mu, x, hidden.any(0), strict=True)]
    np.testing.assert_allclose(score, expected, rtol=1e-4)


# Optimisers and schedules


def test_rmsprop_under_a_polynomial_by_hand(tmp_path):
    module = nn.Linear(1, 1, bias=False)
    nn.init.ones_(module.weight)
    schedule = Schedule(2, 0, 4, 0.1, 0.5, (0.0, 0.9), "rmsprop", power=0.9)
    history = train(
        module, lambda ids, generator: 2 * module.weight.sum(), 8, schedule, 0, Resume(tmp_path / "x.pt", "")
    )
    weight, square, rates = 1.0, 0.0, [0.1 * (1 - step / 4) ** 0.9 for step in range(4)]
    for rate in rates:
        slope = 2 + 0.5 * weight
        square = 0.9 * square + 0.1 * slope**2
        weight -= rate * slope / (square**0.5 + 1e-8)
    assert module.weight.item() == pytest.approx(weight, rel=1e-5)
    assert history["lr"].tolist() == pytest.approx([rates[1], rates[3]])
