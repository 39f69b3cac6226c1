"""The verdict of a check for GitHub: a job summary in Markdown, and annotations of the file in
which the cases stand."""

from __future__ import annotations

from flopratio.report.check.sentences import findings, headline, told
from flopratio.report.difference import to_markdown
from flopratio.report.markdown import escape
from flopratio.verbs.check import CaseVerdict, Verdict


def workflow_commands(verdict: Verdict) -> list[str]:
    """A workflow command for each case that does not hold."""
    lines = []
    for case in verdict.cases:
        if case.holds:
            continue
        place = f"file={_property(str(verdict.suite.path))}"
        if case.case is not None and case.case.line is not None:
            place += f",line={case.case.line}"
        title = _property(f"flopratio: {case.name} {' '.join(case.states)}")
        message = "\n".join(told(case))
        lines.append(f"::error {place},title={title}::{_data(message)}")
    return lines


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def summary(verdict: Verdict, accept: str) -> str:
    """The verdict as Markdown, what changed folded away behind each case.

    Args:
        accept: how to accept what changed; empty if there is nothing to accept.
    """
    mark = "✅" if verdict.holds else "❌"
    parts = [f"### {mark} flopratio: {headline(verdict)}", ""]
    for case in verdict.cases:
        if not case.holds:
            parts += [*_case(case), ""]
    held = [case.name for case in verdict.cases if case.holds]
    if held:
        names = ", ".join(f"`{name}`" for name in held)
        parts += [f"<details><summary>{len(held)} as in the lock</summary>", "", names, ""]
        parts += ["</details>", ""]
    if accept:
        parts += [accept, ""]
    return "\n".join(parts)


def _case(case: CaseVerdict) -> list[str]:
    lines = [f"**{escape(case.name)}** {' '.join(case.states)}", ""]
    lines += [f"- {escape(sentence)}" for sentence in findings(case)]
    changed = case.difference
    if changed is not None and not changed.equal:
        lines += ["", "<details><summary>What changed</summary>", "", to_markdown(changed)]
        lines.append("</details>")
    return lines
