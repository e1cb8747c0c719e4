"""`python -m myosotis.cli`: the command, where its script is not on the path."""

from __future__ import annotations

import sys

from myosotis.utils import children

children.leave_folder_out()  # before anything else is imported

from myosotis.cli import main  # noqa: E402

sys.exit(main())
