"""The chat template a run was trained with, where it is not the model's own: a file beside the
update, and in what is exported.
"""

from __future__ import annotations

from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase

from myosotis.data.chat_template import ChatRenderer
from myosotis.models.model_ref import TEMPLATE
from myosotis.utils.atomic_write import write_text


def save_template(folder: Path, renderer: ChatRenderer) -> None:
    """Beside the update in `folder`, where the template is not the model's own."""
    if renderer.installed:
        write_text(folder / TEMPLATE, renderer.installed)


def carry_template(update: Path, out: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """From beside an update into what was exported of it to `out`, whose tokenizer has it.

    A whole model is told, too, which tokens end its answers.
    """
    if not (update / TEMPLATE).is_file():
        return
    if not (out / "generation_config.json").is_file():
        write_text(out / TEMPLATE, (update / TEMPLATE).read_text("utf-8"))
        return
    config = GenerationConfig.from_pretrained(out)
    own = config.eos_token_id
    ends = list(own) if isinstance(own, list) else [] if own is None else [own]
    ends += [token for token in ChatRenderer(tokenizer).end_ids() if token not in ends]
    config.eos_token_id = ends
    config.save_pretrained(out)
