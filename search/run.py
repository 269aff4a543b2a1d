"""`python -m search.run ...` is `python -m search run ...`."""

import sys

from search.__main__ import main

if __name__ == "__main__":
    if sys.argv[1:] != ["--version"]:
        sys.argv.insert(1, "run")
    main(called_as="python -m search")
