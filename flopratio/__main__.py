"""``python -m flopratio``."""

import sys

from flopratio.cli import main

sys.exit(main())
