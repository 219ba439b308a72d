"""Gates as a table, and as JUnit XML."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from qtablate.report.gates.judge import Gate
from qtablate.table import Table

PASSED, FAILED = "passed", "FAILED"
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""


def gate_table(gates: Sequence[Gate], folder: str) -> Table:
    """Return a row per gate, and how often each errs."""
    rows = tuple((gate.name, gate.asked, gate.found, PASSED if gate.passed else FAILED) for gate in gates)
    errors = dict.fromkeys(f"- {gate.name}: {gate.errors}." for gate in gates if gate.errors)
    note = "\n".join(["Errors by chance:", "", *errors]) if errors else ""
    columns = ("gate", "asked", "found", "outcome")
    return Table(f"Gates of {folder}", columns, rows, note, left=len(columns), tall=True)


def junit_xml(gates: Sequence[Gate], seconds: Sequence[float], folder: str) -> str:
    """Return JUnit XML: a test case per gate.

    Args:
        gates: as judged.
        seconds: that each took.
        folder: the results folder.
    """
    failures = str(sum(not gate.passed for gate in gates))
    count = {"tests": str(len(gates)), "failures": failures, "errors": "0", "skipped": "0", "time": f"{sum(seconds):.3f}"}
    suites = ElementTree.Element("testsuites", count)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": _text(f"qtablate check {folder}"), **count})
    for gate, took in zip(gates, seconds, strict=True):
        names = {"classname": _text(folder), "name": _text(f"{gate.name}: {gate.asked}"), "time": f"{took:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", names)
        text = "\n".join(filter(None, (gate.found, gate.errors)))
        if gate.passed:
            ElementTree.SubElement(case, "system-out").text = _text(text)
        else:
            ElementTree.SubElement(case, "failure", {"message": _text(gate.found)}).text = _text(text)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
