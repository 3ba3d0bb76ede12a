"""All plugins keep the contract: one test for each check of qx's conformance kit."""

from __future__ import annotations

from qx.testing import conformance_test
from qx_extras import bias_corrected_int8, equalized_int8, log_loss

test_bias_corrected_int8 = conformance_test(bias_corrected_int8)
test_equalized_int8 = conformance_test(equalized_int8)
test_log_loss = conformance_test(log_loss)
