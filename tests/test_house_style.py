"""The style that holds the code together, as far as a test can see it."""

import ast
import re
from pathlib import Path

import pytest

import thinkscale
from thinkscale.built_in import BUILT_IN
from thinkscale.registry import kebab

SOURCE = Path(thinkscale.__file__).parent
PAPERS = SOURCE.parents[1] / "docs" / "papers.md"
MODULES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN = re.compile(r"^(Abstract|Base)[A-Z]|(Base|Manager|Helper|Utils?|Strategy|Algorithm)$")
COMPONENTS = [(kind, name, at) for kind, table in BUILT_IN.items() for name, at in table.items()]


def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines(node):
    """Lines of a function without its docstring."""
    whole = node.end_lineno - node.lineno + 1
    first = node.body[0]
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return whole - (first.end_lineno - first.lineno + 1 if said else 0)


def short(path):
    return str(path.relative_to(SOURCE))


def imported():
    """What every module imports anywhere, for type checkers and inside functions included."""
    known = {".".join(p.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in MODULES}
    graph = {}
    for name, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {
                    f"{node.module}.{alias.name}" for alias in node.names if f"{node.module}.{alias.name}" in known
                }
                if any(f"{node.module}.{alias.name}" not in known for alias in node.names):
                    found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[name] = (found & known.keys()) - {name}
    return graph


def circles(graph):
    """Groups of modules each of which needs all others of its group (Tarjan 1972), smallest first."""
    order, low, stack, found = {}, {}, [], []

    def visit(node):
        order[node] = low[node] = len(order)
        stack.append(node)
        for after in sorted(graph[node]):
            if after not in order:
                visit(after)
            if after in stack:
                low[node] = min(low[node], low[after])
        if low[node] == order[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return sorted(found, key=len)


def test_no_modules_import_each_other_in_a_circle():
    assert circles(imported()) == []


def test_a_circle_of_imports_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_a_module_has_at_most_400_lines_and_a_method_120():
    for path in MODULES:
        most = 120 if path.parent.name == "methods" else 400
        length = len(path.read_text(encoding="utf-8").splitlines())
        assert length <= most, f"{short(path)} has {length} lines, the limit is {most}"


def test_a_function_has_at_most_60_lines_and_most_are_short():
    sizes = sorted((n.end_lineno - n.lineno + 1, f"{short(p)}:{n.name}") for p in MODULES for n in functions(p))
    bare = sorted(lines(n) for p in MODULES for n in functions(p))
    assert sizes[-1][0] <= 60, f"{sizes[-1][1]} has {sizes[-1][0]} lines"
    assert bare[len(bare) // 2] <= 10
    assert bare[int(0.9 * len(bare))] <= 35


def test_names_are_the_fields_own_words():
    for path in MODULES:
        assert not re.search(r"(^|_)(utils?|helpers?|base|manager|common|misc)$", path.stem), short(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert not FORBIDDEN.search(node.name), f"{short(path)}: {node.name}"


def test_every_module_says_why_it_exists():
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), short(path)


def test_no_message_says_simply_or_shouts():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                said = "".join(
                    c.value for c in ast.walk(node) if isinstance(c, ast.Constant) and isinstance(c.value, str)
                )
                assert "simply" not in said.lower(), f"{short(path)}:{node.lineno}"
                assert "!" not in said, f"{short(path)}:{node.lineno}"


@pytest.mark.parametrize(("kind", "name", "at"), COMPONENTS, ids=[f"{k}:{n}" for k, n, _ in COMPONENTS])
def test_file_class_and_registry_name_are_one_name(kind, name, at):
    module, _, cls = at.partition(":")
    folder, stem = module.split(".")[1:3]
    if kind != "engine":
        assert kebab(cls) == name
        assert folder == {"selector": "selection", "stop-rule": "stopping"}.get(kind, f"{kind}s")
    assert stem == name.replace("-", "_")
    assert (SOURCE / folder / f"{stem}.py").exists() or (SOURCE / folder / stem / "__init__.py").exists()


@pytest.mark.parametrize("kind", [k for k in BUILT_IN if k != "engine"])
def test_every_component_has_a_row_in_the_table_of_papers(kind):
    rows = [line for line in PAPERS.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    for name, at in BUILT_IN[kind].items():
        file = "/".join(at.partition(":")[0].split(".")[1:]) + ".py"
        assert any(f"`{name}`" in row and f"`{file}`" in row for row in rows), f"`{name}` has no row naming `{file}`"


def test_every_file_of_a_method_is_registered():
    registered = {at.partition(":")[0].rpartition(".")[2] for at in BUILT_IN["method"].values()}
    assert {p.stem for p in (SOURCE / "methods").glob("*.py")} - {"__init__"} == registered
