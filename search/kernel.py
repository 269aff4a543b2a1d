"""Whether this program is the kernel of a notebook: it is never ended, and its cells show."""

import sys


def in_notebook() -> bool:
    """Whether the code of a notebook calls us: Jupyter, VS Code or Colab, not IPython's shell."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it long ago
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
