"""The conformance kit: is a plugin what its author says it is?

In a plugin's tests, one named test for each check::

    from my_package import my_config
    from qx.testing import conformance_test

    test_conformance = conformance_test(my_config)

``qx check NAME`` runs the same checks from the command line. What the kit cannot know of a plugin (a subject
that a metric must find worse, a check that fails for a known reason) the plugin says in an attribute
``conformance``, a :class:`Conformance`.

Importing this package imports nothing heavy, so that a plugin may.
"""

from qx.contract.conformance import Conformance
from qx.testing.pytest_adapter import conformance_test
from qx.testing.verdicts import Failed, NotApplicable, Verdict

__all__ = ["Conformance", "Failed", "NotApplicable", "Verdict", "conformance_test"]
