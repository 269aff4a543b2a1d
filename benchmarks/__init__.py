"""Measurements of the product; docs/benchmarks.md has the answers.

    python -m benchmarks.record       record sweeps and cycles of CIFAR-10 for searches to replay
    python -m benchmarks.range_test   range tests and other tools beside grids of complete cycles
    python -m benchmarks.search       search strategies, replayed on the recorded cycles
    python -m benchmarks.trained      answers of a few searches, trained
    python -m benchmarks.diagnose     which mistake `diagnose` names, given its log
    python -m benchmarks.chaos        workers killed at random
    python -m benchmarks.overhead     the time of a configuration beside that of bare Optuna
    python -m benchmarks.cluster      how many workers one PostgreSQL carries

The head of each module says how to run it. `range_test`, `search`, `trained` and `diagnose` write
the pages of docs/benchmarks.
"""
