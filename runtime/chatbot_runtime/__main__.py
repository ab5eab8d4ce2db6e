"""`python -m chatbot_runtime` is the same as `chatbot`."""

import sys

from chatbot_runtime.cli import main

sys.exit(main())
