"""Templates: which variables they may use, in what sandbox they are rendered, and what is wrong with one.

Owns the lists of variables. A name that nobody gives is an error at load, never an empty word in a message.
"""

from __future__ import annotations

import re
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
    "keep_alive_path": "/workspace/.keep-alive",
    "keep_alive_max": "24h",
    "mounts": ["/home/alice → /workspace"],
    "mode": "enforce",
}
MESSAGE_VARIABLES = frozenset(MESSAGE_EXAMPLE)

# By kind of signal: what its PromQL can use; the last one must be used, or every window would show the same samples.
SIGNAL_EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "gauge": {"uuids": "^(GPU-0)$", "ids": ".*(0123456789ab).*", "range": "3600s"},
    "counter": {"uuids": "^(GPU-0)$", "ids": ".*(0123456789ab).*", "offset": "offset 3600s"},
}

# Everything a template can do to itself while it is compiled and rendered.
_RENDERING = (
    TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip

_PLAIN = (nodes.Output, nodes.TemplateData, nodes.Name)  # text and variables, no logic

Flaw = tuple[int, int, str, str]  # line and column in the template, message, suggestion


def environment() -> ImmutableSandboxedEnvironment:
    """Make the sandbox all templates are rendered in: plain text, and a name nobody gave is an error."""
    return ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        autoescape=False,  # a terminal and PromQL are no HTML; what goes there is cleaned where it is sent
        trim_blocks=True,
        lstrip_blocks=True,
    )


def flaws(sandbox: ImmutableSandboxedEnvironment, source: str, example: Mapping[str, Any]) -> list[Flaw]:
    """Find what is wrong with a template: its syntax, names nobody gives, and what rendering the example shows."""
    if len(source) > MAX_LENGTH or not source.strip():
        return [(1, 1, f"longer than {MAX_LENGTH} characters" if source.strip() else "is empty", "")]
    try:
        return _flaws(sandbox, source, example)
    except TemplateSyntaxError as error:
        return [(error.lineno, 1, f"not a template: {error.message}", "")]
    except _RENDERING as error:
        return [(1, 1, f"can't be rendered: {error}"[:200], "")]


def _flaws(sandbox: ImmutableSandboxedEnvironment, source: str, example: Mapping[str, Any]) -> list[Flaw]:
    tree = sandbox.parse(source)
    plain = all(isinstance(node, _PLAIN) for node in tree.find_all(nodes.Node))
    used = {node.name for node in tree.find_all(nodes.Name)} if plain else meta.find_undeclared_variables(tree)
    undefined = used - set(example)
    if undefined:
        return [_undefined(source, name, tree, example) for name in sorted(undefined)]
    if plain:  # nothing is left that could go wrong, and compiling costs start-up time
        return []
    template = sandbox.template_class.from_code(sandbox, sandbox.compile(tree), dict(sandbox.globals))
    return [] if template.render(example).strip() else [(1, 1, "renders to nothing", "")]


def _undefined(source: str, name: str, tree: nodes.Template, example: Mapping[str, Any]) -> Flaw:
    line = min((node.lineno for node in tree.find_all(nodes.Name) if node.name == name), default=1)
    word = (
        re.search(rf"\b{re.escape(name)}\b", source.split("\n")[line - 1]) if line <= source.count("\n") + 1 else None
    )
    message = f"undefined variable {name!r}; there are: {', '.join(sorted(example))}"
    return line, word.start() + 1 if word else 1, message, closest(name, example)


def check_message(sandbox: ImmutableSandboxedEnvironment, text: str, document: Document) -> None:
    """Report what is wrong with a message template; `document` names the file."""
    for line, col, message, suggestion in flaws(sandbox, text, MESSAGE_EXAMPLE):
        document.report("template", (line, col), message, suggestion)


def check_signals(sandbox: ImmutableSandboxedEnvironment, document: Document) -> None:
    """Report what is wrong with the PromQL templates of signals.yaml, as far as its shape can be followed."""
    signals = document.get("signals")
    for name in signals if isinstance(signals, dict) else ():
        example = SIGNAL_EXAMPLES.get(str(document.get("signals", name, "kind")), {})
        queries = document.get("signals", name, "queries")
        for index in range(len(queries)) if example and isinstance(queries, list) else ():
            for key in ("expr", "time") if "offset" in example else ("expr",):
                _check_promql(sandbox, document, ("signals", name, "queries", index, key), example)


def _check_promql(
    sandbox: ImmutableSandboxedEnvironment, document: Document, path: Path, example: Mapping[str, str]
) -> None:
    source = document.get(*path)
    if not isinstance(source, str):
        return
    found = flaws(sandbox, source, example)
    for _, _, message, suggestion in found:
        document.report("template", document.at(path), message, suggestion)
    *_, needed = example
    if not found and not _uses(source, needed):
        message = f"does not use {{{{ {needed} }}}}, so every window would show the same samples"
        document.report("template", document.at(path), message)


def _uses(source: str, name: str) -> bool:
    return re.search(rf"\{{\{{-?\s*{name}\b", source) is not None
