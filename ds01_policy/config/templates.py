"""Templates: which variables they may use, in what sandbox they are rendered, and what is wrong with one.

Owns the lists of variables. A name that nobody gives is an error at load, never an empty word in a message.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ds01_policy.config.problems import closest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.config.yaml_strict import Document, Path

MESSAGES = ("warning.j2", "stopped.j2")
MAX_LENGTH = 64 * 1024

# What a message can say, by example: the keys are the variables, the values have the shape a template meets.
MESSAGE_EXAMPLE: Mapping[str, Any] = {
    "host": "gpu01",
    "container": {"name": "train", "id": "0123456789ab", "short": "0123456789ab"},  # both the short id
    "owner": "alice",
    "rule": "idle-gpu",
    "summary": "Holds a GPU and has not used it.",
    "why": "idle for 60m: gpu 0.3% < 5%",
    "act_at": "2030-01-31 18:00 UTC",
    "notice": "10m",
    "actions": ["stop", "remove"],
    "keep_alive_path": "/workspace/.keep-alive",  # empty where the rule does not honour the file
    "keep_alive_max": "24h",
    "mounts": ["/home/alice → /workspace"],
    "mode": "enforce",
}
MESSAGE_VARIABLES = frozenset(MESSAGE_EXAMPLE)
# The other way round, so that the other branches of a template are rendered too.
_SPARSE = {"summary": "", "act_at": "", "actions": ["stop"], "keep_alive_path": "", "mounts": [], "mode": "warn"}

_PROMQL = {"uuids": "GPU-0", "ids": ".*(0123456789ab).*"}
_EXAMPLES: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "message": (MESSAGE_EXAMPLE, {**MESSAGE_EXAMPLE, **_SPARSE}),
    "gauge": ({**_PROMQL, "range": "3600s"},),
    "counter": ({**_PROMQL, "offset": "offset 3600s"}, {**_PROMQL, "offset": ""}),
}
# By kind of signal: which templates it has, and what they must use, or every window would show the same samples.
_TEMPLATES = {"gauge": (("expr",), "range"), "counter": (("expr", "time"), "offset")}

# Everything a template can do to itself while it is compiled and rendered.
_RENDERING = (
    TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip

_PLAIN = (nodes.Output, nodes.TemplateData, nodes.Name)  # text and variables, no logic

Flaw = tuple[int, int, str, str]  # line and column in the template, message, suggestion


def environment() -> ImmutableSandboxedEnvironment:
    """Make the sandbox templates are rendered in: plain text, and a name nobody gave is an error."""
    sandbox = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # a terminal and PromQL are no HTML; what goes there is cleaned where it is sent
        trim_blocks=True,
        lstrip_blocks=True,
    )
    del sandbox.globals["range"]  # here it is the name of a window, or of nothing
    return sandbox


@lru_cache(maxsize=256)  # whoever loads many policies, loads the same templates
def flaws(kind: str, source: str) -> tuple[Flaw, ...]:
    """Find what is wrong with a template of a kind (message, gauge, counter): syntax, names, what rendering shows."""
    if len(source) > MAX_LENGTH or not source.strip():
        return ((1, 1, f"longer than {MAX_LENGTH} characters" if source.strip() else "is empty", ""),)
    try:
        return _flaws(environment(), source, _EXAMPLES[kind])
    except TemplateSyntaxError as error:
        return ((error.lineno, 1, f"not a template: {error.message}", ""),)
    except _RENDERING as error:
        return ((1, 1, f"can't be rendered: {error}"[:200], ""),)


def _flaws(
    sandbox: ImmutableSandboxedEnvironment, source: str, examples: tuple[Mapping[str, Any], ...]
) -> tuple[Flaw, ...]:
    tree = sandbox.parse(source)
    plain = all(isinstance(node, _PLAIN) for node in tree.find_all(nodes.Node))
    used = {node.name for node in tree.find_all(nodes.Name)} if plain else meta.find_undeclared_variables(tree)
    undefined = used - set(examples[0])
    if undefined:
        return tuple(_undefined(source, name, tree, examples[0]) for name in sorted(undefined))
    if plain:  # nothing is left that could go wrong, and compiling costs start-up time
        return ()
    template = sandbox.template_class.from_code(sandbox, sandbox.compile(tree), dict(sandbox.globals))
    empty = not all(template.render(example).strip() for example in examples)
    return ((1, 1, "renders to nothing", ""),) if empty else ()


def _undefined(source: str, name: str, tree: nodes.Template, example: Mapping[str, Any]) -> Flaw:
    line = min((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), default=1)
    text = (source.split("\n") + [""] * line)[line - 1]
    word = re.search(rf"\b{re.escape(name)}\b", text)
    message = f"undefined variable {name!r}; there are: {', '.join(sorted(example))}"
    return line, word.start() + 1 if word else 1, message, closest(name, example)


def check_message(text: str, document: Document) -> None:
    """Report what is wrong with a message template; `document` names the file."""
    for line, col, message, suggestion in flaws("message", text):
        document.report("template", (line, col), message, suggestion)


def check_signals(document: Document) -> None:
    """Report what is wrong with the PromQL templates of signals.yaml, as far as its shape can be followed."""
    signals = document.get("signals")
    for name in signals if isinstance(signals, dict) else ():
        kind, queries = document.get("signals", name, "kind"), document.get("signals", name, "queries")
        _check_template("gauge", document, ("signals", name, "frozen"), "changes", "range")
        if kind in ("gauge", "counter") and isinstance(queries, list):
            for index in range(len(queries)):
                _check_query(kind, document, ("signals", name, "queries", index))


def _check_query(kind: str, document: Document, path: Path) -> None:
    keys, needed = _TEMPLATES[kind]
    for key in keys:
        _check_template(kind, document, path, key, needed)


def _check_template(kind: str, document: Document, path: Path, key: str, needed: str) -> None:
    source, at = document.get(*path, key), document.at((*path, key))
    found = flaws(kind, source) if isinstance(source, str) else ()
    for _, _, message, suggestion in found:
        document.report("template", at, message, suggestion)
    if isinstance(source, str) and not found and not re.search(rf"\{{\{{-?\s*{needed}\b", source):
        message = f"does not use {{{{ {needed} }}}}, so every window would show the same samples"
        document.report("template", at, message)
