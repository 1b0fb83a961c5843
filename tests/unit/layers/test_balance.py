"""The balance factor of two losses."""

import pytest
import torch

from hf_mner.layers.balance import LossBalance


def test_the_factor_is_the_ratio_of_the_running_means():
    balance = LossBalance().train()
    first = balance(torch.tensor(2.0), torch.tensor(4.0))
    assert first == pytest.approx(0.5)
    second = balance(torch.tensor(2.0), torch.tensor(2.0))
    assert second == pytest.approx((0.99 * 2 + 2) / (0.99 * 4 + 2), rel=1e-4)


def test_the_factor_has_bounds_and_no_gradient():
    text = torch.tensor(100.0, requires_grad=True)
    assert LossBalance().train()(text, torch.tensor(0.0)) == 10
    small = LossBalance().train()(torch.tensor(0.0), torch.tensor(5.0, requires_grad=True))
    assert small == pytest.approx(0.1)
    assert not small.requires_grad


def test_evaluation_changes_no_mean():
    balance = LossBalance().train()
    balance(torch.tensor(2.0), torch.tensor(4.0))
    means = balance.means.clone()
    assert balance.eval()(torch.tensor(9.0), torch.tensor(1.0)) == pytest.approx(0.5)
    assert torch.equal(balance.means, means)
