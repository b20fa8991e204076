"""Long reports of jsonargparse about a configuration, told in one line."""

import re

# What jsonargparse reports, and how it is told in a line.
_REPORTS = (
    (
        r"Importing '([^']+)' is not allowed",
        "{where}: expected a class of face_lightning, torch.optim or lightning.pytorch, got {0}, whose code would run; "
        "add --allow-code if you trust this configuration",
    ),
    (r"Option '([^']+)' is not accepted", "{where}: expected a known option, got {0!r}; correct its name"),
    (r"does not accept option '([^']+)'", "{0}: no such option; correct its name, see face fit --help"),
    (r"unrecognized arguments: (.*)", "{0}: no such option; correct its name, see face fit --help"),
    (r"arguments are required: (.*)", "{0}: expected, but not given; name a file with --config FILE"),
    (
        r"Expected a dot import path string: (\S+)",
        "{where}: expected the name of a class, got {0!r}; correct it, or give the whole path package.module.Class",
    ),
    (r"Expected a path but (\S+) either not", "{where}: expected a file, but there is no {0}; correct the path"),
    (r"Path is not a file: '?([^']+)", "{where}: expected a file, but {0} is a folder; correct the path"),
    (r"Unexpected config:(.*)", "config: expected options by name, got {0!r:.60}; correct the file"),
    (r"File does not exist: '?([^']+)", "{where}: expected a file, but there is no {0}; correct the path"),
    (r"Problems parsing config: (.*)", "config: expected YAML, but {0}; correct the file"),
)


def condense(report: str) -> str:
    """Find the argument, what was expected, what came and the cure.

    Args:
        report: What jsonargparse says, over many lines.

    Returns:
        One line.
    """
    report = " ".join(report.split())
    where = ".".join(key for key in re.findall(r'[Pp]arser key "([^"]+)"', report)) or "arguments"
    if "Problem with given class_path" in report:  # the rest tells that nothing at all would do as well
        report = report.partition(" - Expected a <class 'NoneType'>")[0]
    for pattern, meaning in _REPORTS:
        found = re.search(pattern, report)
        if found is not None:
            return meaning.format(*found.groups(), where=where)
    expected = re.findall(r"Expected an? (?:<class '(\w+)'>|typing\.(Literal\[[^]]*\]))", report)
    given = re.search(r"(?:Got|Given) value: (.*)", report)
    if expected and given is not None:
        kinds = " or ".join((kind or choice).replace("NoneType", "null") for kind, choice in expected)
        return f"{where}: expected {kinds}, got {given[1]:.80}; correct the value"
    return f"{report:.400}; see face fit --help"
