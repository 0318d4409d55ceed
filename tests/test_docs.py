"""Every page: nothing left over from writing it, and what it names exists."""

import re
from collections import Counter

import pytest
from conftest import ROOT

from amae.cli import COMMANDS, main

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "config/README.md", ROOT / "results/README.md"]
PLACEHOLDER = re.compile(r"@@|\bTODO\b|\bFIXME\b|\bTBD\b|\bXXX\b")
OURS = re.compile(r"`((?:amae|benchmarks|config|docs|tests|workflow)/[\w./-]+\.\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_is_whole(page):
    text = page.read_text(encoding="utf-8")
    assert not PLACEHOLDER.findall(text)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    repeated = Counter(line for line in prose.splitlines() if re.match(r"#|\w.{60}", line))
    assert not [line for line, times in repeated.items() if times > 1]
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in link}
    assert not [link for link in links if not (page.parent / link).exists()]
    assert not [name for name in OURS.findall(text) if not (ROOT / name).exists()]
    assert set(re.findall(r"`(?:uv run )?amae ([a-z][\w-]+)", text)) <= set(COMMANDS)


def test_every_option_in_a_page_a_message_or_a_rule_exists(capsys, monkeypatch):
    """Of each `amae COMMAND ...`, in lines that are continued and strings that are broken too."""
    monkeypatch.setenv("COLUMNS", "400")
    files = [*PAGES, *ROOT.glob("amae/**/*.py"), *ROOT.glob("workflow/rules/*.smk")]
    texts = {file.relative_to(ROOT): file.read_text(encoding="utf-8") for file in files}
    used = {}
    for file, text in texts.items():
        joined = re.sub(r'\\\n|"\n\s*f?"', " ", text)
        for command, rest in re.findall(r"\bamae +([a-z][\w-]+)([^`\n]*)", joined):
            if command in COMMANDS:
                for option in re.findall(r" (--[a-z][\w.-]*)", rest):
                    used.setdefault(command, {})[option] = file
    assert len(used) > 30
    for command, options in used.items():
        assert main([command, *(["detector"] if command == "compare" else []), "--help"]) == 0
        known = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out)) | {"--help"}
        assert not {option: file for option, file in options.items() if option not in known}, command
