"""What the model reads: records become examples, examples become token trees.

readers.py         files and the hub -> records, or what is wrong with one
conversation.py    turns as files spell them -> Message, with reasoning, calls and what is scored
sft.py             a record -> Example; preference.py and unpaired.py: pairs and graded answers
functions.py       a Python file -> its documented functions
docstrings.py      installed packages -> pairs of source and first docstring sentence, cached
sources.py         where examples come from, and which of them are held out -> Dataset (splits.py)
source_list.py     several sources as one; mixture.py: in which order an epoch reads them
convert.py         a Dataset as an objective reads it
kinds.py           what is true of answers, labels, pairs, graded answers and rewards
span_tokenizer.py  pieces of text -> ids, control tokens kept apart from text
spans.py           the pieces of a rendering that are tokenised apart
markers.py         templates whose markers stand in the text already
chat_template.py   Example -> ids and weights, through the model's own chat template
turns.py           … in pieces: which are scored, and where an answer begins and ends
named_templates.py templates by name or of one's own, put on a tokenizer (template_names.py)
template_text.py   what the template writes, and what of a conversation it leaves out
label_template.py  the same where a label or a reward is asked for instead of text
tokenize.py        examples -> trees that fit the model; what does not fit is counted
datamodule.py      trees -> the batches of each optimiser step, for Lightning
audit.py           what of all this a person should see before training
"""
