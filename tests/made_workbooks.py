"""Workbooks of one sheet, made part by part: a library that writes them would never write these."""

from __future__ import annotations

from made_hostile_files import zip_of

PARTS = ("xl/worksheets/sheet1.xml", "xl/workbook.xml", "xl/sharedStrings.xml", "xl/styles.xml", "[Content_Types].xml")
_SPREADSHEET = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_LINKED = "".join(
    f'<Relationship Id="rId{number}" Type="{_OFFICE}/{kind}" Target="{where}"/>'
    for number, (kind, where) in enumerate(
        [("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml"), ("styles", "styles.xml")], 1
    )
)
HEADER = ("InputFileName", "StudyDate", "StudyTime", "PatientID.x")


def sheet_part(*rows: str) -> str:
    return f"<worksheet {_SPREADSHEET}><sheetData>{''.join(rows)}</sheetData></worksheet>"


def row(number: int, *cells: str) -> str:
    return f'<row r="{number}">{"".join(cells)}</row>'


def cell(place: str, value: str, kind: str = "str", style: str = "") -> str:
    return f'<c r="{place}" t="{kind}"{style}><v>{value}</v></c>'


TITLES = row(1, *(cell(f"{letter}1", name) for letter, name in zip("ABCD", HEADER, strict=True)))
_RELATIONSHIPS = f'xmlns="{_PACKAGE}/relationships"'
_XML = '<Default Extension="xml" ContentType="application/xml"/>'
_SHEETS = '<sheets><sheet name="Cancer" sheetId="1" r:id="rId1"/></sheets>'
_FORMATS = '<xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="21"/>'
_ROOT = f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/>'
WHOLE = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">{_XML}</Types>',
    "_rels/.rels": f"<Relationships {_RELATIONSHIPS}>{_ROOT}</Relationships>",
    "xl/_rels/workbook.xml.rels": f"<Relationships {_RELATIONSHIPS}>{_LINKED}</Relationships>",
    "xl/workbook.xml": f'<workbook {_SPREADSHEET} xmlns:r="{_OFFICE}">{_SHEETS}</workbook>',
    "xl/sharedStrings.xml": f"<sst {_SPREADSHEET}><si><t>FILE0001</t></si><si><r><t>SECRET</t></r></si></sst>",
    "xl/styles.xml": f"<styleSheet {_SPREADSHEET}><cellXfs>{_FORMATS}</cellXfs></styleSheet>",
    "xl/worksheets/sheet1.xml": sheet_part(TITLES),
}


def workbook(changed: dict[str, bytes]) -> bytes:
    """A workbook of one sheet, some of its parts replaced."""
    return zip_of({**{name: text.encode() for name, text in WHOLE.items()}, **changed})
