"""What `data.template` may say: a name, or a Jinja file. Needs no tokenizer library."""

from __future__ import annotations

from pathlib import Path

from myosotis.utils.did_you_mean import did_you_mean
from myosotis.utils.errors import ConfigError

OWN = ("chat", "none")
"""The model's own template, and none."""

ENDS = {
    "chatml": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "mistral": "</s>",
    "gemma": "<end_of_turn>",
    "alpaca": "</s>",
    "phi": "<|end|>",
    "plain": "</s>",
}
"""The named templates, and the marker that ends a turn in each."""

JINJA = (".jinja", ".jinja2", ".j2")


def is_file(template: str) -> bool:
    """Whether a template is named by its file."""
    return template.endswith(JINJA)


def check_template(template: str) -> None:
    """Raise `ConfigError` for what is neither a name nor a file that is there."""
    if is_file(template):
        if not (place := Path(template).expanduser()).is_file():
            raise ConfigError(f"data.template: there is no file {place}")
    elif template not in (*OWN, *ENDS):
        names = ", ".join((*OWN, *ENDS))
        known = f"It is {names}, or a file whose name ends in .jinja."
        raise ConfigError(
            f"data.template={template} is not known.", did_you_mean(template, [*OWN, *ENDS], known)
        )
