"""What the adapters' tests share, also those against real trainers: scripted episodes in token ids."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
