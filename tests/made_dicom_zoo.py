"""Good, awkward and broken DICOM files, made in code, and a manifest of what a careful program does with each."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gdcm
import numpy as np
from made_images import US, chest_film, dicom, encoded, ultrasound
from PIL import Image as Raster
from pydicom import dcmread
from pydicom.encaps import generate_frames

from core.types import Image

DEFLATED, JPEG, JPEG_12, JPEG_LOSSLESS, JPEG_LS, J2K_LOSSLESS, J2K, RLE, IMPLICIT, BIG_ENDIAN = (
    "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5",
    "1.2.840.10008.1.2", "1.2.840.10008.1.2.2",
)  # fmt: skip
CAPTURE, US_FRAMES, CT, MR, CR, PET = (
    f"1.2.840.10008.5.1.4.1.1.{number}" for number in ("7", "3.1", "2", "4", "1", "128")
)
SHOWN = "decode and show"
REFUSED = "refuse with a clear message, no crash"
WRONG = "refuse: wrong modality"
NOT_BREAST = f"{SHOWN} with a warning: body part not verifiable"
OF_ULTRASOUND: dict[str, Any] = {
    "SOPClassUID": US, "Modality": "US", "ImageLaterality": None, "ViewPosition": None, "PresentationIntentType": None,
}  # fmt: skip
UNKNOWN_PART: dict[str, Any] = {**OF_ULTRASOUND, "BodyPartExamined": None}

Zoo = dict[str, tuple[str, bytes]]


def encoded_frame(stored: np.ndarray, syntax: str) -> bytes:
    """One grey frame as a codestream of a transfer syntax, by GDCM, which knows all of them."""
    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "a.dcm")
        Path(path).write_bytes(dicom(stored))
        reader = gdcm.ImageReader()
        reader.SetFileName(path)
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change(), syntax
        writer = gdcm.ImageWriter()
        writer.SetFileName(path)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        (frame,) = generate_frames(dcmread(path).PixelData, number_of_frames=1)
        return frame


def compressed(stored: np.ndarray, syntax: str, **tags: Any) -> bytes:
    """`dicom` with every frame of `stored`, (H, W) or (N, H, W), in a compressed transfer syntax."""
    frames = [encoded_frame(frame, syntax) for frame in (stored if stored.ndim == 3 else [stored])]
    return dicom(stored, syntax=syntax, frames=frames, **tags)


def twelve_bits(image: Image) -> np.ndarray:
    return np.round(image.pixels * 4095).astype(np.uint16)


def mammograms(exam: tuple[Image, ...]) -> Zoo:
    """The four views R CC, L CC, R MLO, L MLO as vendors write them."""
    rcc, lcc, rmlo, lmlo = (twelve_bits(image) for image in exam)
    window = {"WindowCenter": [2000, 1700, 2300], "WindowWidth": [3600, 3000, 3000], "VOILUTFunction": "SIGMOID"}
    ge = compressed(rmlo, JPEG_LOSSLESS, **window)
    of_film = {"Modality": "RG", "SOPClassUID": CAPTURE, "ImageLaterality": "L", "PresentationIntentType": None}
    film = compressed(lmlo, J2K, **of_film)
    oriented = {"ImageLaterality": None, "Laterality": "R", "ViewPosition": None, "PatientOrientation": ["P", "L"]}
    noise = np.random.default_rng(0).integers(0, 1023, (4, 128, 128)).astype(np.uint16)
    letters = np.zeros((512, 512), np.uint8)
    letters[::32], letters[:, ::64] = 255, 180
    tomosynthesis = dicom(rcc, Modality="CT", SOPClassUID=CT)
    return {
        "mg/mg_ge_rmlo_jpegll_sigmoid.dcm": (SHOWN, ge),
        "mg/film_lmlo_jpeg2000_lossy_modality_RG.dcm": (f"{SHOWN} with a warning: modality RG", film),
        "mg/film_lmlo_jpeg_extended12_modality_RG.dcm": (
            "decode with a warning, or refuse naming 12-bit JPEG extended", compressed(lmlo, JPEG_12, **of_film)
        ),
        "mg/mg_pixel_spacing_test_pattern.dcm": ("warn/refuse: not a mammogram", dicom(letters, bits=8)),
        "mg/mg_dbt_multiframe_noise_j2k.dcm": (
            "multi-frame: pick a frame or refuse; not a breast",
            compressed(noise, J2K_LOSSLESS, bits=10, NumberOfFrames=4),
        ),
        "mg/tomosynthesis_slice_as_CT_truncated_deid.dcm": (REFUSED, tomosynthesis[: len(tomosynthesis) // 7]),
        "mg/cbis_P_00820_R_CC_rle16.dcm": (SHOWN, compressed(rcc, RLE, bits=16, **oriented)),
        "mg_derived/exam0_L_CC_mono2_jpegls.dcm": (
            SHOWN, compressed(lcc, JPEG_LS, ImageLaterality="L", ViewPosition="CC")
        ),
        "mg_derived/exam0_R_CC_MONOCHROME1.dcm": (
            f"{SHOWN}, inverted",
            compressed(4095 - rcc, JPEG_LOSSLESS, ViewPosition="CC", PhotometricInterpretation="MONOCHROME1"),
        ),
        "mg_derived/exam0_L_MLO_no_VOI.dcm": (SHOWN, compressed(lmlo, RLE, ImageLaterality="L")),
        "mg_derived/exam0_R_MLO_for_processing.dcm": (
            f"{SHOWN} or warn (raw image)",
            compressed(4095 - rmlo, JPEG_LS, PhotometricInterpretation="MONOCHROME1",
                             PresentationIntentType="FOR PROCESSING"),
        ),
        "broken/mg_rows_lie.dcm": (REFUSED, dicom(rcc[:64, :64].copy(), Rows=65535)),
        "broken/mg_all_zero.dcm": ("refuse or warn: blank image", dicom(np.zeros((256, 200), np.uint16))),
        "broken/mg_header_only_no_pixels.dcm": (REFUSED, dicom(rcc)[:800]),
        "broken/mg_ge_cut.dcm": (REFUSED, ge[: len(ge) // 2]),
        "broken/j2k_frame_too_short.dcm": (REFUSED, film[:-20000]),
        "broken/png_renamed.dcm": (f"{SHOWN} (content wins over the name)", encoded(exam[1].pixels)),
    }  # fmt: skip


def rgb(seed: int, height: int = 300, width: int = 400) -> np.ndarray:
    grey = np.round(ultrasound(height, width, seed=seed) * 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def jpeg_frame(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Raster.fromarray(pixels).save(out, "JPEG", quality=90)
    return out.getvalue()


def palette(bits: int) -> dict[str, Any]:
    """A grey ramp as a palette, with entries of 16 bits."""
    ramp = np.round(np.linspace(0, 65535, 256)).astype("<u2").tobytes()
    tags: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR", "BitsStored": bits, "HighBit": bits - 1}
    for colour in ("Red", "Green", "Blue"):
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = ramp
    return tags


def ultrasounds() -> Zoo:
    """Nine breasts of eight women, and clips and colour spaces of no known part of the body."""
    files: Zoo = {}
    women = ("0f72b4aa_IM176", "13a7a53c_IM0", "13e2bd3b_IM0", "2079fbf3_IM0", "25abce37_IM4", "25abce37_IM5",
             "62eb1ce5_IM164", "6f032d7b_IM144", "81bbafc2_IM0")  # fmt: skip
    for number, name in enumerate(women):
        tags = {**OF_ULTRASOUND, "PatientID": name.partition("_")[0]}
        files[f"us_breast/uta11_{name}.dcm"] = (SHOWN, dicom(rgb(50 + number), bits=8, **tags))
    files["broken/us_cut_in_half.dcm"] = (REFUSED, dicom(rgb(60), bits=8, **OF_ULTRASOUND)[:150_000])
    grey = rgb(70)[..., 0]
    clip = [jpeg_frame(np.roll(rgb(71, 240, 320), shift, axis=1)) for shift in range(30)]
    of_clip = {**UNKNOWN_PART, "SOPClassUID": US_FRAMES}
    subsampled = {"PhotometricInterpretation": "YBR_FULL_422", "NumberOfFrames": 30}
    two = np.stack([grey, grey[:, ::-1]])
    # YBR_FULL_422 by hand: two luma values, then the chroma of both (PS3.3 C.7.6.3.1.2).
    luma = grey.reshape(300, 200, 2)
    shared = np.concatenate([luma, np.full((300, 200, 2), 128, np.uint8)], axis=2)
    of_colour: dict[str, Any] = {"SamplesPerPixel": 3, "PlanarConfiguration": 0}
    files["us_other/us_ybr422_jpeg_30frames.dcm"] = (
        NOT_BREAST, dicom(rgb(71, 240, 320), syntax=JPEG, frames=clip, bits=8, **of_clip, **subsampled)
    )  # fmt: skip
    files["us_other/us_palette_rle_2frames.dcm"] = (
        NOT_BREAST, compressed(two, RLE, bits=8, **of_clip, NumberOfFrames=2, **palette(8))
    )  # fmt: skip
    files["us_other/us_palette16_implicit.dcm"] = (
        NOT_BREAST, dicom(grey.astype(np.uint16), syntax=IMPLICIT, bits=16, **UNKNOWN_PART, **palette(16))
    )  # fmt: skip
    files["us_other/us_ybr_full_422_uncompressed.dcm"] = (
        NOT_BREAST,
        dicom(grey, bits=8, **UNKNOWN_PART, **of_colour, PhotometricInterpretation="YBR_FULL_422",
              PixelData=shared.tobytes()),
    )  # fmt: skip
    files["us_other/us_rgb_bigendian.dcm"] = (
        NOT_BREAST, dicom(rgb(72), syntax=BIG_ENDIAN, bits=8, **UNKNOWN_PART)
    )  # fmt: skip
    return files


def others() -> Zoo:
    """What is no breast image, and what is no DICOM file or half of one."""
    chest = np.round((1 - chest_film()) * 4095).astype(np.uint16)
    film = dicom(chest, Modality="CR", SOPClassUID=CR, BodyPartExamined="CHEST",
                 PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    slice_ = np.round(ultrasound(128, 128, seed=80) * 2000).astype(np.uint16)
    ct = dicom(slice_, Modality="CT", SOPClassUID=CT, BodyPartExamined="HEAD")
    mr = dicom(slice_, Modality="MR", SOPClassUID=MR)
    pixels = {"PixelData": None, "Rows": None, "Columns": None}
    meta = ct.index(b"DICM") + 4
    without_meta = ct[ct.index(b"\x08\x00\x16\x00UI") :]
    return {
        "wrong_modality/ct_small.dcm": (WRONG, ct),
        "wrong_modality/cr_chest_MONOCHROME1.dcm": (WRONG, film),
        "wrong_modality/mr_small.dcm": (WRONG, mr),
        "wrong_modality/pet_breast.dcm": (WRONG, dicom(slice_, Modality="PT", SOPClassUID=PET)),
        "wrong_modality/sr_report.dcm": (
            REFUSED, dicom(slice_, Modality="SR", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.22", **pixels)
        ),
        "wrong_modality/ecg_waveform_no_pixels.dcm": (
            REFUSED, dicom(slice_, Modality="ECG", SOPClassUID="1.2.840.10008.5.1.4.1.1.9.1.1", **pixels)
        ),
        "wrong_modality/rtdose_32bit.dcm": (WRONG, dicom(slice_.astype(np.uint32), Modality="RTDOSE", bits=32)),
        "wrong_modality/xa_jpegext12.dcm": (WRONG, compressed(slice_, JPEG_12, Modality="XA")),
        "broken/mr_truncated.dcm": (REFUSED, mr[:-20]),
        "broken/no_preamble_no_meta_ct.dcm": (REFUSED, without_meta),
        "broken/meta_missing_transfer_syntax.dcm": (REFUSED, ct[:meta] + without_meta),
        "broken/text_renamed.dcm": (REFUSED, b"not a picture at all\n" * 25),
        "broken/empty.dcm": (REFUSED, b""),
        "broken/preamble_only.dcm": (REFUSED, b"\0" * 128 + b"DICM"),
    }  # fmt: skip


def write_zoo(folder: Path, exam: tuple[Image, ...]) -> None:
    """The files under `folder`, and manifest.csv with the columns file (from the folder above) and expect."""
    rows = []
    for name, (expect, content) in {**mammograms(exam), **ultrasounds(), **others()}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append((f"{folder.name}/{name}", expect))
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "expect"), *rows])
