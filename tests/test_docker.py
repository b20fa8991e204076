"""Docker images and the compose file: hadolint rules that matter here, and the install steps in a fresh folder."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
DOCKERFILES = ("Dockerfile", "Dockerfile.cuda")
LOCKS = {"Dockerfile": "requirements-cpu.txt", "Dockerfile.cuda": "requirements-cuda.txt"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions and their arguments, with continued lines joined."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(word.upper(), rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in lines)]


def lint(text: str) -> set[str]:
    """Numbers of hadolint's rules that a Dockerfile violates."""
    found = instructions(text)
    last_stage = max(index for index, (word, _) in enumerate(found) if word == "FROM")
    rules = {
        "DL3002": [word for word, rest in found[last_stage:] if word == "USER"][-1:] != ["USER"]
        or [rest for word, rest in found[last_stage:] if word == "USER"][-1] in ("root", "0"),
        "DL3004": any(word == "RUN" and "sudo " in rest for word, rest in found),
        "DL3000": any(word == "WORKDIR" and not rest.startswith("/") for word, rest in found),
        "DL3003": any(word == "RUN" and re.search(r"(^|&& *)cd ", rest) for word, rest in found),
        "DL3006": any(word == "FROM" and ":" not in rest for word, rest in found),
        "DL3007": any(word == "FROM" and ":latest" in rest for word, rest in found),
        "DL3008": any(word == "RUN" and "apt-get install" in rest for word, rest in found),
        "DL3013": any("pip install" in rest and not re.search("--require-hashes|--no-deps", rest) for _, rest in found),
        "DL3020": any(word == "ADD" for word, _ in found),
        "DL3025": any(word in ("CMD", "ENTRYPOINT") and not is_json_list(rest) for word, rest in found),
        "DL3042": any("pip install" in rest and "--no-cache-dir" not in rest for _, rest in found),
        "DL4000": any(word == "MAINTAINER" for word, _ in found),
        "DL4006": any(word == "RUN" and re.search(r"[^|]\|[^|]", rest) for word, rest in found),
        "secret": any(word in ("ENV", "ARG") and re.search("KEY|TOKEN|PASSWORD|SECRET", rest) for word, rest in found),
        "unpinned": any(word == "FROM" and not re.search(r":\d+\.\d+\.\d+-", rest) for word, rest in found),
    }
    return {name for name, broken in rules.items() if broken}


def is_json_list(text: str) -> bool:
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


BAD = """FROM python
MAINTAINER me
ENV API_KEY=1
ADD . app
WORKDIR app
RUN cd x && sudo apt-get install curl
RUN curl x | sh
RUN pip install torch
CMD face
"""


@pytest.mark.parametrize("name", DOCKERFILES)
def test_dockerfiles_follow_all_rules(name: str) -> None:
    assert lint((DOCKER / name).read_text()) == set()


def test_the_rules_find_violations() -> None:
    assert lint(BAD) == {
        *("DL3000", "DL3002", "DL3003", "DL3004", "DL3006", "DL3008", "DL3013", "DL3020", "DL3025", "DL3042"),
        *("DL4000", "DL4006", "secret", "unpinned"),
    }
    assert "DL3007" in lint("FROM python:latest\nUSER 1\n")
    assert "DL3002" in lint("FROM a:1.2.3-x\nUSER 5\nFROM b:1.2.3-x\nUSER root\n")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_files_that_images_copy_exist_and_are_not_ignored(name: str) -> None:
    ignored = (DOCKER / f"{name}.dockerignore").read_text().splitlines()
    for word, rest in instructions((DOCKER / name).read_text()):
        if word == "COPY" and "--from" not in rest:
            *sources, _ = [part for part in rest.split() if not part.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists()
                kept = [pattern[1:] for pattern in ignored if pattern.startswith("!")]
                assert any(Path(source).match(pattern) for pattern in kept), source
    assert "*" in ignored


@pytest.mark.parametrize("name", DOCKERFILES)
def test_requirements_have_hashes_and_the_tested_versions(name: str) -> None:
    lines = [line for line in (DOCKER / LOCKS[name]).read_text().splitlines() if not line.startswith("#")]
    locked = {}
    for line in lines:
        found = re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:[0-9a-f]{64}", line)
        assert found, line
        locked[re.sub("[-_.]+", "-", found[1]).lower()] = found[2].partition("+")[0]
    assert {"torch", "lightning", "setuptools", "transformers"} <= locked.keys()
    tested = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    tested = {re.sub("[-_.]+", "-", package).lower(): version for package, version in tested.items()}
    assert not {package for package, version in locked.items() if tested.get(package, version) != version}


def test_compose_file_gives_no_rights_and_no_open_port() -> None:
    content = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert set(content["services"]) == {"train", "tensorboard"}
    for service in content["services"].values():
        assert service["user"] not in ("root", "0")
        assert service["cap_drop"] == ["ALL"]
        assert not {"privileged", "network_mode", "environment", "env_file"} & service.keys()
        assert (DOCKER / service["build"]["context"]).resolve() == ROOT
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= content["volumes"].keys()


def test_sbatch_example_starts_resumes_and_requeues(tmp_path: Path) -> None:
    """Run the script with fake srun and scontrol, which record their arguments."""
    for name, code in (("srun", "exit ${SRUN_CODE:-0}"), ("scontrol", "exit 0")):
        stand_in = tmp_path / name
        stand_in.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{code}\n')
        stand_in.chmod(0o755)
    slurm = {"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2", "SLURM_JOB_ID": "77"}

    def submit(code: int) -> tuple[int, list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        variables = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SRUN_CODE": str(code)}
        command = ["bash", str(DOCKER / "slurm.sbatch"), "a.yaml", str(tmp_path / "run"), "--data.seed", "1"]
        done = subprocess.run(command, env=variables, check=False)
        return done.returncode, (tmp_path / "calls").read_text().splitlines()

    start = (
        f"srun --kill-on-bad-exit=1 face-fit --config a.yaml --run_dir {tmp_path}/run --trainer.devices 4 "
        "--trainer.num_nodes 2 --trainer.strategy ddp"
    )
    assert submit(0) == (0, [f"{start} --data.seed 1"])
    assert submit(2) == (2, [f"{start} --data.seed 1"])
    assert submit(143) == (143, [f"{start} --data.seed 1", "scontrol requeue 77"])
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    assert submit(0) == (0, [f"{start} --ckpt_path last --data.seed 1"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.version_info[:2] != (3, 11) or sys.platform != "linux", reason="wheels are locked for these")
def test_install_steps_of_the_cpu_image_work_in_a_fresh_environment(tmp_path: Path) -> None:
    """Every RUN of the first stage, with local folders in place of those of the image."""
    text = (DOCKER / "Dockerfile").read_text()
    build = instructions(text[: text.index("\nFROM", 1 + text.index("\nFROM"))])
    steps = [rest for word, rest in build if word == "RUN"]
    assert len(steps) == 3
    source = tmp_path / "src"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "configs", "face_lightning", "docker"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    for step in steps:
        step = step.replace("/opt/venv", str(tmp_path / "venv")).replace("RUN python ", f"{sys.executable} ")
        words = shlex.split(step)
        words[0] = sys.executable if words[0] == "python" else words[0]
        # An unreachable index is skipped; the hashes verify packages from any other.
        subprocess.run(words, cwd=source, check=True, timeout=3000, env={**os.environ, "PIP_RETRIES": "0"})
    face = tmp_path / "venv" / "bin" / "face"
    done = subprocess.run([face, "fit"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "expected, but not given" in done.stderr
