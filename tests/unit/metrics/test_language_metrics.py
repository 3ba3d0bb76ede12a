"""The metrics of language models, held against values that are written out here."""

from __future__ import annotations

import numpy as np
import pytest
from qx_plugins.language_outputs import outputs_of_scores
from qx_plugins.metrics import decode_latency, perplexity, tokens_per_second, top_token_agreement

from qx import Figure, Point, Predictions, QxError, Recorded, Samples


def test_perplexity_is_that_of_all_tokens_together() -> None:
    """Tokens count alike, however many an item has; those that do not count change nothing."""
    likelihoods = np.log(np.array([[0.5, 0.25, 0.1], [0.125, np.nan, 0.2]]))
    counted = np.array([[True, True, False], [True, False, False]])
    data = Predictions(
        outputs={"log_likelihoods": likelihoods},
        targets={"counted": counted, "bytes": np.array([4, 2])},
        classes=(),
    )
    samples = perplexity.measure(data)
    assert isinstance(samples, Samples)
    value = perplexity.combine(np.asarray(samples.values).mean(axis=0))
    assert value == pytest.approx((0.5 * 0.25 * 0.125) ** (-1 / 3))
    assert samples.details == {"tokens": 3, "bits_per_byte": pytest.approx(1.0)}
    assert np.isnan(perplexity.combine(np.zeros((1, 2)))).all()


def test_a_probability_of_zero_is_no_infinite_perplexity() -> None:
    """It counts as the smallest that single precision has."""
    data = Predictions(
        outputs={"log_likelihoods": np.array([[-np.inf, np.nan]])},
        targets={"counted": np.array([[True, True]])},
        classes=(),
    )
    assert np.asarray(perplexity.measure(data).values).tolist() == [[208.0, 2.0]]


def test_perplexity_needs_to_know_what_counts() -> None:
    """Without that it does not apply; outputs of other names or shapes are an error with both."""
    outputs = {"log_likelihoods": np.zeros((1, 3))}
    assert perplexity.measure(Predictions(outputs=outputs, targets={}, classes=())) is None
    targets = {"counted": np.ones((1, 2), dtype=bool)}
    with pytest.raises(QxError, match=r"have shape \[1, 3\], and the tokens that count have \[1, 2\]"):
        perplexity.measure(Predictions(outputs=outputs, targets=targets, classes=()))
    with pytest.raises(QxError, match="the outputs are output; expected 'log_likelihoods'"):
        perplexity.measure(Predictions(outputs={"output": np.zeros(1)}, targets=targets, classes=()))


def test_agreement_counts_the_positions_with_a_label() -> None:
    """Scores that are not finite agree with nothing; without scores it does not apply."""
    baseline = np.eye(3)[[[0, 1, 2], [2, 2, 0]]]
    ours = np.eye(3)[[[0, 2, 2], [2, 2, 1]]]
    ours[1, 0] = np.nan
    data = Recorded(
        samples={},
        waves={},
        baseline={},
        outputs={"logits": ours},
        baseline_outputs={"logits": baseline},
        targets={"labels": np.array([[5, 6, -1], [1, 1, -1]])},
    )
    samples = top_token_agreement.measure(data)
    assert isinstance(samples, Samples)
    assert np.asarray(samples.values).tolist() == [[1, 2], [1, 2]]
    assert top_token_agreement.combine(np.asarray(samples.values).mean(axis=0)) == pytest.approx(0.5)
    without = Recorded(samples={}, waves={}, baseline={}, outputs={}, baseline_outputs={})
    assert top_token_agreement.measure(without) is None


def test_times_of_tokens_are_those_of_the_calls() -> None:
    """With their waves and rounds; tokens a second count all items of a batch."""
    point = Point(4, 64, "decode")
    latency = Figure("latency", point)
    values = {latency: np.array([2.0, 4.0])}
    indices = {latency: np.array([0, 1])}
    data = Recorded(samples=values, waves=indices, rounds=indices, baseline={}, point=point)
    milliseconds, rates = decode_latency.measure(data), tokens_per_second.measure(data)
    assert isinstance(milliseconds, Samples)
    assert isinstance(rates, Samples)
    assert np.asarray(milliseconds.values).tolist() == [2.0, 4.0]
    assert np.asarray(rates.values).tolist() == [2000.0, 1000.0]
    assert np.asarray(rates.waves).tolist() == [0, 1]
    nothing = Recorded(samples={}, waves={}, baseline={}, point=point)
    assert decode_latency.measure(nothing) is None


def test_scores_of_a_graph_become_the_outputs_of_a_scorer() -> None:
    """Log-likelihoods of the next token, and the scores at every 16th position."""
    random = np.random.default_rng(0)
    tokens, scores = random.integers(0, 9, (2, 30)), random.normal(size=(2, 30, 9)).astype(np.float32)
    outputs = outputs_of_scores(tokens, scores)
    logs = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    expected = np.take_along_axis(logs, np.roll(tokens, -1, axis=1)[..., None], axis=2)[..., 0]
    np.testing.assert_allclose(outputs["log_likelihoods"], expected, rtol=1e-5)
    np.testing.assert_array_equal(outputs["logits"], scores[:, [7, 23]])
