"""A folder like that of the real test images, made in code, for whoever does not have them.

Same layout, same columns, same file names where a test names one; every picture is a phantom. What holds for any
picture is tested on it; what is measured on real images is not (`real_data`).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from made_dicom_zoo import write_zoo
from made_hostile_files import write_corpus
from made_images import encoded, mammogram, tissue, ultrasound
from PIL import Image as Raster
from scipy import ndimage
from scipy.stats import norm
from sklearn.metrics import average_precision_score, brier_score_loss

from core.demo.phantoms import mammogram_exam
from core.types import Image

BUSI = {"benign": 110, "malignant": 55, "normal": 35}
COPIES = 24
"""Pictures that are there four times: as they are, twice changed a little, and once byte for byte."""
READERS = tuple(f"reader_{number:02d}" for number in range(1, 15))
MODELS = ("gmic_top5", "gmic_top1", "glam", "dmvcnn", "frcnn", "end2end_inbreast", "end2end_ddsm")


def make_test_data(folder: Path) -> Path:
    """Write `data/` and `corpus/` into an empty folder (about 400 files, some seconds)."""
    data = folder / "data"
    exam = mammogram_exam()
    write_ultrasound(data)
    write_mammography(data, exam)
    write_histology(data)
    write_reader_study(data / "reader_study")
    write_zoo(data / "dicom", exam)
    write_corpus(folder / "corpus")
    return folder


def write(path: Path, content: bytes) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return content


def write_rows(data: Path, folder: str, rows: list[dict[str, str]]) -> None:
    """The manifest of one kind, with the md5 of each file."""
    for row in rows:
        row["md5"] = hashlib.md5((data / row["file"]).read_bytes(), usedforsecurity=False).hexdigest()
    pd.DataFrame(rows).fillna("").to_csv(data / folder / "manifest.csv", index=False)


def changed(pixels: np.ndarray, number: int) -> bytes:
    """A picture's copy: itself, darker, larger and compressed once, or itself again."""
    if number == 1:
        return encoded(0.9 * pixels)
    if number == 2:
        small = Raster.fromarray(np.round(pixels * 255).astype(np.uint8))
        out = io.BytesIO()
        small.resize((round(1.2 * small.width), round(1.2 * small.height))).save(out, "JPEG", quality=85)
        return encoded(np.asarray(Raster.open(io.BytesIO(out.getvalue())), np.float32) / 255)
    return encoded(pixels)


def busi_labels() -> Iterator[tuple[int, int, str]]:
    """Group, number of the copy in it, label."""
    labels = [label for label, n in BUSI.items() for _ in range(n)]
    group = 0
    while labels:
        label = labels[group * 7 % len(labels)]
        n = min(4 if group < COPIES else 1, labels.count(label))
        for copy in range(n):
            labels.remove(label)
            yield group, copy, label
        group += 1


def write_ultrasound(data: Path) -> None:
    """200 BUSI-like pictures in groups of look-alikes, 6 of them alike with another label, and 3 of another site."""
    rows: list[dict[str, str]] = []
    numbers = dict.fromkeys(BUSI, 0)
    for group, copy, label in busi_labels():
        numbers[label] += 1
        file = f"ultrasound/busi/{label}/{label}_{numbers[label]}.png"
        write(data / file, changed(ultrasound(180, 240, seed=group), copy))
        rows.append({"file": file, "label": label, "source": "BUSI", "group": f"busi_g{group:04d}"})
    singles = [row for row in rows if int(row["group"][-4:]) >= COPIES]
    benign, malignant = ([row for row in singles if row["label"] == label][:3] for label in ("benign", "malignant"))
    for one, other in zip(benign, malignant, strict=True):
        one["label_conflict_with"], other["label_conflict_with"] = other["file"], one["file"]
        other["group"] = one["group"]
        write(data / other["file"], encoded(0.95 * np.asarray(Raster.open(data / one["file"]), np.float32) / 255))
    for number in range(3):
        file = f"ultrasound/bus_uc/{number}.png"
        write(data / file, encoded(ultrasound(256, 256, seed=1000 + number)))
        rows.append({"file": file, "label": "malignant", "source": "BUS-UC", "group": f"uc_{number}"})
    write_rows(data, "ultrasound", rows)


def film(seed: int) -> np.ndarray:
    """A breast of its own size and place on a film, with tissue of its own, facing right or left by turns."""
    rng = np.random.default_rng(seed)
    height, width = (int(rng.integers(*bounds)) for bounds in ((300, 460), (220, 330)))
    pixels = mammogram(height, width, seed=seed)
    uneven = ndimage.gaussian_filter(rng.normal(size=pixels.shape), 22)
    pixels = np.clip(pixels * (1 + 0.35 * uneven / uneven.std()), 0, 1)
    top, bottom, beside = (int(most) for most in rng.integers(0, (60, 60, 80)))
    pixels = np.pad(pixels, ((top, bottom), (0, beside)))
    return np.ascontiguousarray(pixels if seed % 2 else pixels[:, ::-1]).astype(np.float32)


