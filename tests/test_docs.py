"""Every page: nothing left over from writing it, and what it names exists."""

import re
from collections import Counter

import pytest
from conftest import ROOT

from amae.cli import COMMANDS

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
