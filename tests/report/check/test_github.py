"""Annotations as GitHub reads them."""

from flopratio.report.check.github import workflow_commands
from tests.report.check.small import verdict
from tests.verbs.check.small import small


def test_what_means_something_to_github_is_escaped():
    (line,) = workflow_commands(
        verdict({"a,b:c": small()}, path="a,b.toml", recompute_share="<= 9%")
    )
    start = "::error file=a%2Cb.toml,line=3,title=flopratio%3A a%2Cb%3Ac FAILED NEW::"
    first = "recompute_share is 0.09090909091, expected <= 9%25"
    assert line == f"{start}{first}%0Athe lock does not have this case yet"


def test_a_case_without_a_line_is_an_annotation_of_the_file():
    (line,) = workflow_commands(verdict({"a": small(inner=5)}, line=None))
    assert line.startswith("::error file=cases.toml,title=flopratio%3A a CHANGED::")
    assert workflow_commands(verdict({"a": small()})) == []
