"""The licence report: the licences of all dependencies are compatible with Apache-2.0."""

from tests.licences import PERMITTED, licence_of, report


def test_every_licence_is_known_and_permitted() -> None:
    rows = report()
    assert {"torch", "lightning", "numpy"} <= {row.name.lower() for row in rows}
    assert not [row for row in rows if not row.permitted]


def test_licences_are_read_from_metadata() -> None:
    assert licence_of({"License-Expression": ["MIT AND BSD-3-Clause"]}) == "MIT AND BSD-3-Clause"
    assert licence_of({"Classifier": ["License :: OSI Approved :: MIT License"]}) == "MIT License"
    assert licence_of({"License": ["A text of\nmany lines"]}) == "A text of"
    assert licence_of({}) == "unknown"
    assert not PERMITTED.search("GNU Affero General Public License v3")
    assert not PERMITTED.search("unknown")
