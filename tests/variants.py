"""The variants of the corpus that are DICOM files, kind by kind."""

import io
import struct
import warnings
from collections.abc import Iterator

import numpy as np
import pydicom
import variants_files as files
from corpus import (
    ANY,
    AS_PYDICOM,
    BYTES,
    CUT,
    FORMATS,
    GREY,
    JPEG,
    LOSSY,
    PICTURES,
    REFUSED,
    SIZE,
    SMALL,
    SYNTAX,
    Variant,
    both,
    dataset,
    encapsulated,
    flipped,
    frame_of,
    full,
    linear,
    lut,
    saved,
)
from scipy.special import expit

META = 132  # bytes before the first element


def variants() -> list[Variant]:
    """The whole corpus."""
    makers = [
        undamaged,
        truncated,
        flipped_bytes,
        aborting,
        lengths,
        contradictions,
        shown,
        depths,
        colours,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is wrong on purpose
        return [variant for maker in [*makers, *files.MAKERS] for variant in maker()]


def undamaged() -> Iterator[Variant]:
    """Every format that can be read."""
    for name, content in FORMATS.items():
        lossy = name in ("JPEG baseline", "JPEG extended")
        minmax, voi = (SMALL, full(BYTES)) if lossy else (full(GREY), full(GREY))
        yield Variant("undamaged", f"{name}.dcm", content, minmax, voi, LOSSY if lossy else 1)
    for name, content in PICTURES.items():
        seen = full(GREY) if name == "PNG 16 bit" else SMALL
        yield Variant("undamaged", f"{name}.picture", content, seen, seen, LOSSY if "JPEG" in name else 1)


def truncated() -> Iterator[Variant]:
    """Every format at every tenth of the file, and codestreams that end early in files that are whole."""
    for name, content in (FORMATS | PICTURES).items():
        for tenth in range(10):
            cut = content[: len(content) * tenth // 10]
            yield both("truncated file", f"{name} {tenth}.dcm", cut, CUT)
    for name, syntax in SYNTAX.items():
        frame, stored = frame_of(FORMATS[name]), BYTES if name == "JPEG baseline" else GREY
        for tenth in (2, 5, 8):
            cut = encapsulated(frame[: len(frame) * tenth // 20 * 2], syntax, stored)
            yield both("truncated codestream", f"{name} {tenth}.dcm", cut, CUT)


def flipped_bytes() -> Iterator[Variant]:
    """Bytes changed at random: in headers, in plain pixels, in codestreams, in pictures."""
    for name in ("explicit", "implicit"):
        content = FORMATS[name]
        header = len(content) - GREY.nbytes
        for seed in range(15):
            changed = bytearray(content)
            changed[META:header] = flipped(content[META:header], seed, 0)
            yield both("flipped in the header", f"{name} {seed}.dcm", bytes(changed), AS_PYDICOM)
        for seed in range(5):
            changed = flipped(content, seed, header)
            stored = np.frombuffer(changed[header:], "<u2").reshape(GREY.shape) & 0xFFF
            yield both("flipped in plain pixels", f"{name} {seed}.dcm", changed, full(stored))
    for name in ("RLE", "JPEG-LS", "JPEG 2000", "JPEG lossless", "JPEG baseline", "deflated"):
        content = FORMATS[name]
        for seed in range(5):
            changed = flipped(content, seed, len(content) // 2)
            yield both("flipped in a codestream", f"{name} {seed}.dcm", changed, ANY)
    for seed in range(5):
        yield both("flipped in a JPEG", f"JPEG {seed}.jpg", flipped(JPEG, seed, 20), ANY)
        changed = flipped(PICTURES["PNG"], seed, 8)
        yield both("flipped in a PNG", f"PNG {seed}.png", changed, "corrupt|expected")


def aborting() -> Iterator[Variant]:
    """Damaged tables of a lossless JPEG at which GDCM aborts the process that it runs in."""
    content = FORMATS["JPEG lossless"]
    start = content.index(b"\xff\xd8\xff")
    for seed in (11, 29, 69, 81, 117):
        changed = flipped(content[start : start + 120], seed, 0)
        damaged = content[:start] + changed + content[start + 120 :]
        yield both(
            "decoder aborts", f"JPEG lossless {seed}.dcm", damaged, "corrupt: cannot be decoded as .*JPEG Lossless"
        )


def lengths() -> Iterator[Variant]:
    """Lengths of elements and fragments that are not those of what follows."""
    kind, content = "wrong length", FORMATS["explicit"]
    at = content.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    for name, value, outcome in (
        ("pixels longer", GREY.nbytes + 100, full(GREY)),
        ("pixels far longer", 0xFFFFFFF0, full(GREY)),
        ("pixels shorter", GREY.nbytes - 1000, CUT),
        ("pixels odd", GREY.nbytes - 1, CUT),
        ("pixels none", 0, CUT),
        ("pixels undefined", 0xFFFFFFFF, CUT),
    ):
        yield both(kind, f"{name}.dcm", content[:at] + struct.pack("<I", value) + content[at + 4 :], outcome)
    for keyword, tag in (("Rows", b"\x28\x00\x10\x00US"), ("BitsStored", b"\x28\x00\x01\x01US")):
        at = content.index(tag) + 6
        for value in (0, 1, 4, 65535):
            changed = content[:at] + struct.pack("<H", value) + content[at + 2 :]
            yield both(kind, f"{keyword} {value}.dcm", changed, REFUSED)
    for name in SYNTAX:
        content = FORMATS[name]
        first = content.index(b"\xfe\xff\x00\xe0", content.index(b"\xe0\x7f\x10\x00"))
        at = content.index(b"\xfe\xff\x00\xe0", first + 4) + 4
        right = struct.unpack_from("<I", content, at)[0]
        minmax, voi = (SMALL, full(BYTES)) if name == "JPEG baseline" else (full(GREY), full(GREY))
        for words, value in (("longer", right + 50), ("huge", 0x7FFFFFFF)):  # all of the frame is there
            changed = content[:at] + struct.pack("<I", value) + content[at + 4 :]
            yield Variant("wrong fragment length", f"{name} {words}.dcm", changed, minmax, voi, LOSSY)
        for words, value in (("half", right // 2), ("none", 0)):
            changed = content[:at] + struct.pack("<I", value) + content[at + 4 :]
            yield both("wrong fragment length", f"{name} {words}.dcm", changed, CUT)


def contradictions() -> Iterator[Variant]:
    """Elements that are missing, or contradict each other or the pixels."""
    kind = "header"
    for keyword in (
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        "SamplesPerPixel",
    ):
        yield both(kind, f"no {keyword}.dcm", saved(dataset(**{keyword: None})), f"{keyword} is missing")
    yield both(kind, "no photometric.dcm", saved(dataset(PhotometricInterpretation=None)), "not a grey image.*missing")
    yield both(kind, "no HighBit.dcm", saved(dataset(HighBit=None)), full(GREY))
    yield both(kind, "no pixels.dcm", saved(dataset(PixelData=None)), "no pixel data")
    yield both(kind, "empty pixels.dcm", saved(dataset(PixelData=b"")), CUT)
    for elements, reason in (
        ({"BitsStored": 20}, "BitsAllocated 16, BitsStored 20"),
        ({"BitsStored": 0}, "BitsStored 0"),
        ({"BitsAllocated": 8}, "BitsAllocated 8, BitsStored 12"),
        ({"BitsAllocated": 12}, "BitsAllocated 12"),
        ({"BitsAllocated": 64}, "BitsAllocated 64"),
        ({"HighBit": 15}, "HighBit 15 contradicts BitsStored 12"),
        ({"HighBit": 7}, "HighBit 7 contradicts BitsStored 12"),
        ({"PixelRepresentation": 7}, "cannot be decoded"),
        ({"SamplesPerPixel": 3}, "not a grey image"),
        ({"Rows": 0}, "0 x 64 pixels"),
        ({"Columns": 0}, "64 x 0 pixels"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels"),
        ({"Rows": 2 * SIZE}, CUT),
        ({"Rows": SIZE // 2}, "PixelData contains 8192 bytes"),
        ({"Columns": SIZE // 2}, "PixelData contains 8192 bytes"),
        ({"NumberOfFrames": 2, "Rows": SIZE // 2}, "multi-frame image"),
        ({"NumberOfFrames": 0}, "multi-frame image"),
        ({"PhotometricInterpretation": "MONOCHROME3"}, "not a grey image"),
    ):
        name = ", ".join(f"{keyword} {value}" for keyword, value in elements.items())
        yield both(kind, f"{name}.dcm", saved(dataset(**elements)), reason)
    for keyword in ("FloatPixelData", "DoubleFloatPixelData"):
        values = GREY.astype("f4" if keyword[0] == "F" else "f8").tobytes()
        yield both(kind, f"{keyword}.dcm", saved(dataset(PixelData=None, **{keyword: values})), "floating point")
    syntaxes = {"unknown": "1.2.840.10008.1.2.9", "no UID": "1.2.840.10008.abcde", "MPEG2": "1.2.840.10008.1.2.4.100"}
    for name, uid in syntaxes.items():
        if name == "MPEG2":
            yield both(kind, "MPEG2.dcm", encapsulated(b"1234", uid), "no decoder for .*MPEG2")
            continue
        changed = FORMATS["explicit"].replace(b"1.2.840.10008.1.2.1\0", uid.encode() + b"\0")
        yield both(kind, f"{name} syntax.dcm", changed, "no decoder for transfer syntax")
    buffer = io.BytesIO()
    bare = dataset()
    del bare.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(buffer, bare, implicit_vr=True, little_endian=True)
    preamble = buffer.getvalue() if buffer.getvalue()[128:132] == b"DICM" else bytes(128) + b"DICM" + buffer.getvalue()
    yield both(kind, "no syntax.dcm", preamble, "TransferSyntaxUID is missing|corrupt")
    yield both(kind, "no preamble.dcm", FORMATS["explicit"][132:], "not a DICOM")
    junk = dataset()
    junk.add_new(0x00091001, "OB", bytes(10**6))
    yield both(kind, "private junk.dcm", saved(junk), full(GREY))
    sequence = lut(0, GREY[0], 12)
    for _ in range(200):
        item = pydicom.Dataset()
        item.VOILUTSequence = sequence
        sequence = pydicom.Sequence([item])
    yield both(
        kind,
        "nested 200 deep.dcm",
        saved(dataset(SourceImageSequence=sequence)),
        full(GREY),
    )


def shown() -> Iterator[Variant]:
    """How stored values are to be shown: rescale, windows, LUTs, padding, inversion."""
    plain, values = full(GREY), GREY.astype(float)

    def variant(name: str, voi: np.ndarray | str, minmax: np.ndarray | str = plain, **elements: object) -> Variant:
        return Variant("grey levels", f"{name}.dcm", saved(dataset(**elements)), minmax, voi)

    yield variant("slope negative", full(GREY, inverted=True), RescaleSlope=-1, RescaleIntercept=4095)
    yield variant("slope 0", "RescaleSlope is 0", RescaleSlope=0, RescaleIntercept=0)
    yield variant("slope alone", plain, RescaleSlope=3)
    rescaled = linear(values * 2.5 - 1000, 3000, 4000)
    yield variant("rescaled", rescaled, RescaleSlope=2.5, RescaleIntercept=-1000, WindowCenter=3000, WindowWidth=4000)
    yield variant("window", linear(values, 1500, 900), WindowCenter=1500, WindowWidth=900)
    yield variant("windows", linear(values, 1500, 900), WindowCenter=[1500, 9], WindowWidth=[900, 3])
    yield variant("window empty", plain, WindowCenter="", WindowWidth="")
    yield variant("center alone", plain, WindowCenter=1500)
    yield variant("width 1", 255.0 * (GREY > 1999.5), WindowCenter=2000, WindowWidth=1)
    for width in (0, -5, 0.5):
        yield variant(f"width {width}", "WindowWidth .* is too small", WindowCenter=1500, WindowWidth=width)
    exact = 255 * np.clip((values - 1500) / 900 + 0.5, 0, 1)
    yield variant("exact", exact, WindowCenter=1500, WindowWidth=900, VOILUTFunction="LINEAR_EXACT")
    sigmoid = 255 * expit(4 * (values - 1500) / 900)
    yield variant("sigmoid", sigmoid, WindowCenter=1500, WindowWidth=900, VOILUTFunction="SIGMOID")
    yield variant("function", "VOILUTFunction", WindowCenter=1500, WindowWidth=900, VOILUTFunction="CUBIC")
    yield variant("outside", "constant image.*WindowCenter", WindowCenter=9000, WindowWidth=10)
    for name, keyword, old, new in (
        ("slope word", "RescaleSlope", b"1.5 ", b"abc "),
        ("slope nan", "RescaleSlope", b"1.5 ", b"nan "),
        ("width word", "WindowWidth", b"900 ", b"wide"),
    ):
        elements = {"RescaleSlope": "1.5 ", "RescaleIntercept": 0, "WindowCenter": 1500, "WindowWidth": "900 "}
        changed = saved(dataset(**elements), lambda content, old=old, new=new: content.replace(old, new))
        yield Variant("grey levels", f"{name}.dcm", changed, plain, f"{keyword} is not")

    table = (np.arange(4096) ** 2 // 4096).astype(int)
    by_table = 255 * table[GREY] / 4095
    yield variant("LUT", by_table, VOILUTSequence=lut(0, table, 12))
    yield variant("LUT and window", by_table, VOILUTSequence=lut(0, table, 12), WindowCenter=9, WindowWidth=2)
    late = 255 * table[np.clip(GREY.astype(int) - 500, 0, 2000)] / 4095
    yield variant("LUT late", late, VOILUTSequence=lut(500, table[:2001], 12))
    yield variant("LUT 8 bit", 255 * (table // 16)[GREY] / 255, VOILUTSequence=lut(0, table // 16, 8))
    yield variant("LUT none", plain, VOILUTSequence=[])
    yield variant(
        "LUT short", "VOILUTSequence: LUTDescriptor says 5000", VOILUTSequence=lut(0, table, 12, entries=5000)
    )
    yield variant(
        "LUT long", 255 * table[np.minimum(GREY, 2999)] / 4095, VOILUTSequence=lut(0, table, 12, entries=3000)
    )
    for bits in (0, 20):
        yield variant(f"LUT {bits} bits", "VOILUTSequence", VOILUTSequence=lut(0, table, bits))
    for keyword in ("LUTDescriptor", "LUTData"):
        sequence = lut(0, table, 12)
        delattr(sequence[0], keyword)
        yield variant(f"no {keyword}", "VOILUTSequence lacks", VOILUTSequence=sequence)
    modality = {"ModalityLUTSequence": lut(0, table, 12)}
    yield variant("modality LUT", linear(table[GREY], 1000, 1800), **modality, WindowCenter=1000, WindowWidth=1800)
    short = {"ModalityLUTSequence": lut(0, table, 12, entries=5000)}
    yield variant("modality LUT short", "ModalityLUTSequence: LUTDescriptor says 5000", **short)

    inside = GREY > 500
    kept = np.where(inside, 255 * (values - values[inside].min()) / (values.max() - values[inside].min()), 0)
    yield variant("padding", kept, PixelPaddingValue=0, PixelPaddingRangeLimit=500)
    inside = GREY.min() < GREY
    kept = np.where(inside, 255 * (values - values[inside].min()) / (values.max() - values[inside].min()), 0)
    yield variant("padding value", kept, PixelPaddingValue=int(GREY.min()))
    yield variant("padding all", "constant image.*PixelPaddingValue", PixelPaddingValue=0, PixelPaddingRangeLimit=4095)
    yield variant("padding none", plain, PixelPaddingValue=4095)

    dark = full(GREY, inverted=True)
    one = {"PhotometricInterpretation": "MONOCHROME1"}
    yield variant("MONOCHROME1", dark, dark, **one)
    yield variant("MONOCHROME1 inverse", dark, dark, **one, PresentationLUTShape="INVERSE")
    yield variant("MONOCHROME1 identity", dark, dark, **one, PresentationLUTShape="IDENTITY")
    yield variant("MONOCHROME2 inverse", dark, plain, PresentationLUTShape="INVERSE")
    windowed = {"WindowCenter": 1500, "WindowWidth": 900}
    yield variant("MONOCHROME1 window", 255 - linear(values, 1500, 900), dark, **one, **windowed)
    yield variant("monochrome1", dark, dark, PhotometricInterpretation="monochrome1")


def depths() -> Iterator[Variant]:
    """Numbers of bits."""
    signed = GREY.astype(np.int16) - 2048
    for name, stored, elements in (
        ("16 bit signed", signed, {}),
        ("12 bit signed", signed, {"BitsStored": 12, "HighBit": 11}),
        ("16 bit", GREY * 16, {}),
        ("8 bit signed", (BYTES.astype(int) - 128).astype(np.int8), {}),
        ("32 bit", GREY.astype(np.uint32) * 10**6, {}),
        ("32 bit signed", (GREY.astype(np.int32) - 2048) * 10**6, {}),
    ):
        yield both("bits", f"{name}.dcm", saved(dataset(stored, **elements)), full(stored))
    yield Variant("bits", "8 bit.dcm", saved(dataset(BYTES)), SMALL, full(BYTES))
    six = (BYTES // 4).astype(np.uint8)
    yield Variant("bits", "6 bit.dcm", saved(dataset(six, BitsStored=6, HighBit=5)), six.astype(float), full(six))
    above = {"PixelData": (GREY | 0x7000).tobytes()}
    yield both("bits", "overlay above.dcm", saved(dataset(**above)), full(GREY))
    packed = {"PixelData": np.packbits(BYTES > 99).tobytes(), "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}
    yield both("bits", "1 bit.dcm", saved(dataset(BYTES, **packed)), "BitsAllocated 1")
    yield both(
        "bits", "constant.dcm", saved(dataset(np.full_like(GREY, 7), BitsStored=12, HighBit=11)), "constant image"
    )


def colours() -> Iterator[Variant]:
    """What is not grey."""
    colour = np.repeat(BYTES[..., None], 3, axis=-1)
    for name in ("RGB", "YBR_FULL", "YBR_ICT", "YBR_RCT"):
        elements = {"SamplesPerPixel": 3, "PhotometricInterpretation": name, "PlanarConfiguration": 0}
        yield both("colour", f"{name}.dcm", saved(dataset(colour, **elements)), f"not a grey image.*{name}")
    elements = {"SamplesPerPixel": 3, "PhotometricInterpretation": "YBR_FULL_422", "PlanarConfiguration": 0}
    elements["PixelData"] = colour.tobytes()[: SIZE * SIZE * 2]
    yield both("colour", "YBR_FULL_422.dcm", saved(dataset(colour, **elements)), "not a grey image.*YBR_FULL_422")
    palette = {"PhotometricInterpretation": "PALETTE COLOR"}
    yield both("colour", "palette.dcm", saved(dataset(BYTES, **palette)), "not a grey image.*PALETTE COLOR")
    frames = {"NumberOfFrames": 3, "PixelData": BYTES.tobytes() * 3}
    yield both("colour", "frames.dcm", saved(dataset(BYTES, **frames)), "multi-frame image: NumberOfFrames 3")
