"""The verdict of a check as JUnit XML, which most CI services read."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from flopratio.report.check.sentences import told
from flopratio.verbs.check import Verdict

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""What XML can't hold."""


def junit(verdict: Verdict) -> str:
    """A test for each case. One that can't be counted is an error, any other finding a failure."""
    failed = [case for case in verdict.cases if not case.holds]
    errors = [case for case in failed if case.not_counted]
    suite = ET.Element(
        "testsuite",
        name="flopratio",
        tests=str(len(verdict.cases)),
        failures=str(len(failed) - len(errors)),
        errors=str(len(errors)),
    )
    for case in verdict.cases:
        test = ET.SubElement(
            suite, "testcase", classname="flopratio", name=case.name, file=str(verdict.suite.path)
        )
        if case.case is not None and case.case.line is not None:
            test.set("line", str(case.case.line))
        if not case.holds:
            said = told(case)
            kind = "error" if case.not_counted else "failure"
            message = f"{' '.join(case.states)}: {said[0]}"
            finding = ET.SubElement(test, kind, message=message, type=case.states[0])
            finding.text = "\n".join(said)
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root, " ")
    document = _CONTROL.sub("?", ET.tostring(root, encoding="unicode"))
    return f'<?xml version="1.0" encoding="utf-8"?>\n{document}'
