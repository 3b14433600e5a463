"""What people are to do when an alarm calls: from the operators' page into the workbook.

A mail comes months after the deployment, when nobody has the zip with that page
any more; the workbook is in the same workspace as the alarm. The page is what is
edited. This carries it over:

    python tests/infra/what_to_do.py

The checks hold the two together and change nothing.
"""

import json
import re
from pathlib import Path

INFRA = Path(__file__).resolve().parents[2] / "infra"
PAGE, WORKBOOK = INFRA / "README.md", INFRA / "workbook.json"
PART = "what to do"
HEAD = "## What to do\n\nThe same stands, with more, in `infra/README.md` of the deployment zip. Who has lost the zip asks the central team for it.\n\n"


def anchor(heading: str) -> str:
    return "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def text(page: str) -> str:
    """The chapter "In operation" up to what needs the zip, with words in place of links that lead nowhere there."""
    chapter = page.partition("\n## In operation\n\n")[2].partition("\n### From Cloud Shell")[0]
    here = {anchor(heading) for heading in re.findall(r"^### (.*)$", chapter, re.M)}

    def words(link: re.Match) -> str:
        said, target = link.groups()
        if target in here or target.startswith("https://"):
            return said if target in here else link.group()
        page = target.removeprefix("../").partition("#")[0]
        name = page if target.startswith("../") and page.endswith(".md") else "infra/README.md" if target.startswith("#") else None
        if name is None:
            raise ValueError(f"where does {target} lead in a workbook?")
        return f"{said} (`{name}` of the zip)"

    return HEAD + re.sub(r"\[([^\]]+)\]\(([^)]+)\)", words, chapter).strip() + "\n"


def held() -> str:
    """What the workbook says."""
    return next(item["content"]["json"] for item in json.loads(WORKBOOK.read_text(encoding="utf-8"))["items"] if item["name"] == PART)


def carry() -> None:
    book = json.loads(WORKBOOK.read_text(encoding="utf-8"))
    part = {"type": 1, "content": {"json": text(PAGE.read_text(encoding="utf-8"))}, "name": PART}
    book["items"] = [item for item in book["items"] if item["name"] != PART] + [part]
    WORKBOOK.write_text(json.dumps(book, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    carry()
