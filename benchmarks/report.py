"""Write the tables of benchmarks/README.md and README.md from results/*.jsonl: python -m benchmarks.report.

A table is between `<!-- table: NAME -->` and `<!-- end -->`, and is declared in benchmarks/tables.py. If a case was
measured several times, the newest record counts. Text between the markers is overwritten; all other text is kept.
"""

import argparse
from pathlib import Path

from benchmarks.table_format import fill
from benchmarks.tables import TABLES

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "README.md")


def main() -> None:
    """Write both pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    for page in PAGES:
        text = fill(page, TABLES)
        changed = text != page.read_text("utf-8")
        page.write_text(text, "utf-8")
        print(f"{page.relative_to(ROOT)}: {'written' if changed else 'as it was'}")


if __name__ == "__main__":
    main()
