"""What an installation brings, and what it must never bring."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("agents", "datasets", "planning", "world_model", "train")


def test_a_built_wheel_holds_no_package_of_ours(tmp_path):
    """A wheel with a top-level `datasets` would overwrite Hugging Face's."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name.split("/")[0].removesuffix(".py") for name in zipfile.ZipFile(wheel).namelist()}
    assert not names & set(PACKAGES)
    assert any(name.endswith(".dist-info") for name in names)


def test_the_test_runner_finds_the_packages_in_the_checkout():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert config["tool"]["pytest"]["ini_options"]["pythonpath"] == ["."]


def test_planning_knows_no_network_game_or_data():
    for file in (ROOT / "planning").glob("*.py"):
        for line in file.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                package = words[1].split(".")[0]
                assert package not in ("torch", "datasets", "world_model", "agents"), f"{file.name}: {line}"
