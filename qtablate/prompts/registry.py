"""All conversation formats by name: `FORMATS[config["conversation"]]` is the format of a model directory."""

from qtablate.datatypes import IMAGE, VIDEO
from qtablate.prompts.segments import SegmentTemplate
from qtablate.prompts.types import EOS, Format, question_only
from qtablate.prompts.videochat2 import MISTRAL, MISTRAL_CAPTION, PHI, VICUNA

NANO_FORMAT = SegmentTemplate(
    opening="<s>",
    media={VIDEO: ("<video>", "</video>"), IMAGE: ("<image>", "</image>")},
    human="<q>",
    assistant="<a>",
    end="</s>",
)
INSTRUCTBLIP = SegmentTemplate(
    {VIDEO: ("", ""), IMAGE: ("", "")},
    human="",
    assistant="",
    end=EOS,
    bos="after_visual",
    qformer_rule=question_only,
)
CHATML = SegmentTemplate(
    {VIDEO: ("<video>", "</video>\n"), IMAGE: ("<image>", "</image>\n")},
    opening="<|im_start|>user\n",
    first_human="",
    human="\n<|im_start|>user\n",
    assistant="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
    joined=True,
)
PLAIN = SegmentTemplate(
    {VIDEO: ("Video: ", "\n"), IMAGE: ("Image: ", "\n")},
    human="Question: ",
    assistant="\nAnswer: ",
    end=EOS,
    bos="start",
    joined=True,
)

FORMATS: dict[str, Format] = {
    "nano": NANO_FORMAT,
    "videochat2_mistral": MISTRAL,
    "videochat2_vicuna": VICUNA,
    "videochat2_phi": PHI,
    "videochat2_mistral_caption": MISTRAL_CAPTION,
    "instructblip": INSTRUCTBLIP,
    "chatml": CHATML,
    "plain": PLAIN,
}
"""By the name that a model's config.json gives as `conversation`. A new kind of model is one entry here."""
