"""All deliberate mistakes, listed before anybody looked whether they are noticed."""

from __future__ import annotations

from tests.mutants.believed import BELIEVED
from tests.mutants.elsewhere import ELSEWHERE
from tests.mutants.leaving import LEAVING
from tests.mutants.outbound import OUTBOUND
from tests.mutants.overlooked import OVERLOOKED

MUTANTS = (*OUTBOUND, *ELSEWHERE, *OVERLOOKED, *BELIEVED, *LEAVING)
