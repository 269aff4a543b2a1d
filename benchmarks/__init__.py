"""Measurements of the product; docs/benchmarks.md has the answers.

    python -m benchmarks.record       record sweeps and cycles of CIFAR-10 for searches to replay
    python -m benchmarks.range_test   range tests and other tools beside grids of complete cycles
    python -m benchmarks.families     record small tasks of many kinds
    python -m benchmarks.judge        whole studies, replayed on these tasks
    python -m benchmarks.fit_surrogate  the constants of the surrogate, fitted to them
    python -m benchmarks.search       search strategies, replayed on the recorded cycles
    python -m benchmarks.trained      answers of a few searches, trained
    python -m benchmarks.training     the time of `Training` beside a bare loop
    python -m benchmarks.diagnose     which mistake `diagnose` names, given its log
    python -m benchmarks.chaos        workers killed at random
    python -m benchmarks.overhead     the time of a configuration beside that of bare Optuna
    python -m benchmarks.cluster      what a configuration costs PostgreSQL, with 1,000 clients

The head of each module says how to run it, and `--help` its flags. `range_test`, `families`,
`judge`, `search`, `trained`, `training` and `diagnose` write the pages of docs/benchmarks.
"""
