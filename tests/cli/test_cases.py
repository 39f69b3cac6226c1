"""The cases of a project, read from TOML."""

import pytest

from flopratio.cli.cases import read_suite
from flopratio.errors import UsageError


@pytest.fixture
def written(tmp_path):
    """Writes a file, and reads its cases."""

    def read(text, name="flopratio.toml"):
        path = tmp_path / name
        path.write_text(text)
        return read_suite(path)

    return read


def steps(suite):
    return {name: str(case.step) for name, case in suite.cases.items()}


def test_a_step_as_a_text(written):
    suite = written("""
[cases]
small = "mlp depth=2 --optimizer adamw"
'odd name' = "hf:gpt2 batch=8 --checkpoint 'h.*'"
""")
    assert steps(suite) == {
        "small": "mlp depth=2 --optimizer adamw",
        "odd name": "hf:gpt2 batch=8 --checkpoint 'h.*'",
    }
    assert suite.lock.name == "flopratio.lock.json"
    assert suite.lock.parent == suite.path.parent


def test_a_step_word_by_word(written):
    suite = written("""
[cases.a]
model = "timm:vit_tiny_patch16_224"
batch = 8
input = "8x3x224x224"
drop_rate = 0.5
vision_config.hidden_size = 64
input-grad = true
optimizer_implementation = "fused"
optimizer = "adamw"
accumulate = 1
""")
    assert suite.cases["a"].step.settings == {
        "batch": 8,
        "input": (8, 3, 224, 224),
        "drop_rate": 0.5,
        "vision_config.hidden_size": 64,
    }
    assert suite.cases["a"].step.options == {
        "input_grad": True,
        "optimizer_implementation": "fused",
        "optimizer": "adamw",
    }
    assert str(suite.cases["a"].step).endswith(
        "--optimizer adamw --optimizer-implementation fused --input-grad"
    )


@pytest.mark.parametrize("key", ["model", "step"])
def test_both_at_once(written, key):
    suite = written(f'[cases.a]\n{key} = "mlp depth=2 --optimizer sgd"\nbatch = 4\nloss = "mse"')
    assert steps(suite) == {"a": "mlp depth=2 batch=4 --loss mse --optimizer sgd"}


def test_what_is_expected(written):
    suite = written("""
time_tolerance = 0.2
[expect]
uncounted_ops = 0
ratio = 2
[cases.a]
model = "mlp"
[cases.a.expect]
ratio = ">= 1.9"
"ratio[hidden.*]" = 2
peak = "< 0.6 * b"
[cases.b]
model = "mlp"
""")
    names = {name: [e.name for e in case.expectations] for name, case in suite.cases.items()}
    assert names == {
        "a": ["uncounted_ops", "ratio", "ratio[hidden.*]", "peak"],
        "b": ["uncounted_ops", "ratio"],
    }
    assert suite.cases["a"].expectations[1].conditions[0].text == ">= 1.9"
    assert suite.cases["a"].needs == {"b"}
    assert suite.time_tolerance == 0.2


def test_pyproject(written):
    text = '[project]\nname = "p"\n[tool.flopratio.cases]\nx = "mlp"\n[tool.flopratio.cases.y]\n'
    suite = written(f'{text}model = "cnn"', "pyproject.toml")
    assert steps(suite) == {"x": "mlp", "y": "cnn"}
    assert [case.line for case in suite.cases.values()] == [4, 5]


def test_files_of_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there are no cases here"):
        read_suite()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "p"')
    with pytest.raises(UsageError, match="there are no cases here"):
        read_suite()
    (tmp_path / "pyproject.toml").write_text('[tool.flopratio.cases]\nx = "mlp"')
    assert steps(read_suite()) == {"x": "mlp"}
    (tmp_path / "flopratio.toml").write_text('[cases]\ny = "mlp"')
    assert steps(read_suite()) == {"y": "mlp"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cases\nx = 1", "is no TOML: Expected ']' at the end of a table declaration (at line 1,"),
        ('[cases]\nx = "mlp', "(at line 2, column 9)"),
        ("", "has no cases: write [tool.flopratio.cases]"),
        ("[cases]", "has no cases"),
        ('[case]\nx = "mlp"', "has no key 'case': did you mean 'cases'?"),
        ("cases = 3", "cases = 3 should be a table"),
        ('time_tolerance = "x"\n[cases]\na = "mlp"', "time_tolerance = 'x' should be a share"),
        ("[cases]\nx = 3", "case x: 3 should be a step, such as 'mlp batch=8'"),
        ("[cases.x]\nbatch = 3", "case x: it names no MODEL"),
        ("[cases.x]\nmodle = 'mlp'", "write model = 'hf:gpt2', not 'modle'"),
        ("[cases.x]\nmodel = 'mlp'\nstep = 'mlp'", "has both a model and a step"),
        ("[cases.x]\nmodel = 3", "model = 3 should be text"),
        ("[cases]\nx = 'mlp --optimizr sgd'", "No such option: --optimizr"),
        ("[cases]\nx = 'mlp batch=1,2'", "batch has 2 values"),
        ("[cases]\nx = 'mlp --optimizer sdg'", "optimizer=sdg should be one of"),
        ("[cases.x]\nmodel = 'mlp batch=2'\nbatch = 3", "batch is given twice"),
        ("[cases.x]\nmodel = 'mlp --dtype bf16'\ndtype = 'fp16'", "dtype is given twice"),
        ("[cases.x]\nmodel = 'mlp'\nbatch = [1, 2]", "a case takes one value"),
        ("[cases.x]\nmodel = 'mlp'\naccumulate = 'two'", "should be a whole number"),
        ("[cases.x]\nmodel = 'mlp'\nexpect = 3", "expect = 3 should be a table"),
        ("[cases.x]\nmodel = 'mlp'\nexpects.ratio = 2", "did you mean 'expect'?"),
        ("[cases.x]\nmodel = 'mlp'\nexpect.ratoi = 2", "case x: there is nothing called 'ratoi'"),
    ],
)
def test_what_has_no_meaning_is_a_sentence(written, text, said):
    with pytest.raises(UsageError) as error:
        written(text)
    assert said in str(error.value)
    assert "flopratio.toml" in str(error.value)


def test_a_project_without_cases(written):
    with pytest.raises(UsageError, match=r"has no table \[tool.flopratio\]"):
        written('[project]\nname = "p"', "pyproject.toml")


def test_there_is_no_such_file(tmp_path):
    with pytest.raises(UsageError, match="there is no file"):
        read_suite(tmp_path / "none.toml")
