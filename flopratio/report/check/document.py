"""The verdict of a check as a JSON document."""

from __future__ import annotations

import json
from typing import Any

from flopratio.report.check.sentences import findings, headline, violation_sentence
from flopratio.report.difference import document
from flopratio.verbs.check import CaseVerdict, Verdict

SCHEMA = "flopratio.check/1"


def to_json(verdict: Verdict) -> str:
    """The verdict, each case with what was counted."""
    verdict_document = {
        "schema": SCHEMA,
        "headline": headline(verdict),
        "holds": verdict.holds,
        "file": str(verdict.suite.path),
        "lock": str(verdict.lock),
        "updated": verdict.updated,
        "cases": [_case(case) for case in verdict.cases],
    }
    return json.dumps(verdict_document, indent=1)


def _case(case: CaseVerdict) -> dict[str, Any]:
    time, snapshot = case.time, case.snapshot
    return {
        "name": case.name,
        "step": None if case.case is None else str(case.case.step),
        "states": list(case.states),
        "holds": case.holds,
        "findings": findings(case),
        "not_counted": case.not_counted,
        "cause": case.cause,
        "violations": [
            {
                "name": violation.name,
                "expected": violation.expected,
                "found": None if violation.found is None else float(violation.found),
                "layers": list(violation.layers),
                "sentence": violation_sentence(violation),
            }
            for violation in case.violations
        ],
        "difference": None if case.difference is None else document(case.difference),
        "time_ratio": None
        if time is None or isinstance(time.after, str)
        else {"machine": time.machine, "before": time.before, "after": time.after},
        "snapshot": None if snapshot is None else snapshot.to_document(),
    }
