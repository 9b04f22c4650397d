"""What all tests share: property tests draw the same cases in every run.

A failure then is a failure for everybody, and a green run stays green. `HYPOTHESIS_PROFILE=search`
looks for new cases instead."""

import os

from hypothesis import settings

settings.register_profile("steady", derandomize=True)
settings.register_profile("search")
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
