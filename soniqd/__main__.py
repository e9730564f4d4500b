"""``python -m soniqd`` is the daemon."""

import sys

from soniqd.cli.soniqd import main

sys.exit(main())
