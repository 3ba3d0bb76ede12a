"""The command that installs what is missing: one that can be had, from where qx came from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qx import Config
from qx.contract.installation import extra_command, install_command, origin_of
from qx.contract.requirements import install_arguments, missing_distributions

METADATA = """\
Metadata-Version: 2.1
Name: quant-explorer
Version: 0.1.0
Requires-Dist: attrs>=23.2
Provides-Extra: all
Requires-Dist: absent-one>=1.17; extra == "all"
Requires-Dist: absent-two>=2; extra == "all"
Provides-Extra: one
Requires-Dist: absent-one>=1.17; extra == "one"
Provides-Extra: two
Requires-Dist: absent-two>=2; extra == "two"
"""
Installed = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Return a function that puts a quant-explorer first on the path, with this record of its origin."""

    def install(record: Any = None) -> None:
        folder = tmp_path / "site" / "quant_explorer-0.1.0.dist-info"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "METADATA").write_text(METADATA)
        if record is not None:
            (folder / "direct_url.json").write_text(record if isinstance(record, str) else json.dumps(record))
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    return install


@pytest.mark.parametrize("editable", [True, False])
def test_a_checkout_is_named_with_its_extras(installed: Installed, tmp_path: Path, editable: bool) -> None:
    """Installed from a folder, the command names that folder and the smallest extras with what is missing."""
    checkout = tmp_path / "my checkout"
    checkout.mkdir()
    (checkout / "pyproject.toml").touch()
    address = checkout.as_uri()
    assert "%20" in address
    installed({"url": address, "dir_info": {"editable": editable}})
    both = install_command(["absent-one>=1.17", "absent-two>=2", "absent-one>=1.17"])
    assert both == f"pip install '{checkout}[one,two]'"
    assert install_command(["Absent_One >=1.17", "other"]) == f"pip install '{checkout}[one]' other"
    assert extra_command("all") == f"pip install '{checkout}[all]'"


@pytest.mark.parametrize(
    "record",
    [
        None,
        "",
        "[]",
        "{",
        {"url": "file:///nowhere/at/all", "dir_info": {}},
        {"url": 7},
        {"url": "https://example.org/\x1b[31m.whl", "archive_info": {}},
        {"url": "https://example.org/it.whl"},
    ],
)
def test_of_an_unknown_origin_the_requirements_are_named(installed: Installed, record: Any) -> None:
    """Where the origin is not recorded, or is gone, the command names the requirements themselves."""
    installed(record)
    assert origin_of("quant-explorer") is None
    requirements = ["absent-one>=1.17", "absent-two>=2"]
    assert install_command(requirements) == "pip install 'absent-one>=1.17' 'absent-two>=2'"
    assert extra_command("one") == "pip install 'absent-one>=1.17'"
    assert "quant-explorer" not in install_command(requirements)


def test_a_repository_and_an_archive_are_named_by_their_address(installed: Installed) -> None:
    """Installed from a repository the command has its address and commit; from an archive the address."""
    installed({"url": "https://example.org/qx.git", "vcs_info": {"vcs": "git", "commit_id": "0a1b"}})
    command = "pip install 'quant-explorer[one] @ git+https://example.org/qx.git@0a1b'"
    assert install_command(["absent-one>=1.17"]) == command
    installed({"url": "https://example.org/qx.whl", "archive_info": {}})
    assert install_command(["absent-one>=1.17"]) == (
        "pip install 'quant-explorer[one] @ https://example.org/qx.whl'"
    )


def test_a_wheel_on_the_disk_is_named_by_its_path(installed: Installed, tmp_path: Path) -> None:
    """Installed from a file that is still there, the command names the file."""
    wheel = tmp_path / "quant_explorer-0.1.0-py3-none-any.whl"
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert install_command(["absent-two>=2"]) == f"pip install '{wheel}[two]'"


def test_a_reason_is_the_same_on_every_machine(installed: Installed, tmp_path: Path) -> None:
    """What is written into results names requirements and no folder, and a screen reads them back from it."""
    (tmp_path / "pyproject.toml").touch()
    installed({"url": tmp_path.as_uri(), "dir_info": {}})
    record = Config(name="it", summary="It.", requires=["absent-one>=1.17", "attrs"], extra="one")
    reason = missing_distributions(record)
    assert reason == "needs absent-one>=1.17: pip install 'absent-one>=1.17' 'attrs'"
    assert install_arguments(reason) == ["absent-one>=1.17", "attrs"]
    assert install_arguments("needs a CPU with bf16") == []
