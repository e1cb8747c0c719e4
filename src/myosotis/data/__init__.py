"""What the model reads: records become examples, examples become token trees.

lines.py       a JSON Lines file -> its objects, or what is wrong with a line
sft.py     an object -> Example, or what is wrong with it
functions.py   a Python file -> its documented functions
docstrings.py  installed packages -> pairs of source and first docstring sentence, cached
sources.py     where examples come from, and which of them are held out -> Dataset
tokens.py      pieces of text -> ids, control tokens kept apart from text
chat_template.py   Example -> ids and weights, through the model's own chat template
tokenize.py      examples -> trees that fit the model; what does not fit is counted
datamodule.py      trees -> the batches of each optimiser step, for Lightning
audit.py       what of all this a person should see before training
"""