def write_mammography(data: Path, exam: tuple[Image, ...]) -> None:
    """24 films of 12 women, and an exam of four views in 16-bit files that hold 12 bits, right breasts mirrored."""
    rows: list[dict[str, str]] = []
    for number in range(1, 25):
        file = f"mammography/mias/mdb{number:03d}.png"
        write(data / file, encoded(film(number)))
        label = ("normal", "normal", "benign", "malignant")[number % 4]
        row = {"file": file, "label": label, "source": "mini-MIAS", "patient": f"mias_p{(number + 1) // 2:03d}"}
        rows.append({**row, "laterality": "LR"[number % 2], "view": "MLO"})
    for image in exam:
        file = f"mammography/nyu_gmic_exam0_16bit/{image.laterality}_{image.view}.png"
        write(data / file, encoded(image.pixels, bits=12))
        row = {"file": file, "label": "", "source": "made exam", "patient": "exam0"}
        rows.append({**row, "laterality": image.laterality or "", "view": image.view or ""})
    write_rows(data, "mammography", rows)


def write_histology(data: Path) -> None:
    """Tiles whose names say patient and label as those of BreakHis and IDC do, and a manifest that says the same."""
    rows: list[dict[str, str]] = []
    for number in range(32):
        letter, label, subtype = (("B", "benign", "F"), ("M", "malignant", "DC"))[number % 2]
        slide = f"{20000 + number // 4}{'AB' if number % 3 else ''}"
        magnification = ("40", "100", "200", "400")[number // 8]
        patient = {"label": label, "patient": f"breakhis_14-{20000 + number // 4}", "source": "BreakHis"}
        tile = encoded(tissue(96, seed=number))
        name = f"SOB_{letter}_{subtype}-14-{slide}-{magnification}-{number:03d}.png"
        patch = f"SOB_{letter}_{subtype}_14-{slide}_{number}.png"
        for file in (f"breakhis/{magnification}X/{name}", f"breakhis_patch224/{patch}"):
            write(data / "histopathology" / file, tile)
            rows.append({"file": f"histopathology/{file}", **patient})
        person, is_cancer = 10250 + number // 6, number % 2
        file = (
            f"histopathology/idc/{person}/{person}_idx5_x{51 + 50 * number}_y{101 + 50 * number}_class{is_cancer}.png"
        )
        write(data / file, encoded(tissue(50, seed=100 + number)))
        rows.append({"file": file, "label": ("non_idc", "idc")[is_cancer], "patient": f"idc_{person}", "source": "IDC"})
    write_rows(data, "histopathology", rows)


def write_reader_study(folder: Path) -> None:
    """1,440 breasts of 720 women, 61 with cancer: readers with coarse and tied scores, models with fine ones."""
    rng = np.random.default_rng(2)
    labels = np.zeros(1440, bool)
    labels[rng.choice(1440, 61, replace=False)] = True
    evidence = rng.normal(1.6 * labels, 1)  # what the picture itself shows to everyone
    table = pd.DataFrame({
        "case": [f"{number // 2}-{'LR'[number % 2]}" for number in range(1440)],
        "patient": np.arange(1440) // 2,
        "laterality": ["LR"[number % 2] for number in range(1440)],
        "label": labels.astype(int),
    })  # fmt: skip
    for number, name in enumerate(READERS):
        seen = evidence + rng.normal(0, 0.5 + 0.08 * number, 1440)
        table[name] = np.round(np.clip((seen - 0.8) / 4, 0, 1), 2 if number % 3 else 1)
    for name, noise in zip(MODELS, (0.2, 0.5, 0.9, 2.4, 1.5, 2.0, 9.0), strict=True):
        table[name] = 1 / (1 + np.exp(3.2 - 1.3 * (evidence + rng.normal(0, noise, 1440))))
    folder.mkdir(parents=True)
    table.to_csv(folder / "scores.csv", index=False)
    (folder / "golden.json").write_text(json.dumps(golden_values(pd.read_csv(folder / "scores.csv")), indent=1))


def golden_values(table: pd.DataFrame) -> dict[str, object]:
    """What the product must find in the table, computed in the slow way: every pair of cases compared.

    DeLong's variances from the placement of each case (DeLong, DeLong and Clarke-Pearson 1988); the rest by
    scikit-learn.
    """
    labels = table["label"].to_numpy().astype(bool)
    placements: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    scorers: dict[str, dict[str, float]] = {}
    for name in ("reader_01", "reader_04", "reader_07", "reader_14", *MODELS):
        scores = table[name].to_numpy()
        positive, negative = scores[labels][:, None], scores[~labels][None, :]
        won = (positive > negative) + 0.5 * (positive == negative)
        of_positives, of_negatives = placements[name] = won.mean(1), won.mean(0)
        variance = of_positives.var(ddof=1) / of_positives.size + of_negatives.var(ddof=1) / of_negatives.size
        scorers[name] = {
            "auc": float(won.mean()),
            "delong_se": float(np.sqrt(variance)),
            "average_precision": float(average_precision_score(labels, scores)),
            "brier": float(brier_score_loss(labels, scores)),
        }
    pairs: dict[str, dict[str, float]] = {}
    for one, other in (("gmic_top5", "dmvcnn"), ("gmic_top5", "gmic_top1"), ("reader_04", "gmic_top5")):
        variance = sum((a - b).var(ddof=1) / a.size for a, b in zip(placements[one], placements[other], strict=True))
        difference, error = scorers[one]["auc"] - scorers[other]["auc"], float(np.sqrt(variance))
        z = difference / error
        pairs[f"{one} vs {other}"] = {"difference": difference, "se": error, "z": z, "p": float(2 * norm.sf(abs(z)))}
    return {"n": len(table), "positives": int(labels.sum()), "scorers": scorers, "pairs": pairs}
