"""Leave torch, and what only its CUDA build needs, out of a file of requirements with hashes.

python .ci/without_torch.py REQUIREMENTS
"""

import re
import sys
from pathlib import Path

OF_TORCH = re.compile(r"(torch|triton|cuda-[\w-]+|nvidia-[\w-]+)==")

entries = re.split(r"\n(?=\S)", Path(sys.argv[1]).read_text(encoding="utf-8").strip())
print("\n".join(entry for entry in entries if not OF_TORCH.match(entry)))
