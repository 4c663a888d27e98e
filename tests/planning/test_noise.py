"""Random numbers that are a function of the root's seed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from planning.noise import CHOICE, POLICY, dirichlet_noise, gumbel_noise, root_seeds


def test_seeds_count_up_or_are_given():
    assert root_seeds(5, 3).tolist() == [5, 6, 7]
    assert root_seeds(np.array([9, 9]), 2).tolist() == [9, 9]


def test_gumbel_samples_have_the_gumbel_distribution():
    sample = gumbel_noise(np.arange(20_000), POLICY, 4)
    assert stats.kstest(sample.ravel(), stats.gumbel_r.cdf).pvalue > 0.01
    assert abs(np.corrcoef(sample[:, 0], sample[:, 1])[0, 1]) < 0.03
    assert abs(np.corrcoef(sample[:-1, 0], sample[1:, 0])[0, 1]) < 0.03


@pytest.mark.parametrize("alpha", [0.03, 0.3, 1.0, 3.0])
def test_dirichlet_samples_have_beta_marginals(alpha):
    sample = dirichlet_noise(np.arange(20_000), POLICY, alpha, np.ones((20_000, 5), dtype=bool))
    np.testing.assert_allclose(sample.sum(axis=1), 1)
    marginal = stats.beta(alpha, 4 * alpha)
    assert abs(sample[:, 0].mean() - 0.2) < 0.01
    assert abs(sample[:, 0].var() - marginal.var()) < 0.01
    # Quantiles rather than a distance of distributions: most samples of a small alpha are almost 0.
    for share in (0.7, 0.8, 0.9, 0.95):
        assert abs((sample[:, 0] <= marginal.ppf(share)).mean() - share) < 0.012


def test_dirichlet_samples_keep_to_the_mask():
    mask = np.random.default_rng(0).random((500, 6)) < 0.5
    mask[:, 2] = True
    sample = dirichlet_noise(np.arange(500), POLICY, 0.001, mask)
    np.testing.assert_allclose(sample.sum(axis=1), 1)
    assert (sample[~mask] == 0).all()


def test_samples_depend_on_seed_and_stream_but_not_on_the_batch():
    batch = gumbel_noise(np.arange(10), POLICY, 6)
    np.testing.assert_array_equal(batch[3:5], gumbel_noise(np.array([3, 4]), POLICY, 6))
    assert (batch != gumbel_noise(np.arange(10), CHOICE, 6)).all()
    mask = np.ones((10, 6), dtype=bool)
    whole = dirichlet_noise(np.arange(10), POLICY, 0.3, mask)
    np.testing.assert_array_equal(whole[7:8], dirichlet_noise(np.array([7]), POLICY, 0.3, mask[:1]))
    assert len(np.unique(whole)) == 60
