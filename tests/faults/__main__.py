"""`python -m tests.faults` writes docs/faults.md."""

from tests.faults.catalogue import PAGE, page

PAGE.write_text(page(), "utf-8")
print(f"{PAGE.name} is written")
