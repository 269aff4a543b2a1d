"""What a stored study keeps where the default has changed since: its sampler."""

import ast
from collections.abc import Mapping
from dataclasses import replace

from studies.protocol import has_seed_of_slots
from studies.registry import Definition


def with_stored_sampler(definition: Definition, stored: Mapping[str, str]) -> Definition:
    """Return the definition with the sampler of a study from before `kg`, the default since."""
    study, sampler = definition.study, stored.get("screening.sampler")
    if not has_seed_of_slots(stored) or sampler is None or study.screening.sampler != "kg":
        return definition
    # n_initial was 8 where it was not said, and is 0 now.
    n_initial = study.screening.n_initial or int(stored["screening.n_initial"])
    kept = replace(study.screening, sampler=ast.literal_eval(sampler), n_initial=n_initial)
    return replace(definition, study=replace(study, screening=kept))
