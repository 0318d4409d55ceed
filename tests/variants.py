"""The variants of the corpus, kind by kind."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
from corpus import (
    ANY,
    BYTES,
    COLUMN,
    FORMATS,
    GREY,
    JPEG,
    PICTURES,
    SIZE,
    Variant,
    chunk,
    dataset,
    encapsulated,
    flipped,
    frame_of,
    full,
    interlaced,
    linear,
    lut,
    picture,
    png,
    saved,
    scan_lines,
    with_size,
)
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless
from scipy.special import expit

SMALL = BYTES.astype(float)
CUT = "truncated|empty file|not a DICOM|no pixel data|corrupt"
REFUSED = f"{CUT}|missing|no decoder|not a grey|holds|expected|not readable|not a number|constant"
AS_PYDICOM = "as pydicom reads it"
LOSSY = 6  # grey levels
SYNTAX = {"JPEG baseline": JPEGBaseline8Bit, "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless}
SYNTAX |= {"JPEG lossless": "1.2.840.10008.1.2.4.57", "RLE": RLELossless}
META = 132  # bytes before the first element


def variants() -> list[Variant]:
    """The whole corpus."""
    makers = [undamaged, truncated, flipped_bytes, lengths, contradictions, shown, depths, colours, bombs, pngs, jpegs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is wrong on purpose
        return [variant for maker in [*makers, names, places] for variant in maker()]


def both(kind: str, name: str, content: bytes | Callable[[Path], None], outcome: np.ndarray | str) -> Variant:
    """A variant of which both conversions make the same."""
    return Variant(kind, name, content, outcome, outcome)


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
        ({"Rows": SIZE // 2}, "PixelData holds 8192 bytes"),
        ({"Columns": SIZE // 2}, "PixelData holds 8192 bytes"),
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


def bombs() -> Iterator[Variant]:
    """Little files that ask for much."""
    kind = "bomb"
    yield both(kind, "declared.png", png(scan_lines(BYTES), 50000, 50000, 8), "pixels; expected")
    yield both(kind, "declared long.png", png(scan_lines(BYTES), 2**31 - 1, 1, 8), "pixels; expected")
    yield both(kind, "zeros.png", png(bytes(20001 * 2000), 20000, 2000, 8), "pixels; expected")
    yield both(kind, "short.png", png(np.random.default_rng(0).bytes(10**5), 5000, 5000, 8), "corrupt")
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9))
    yield both(
        kind,
        "text.png",
        PICTURES["PNG"][:33] + text + PICTURES["PNG"][33:],
        "corrupt",
    )
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**8), 9))
    yield both(kind, "profile.png", PICTURES["PNG"][:33] + profile + PICTURES["PNG"][33:], "corrupt")
    yield both(kind, "declared.jpg", with_size(JPEG, b"\xff\xc0", 3, ">2H", 65000, 65000), "pixels; expected")
    yield both(kind, "high.jpg", with_size(JPEG, b"\xff\xc0", 3, ">2H", 4000, 8000), CUT)
    header = saved(dataset(PixelData=b"", syntax=DeflatedExplicitVRLittleEndian))
    yield both(kind, "deflated.dcm", inflating(header), "more than 128 MiB")
    yield both(kind, "sparse.dcm", sparse, "more than 128 MiB")
    for name, marker, skip, code, size in (
        ("JPEG 2000", b"\xff\x4f\xff\x51", 4, ">2I", (60000, 60000)),
        ("JPEG-LS", b"\xff\xf7", 3, ">2H", (60000, 60000)),
        ("JPEG lossless", b"\xff\xc3", 3, ">2H", (60000, 60000)),
        ("JPEG baseline", b"\xff\xc0", 3, ">2H", (60000, 60000)),
    ):
        frame, stored = frame_of(FORMATS[name]), BYTES if name == "JPEG baseline" else GREY
        changed = encapsulated(with_size(frame, marker, skip, code, *size), SYNTAX[name], stored)
        yield both(kind, f"{name} size.dcm", changed, "the codestream holds 60000 x 60000 pixels")
        high = (8000, 4000) if code == ">2I" else (4000, 8000)
        large = {"Rows": 4000, "Columns": 8000}
        changed = encapsulated(with_size(frame, marker, skip, code, *high), SYNTAX[name], stored, **large)
        yield both(kind, f"{name} large.dcm", changed, CUT)
    changed = encapsulated(frame_of(FORMATS["RLE"]), RLELossless, GREY, Rows=4000, Columns=8000)
    yield both(kind, "RLE large.dcm", changed, CUT)


def inflating(content: bytes) -> bytes:
    """A deflated file that goes on for 129 MiB of zeros."""
    start = 144 + struct.unpack_from("<I", content, 140)[0]
    pack = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    pixels = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 129 << 20)
    parts = [pack.compress(plain[: plain.index(b"\xe0\x7f\x10\x00")] + pixels)]
    parts += [pack.compress(bytes(1 << 20)) for _ in range(129)]
    return content[:start] + b"".join(parts) + pack.flush()


def sparse(path: Path) -> None:
    """A file of 3 GiB that takes no room."""
    content = FORMATS["explicit"]
    with path.open("wb") as file:
        file.write(content[: -GREY.nbytes])
        file.truncate(3 << 30)


def pngs() -> Iterator[Variant]:
    """Kinds of PNG."""
    kind, image = "PNG", Image.fromarray(BYTES)
    colour = np.repeat(BYTES[..., None], 3, axis=-1)
    tinted = colour.copy()
    tinted[3, 4, 2] ^= 0x40
    opaque, thin = (Image.merge("LA", [image, Image.new("L", image.size, alpha)]) for alpha in (255, 128))
    four, two = (BYTES // 16).astype(np.uint8), (COLUMN * 3 // (SIZE - 1)).astype(np.uint8)
    nibbles = four[:, ::2] << 4 | four[:, 1::2]
    pairs = two[:, ::4] << 6 | two[:, 1::4] << 4 | two[:, 2::4] << 2 | two[:, 3::4]
    deep = np.repeat(GREY[..., None], 3, axis=-1) * 16
    whole = PICTURES["PNG"]
    for name, content, outcome in (
        ("RGB", picture(Image.fromarray(colour)), SMALL),
        ("RGB colour", picture(Image.fromarray(tinted)), "colour image"),
        ("RGBA", picture(Image.fromarray(colour).convert("RGBA")), SMALL),
        ("LA", picture(opaque), SMALL),
        ("LA transparent", picture(thin), "transparent pixels"),
        ("RGBA transparent", picture(thin.convert("RGBA")), "transparent pixels"),
        ("transparent level", picture(image, transparency=int(BYTES[5, 5])), "transparent pixels"),
        ("palette", picture(Image.fromarray(tinted).convert("P")), "type P"),
        ("1 bit", picture(image.convert("1")), "type 1"),
        ("2 bit", png(scan_lines(pairs), SIZE, SIZE, 2), two * 85.0),
        ("4 bit", png(scan_lines(nibbles), SIZE, SIZE, 4), four * 17.0),
        ("interlaced", png(interlaced(BYTES), SIZE, SIZE, 8, interlaced=1), SMALL),
        ("interlaced 16 bit", png(interlaced(GREY.astype(">u2")), SIZE, SIZE, 16, interlaced=1), full(GREY)),
        (
            "RGB 16 bit",
            png(scan_lines(deep.reshape(SIZE, -1).astype(">u2")), SIZE, SIZE, 16, 2),
            GREY * 16 // 256 * 1.0,
        ),
        ("constant", picture(Image.new("L", (9, 9), 4)), "constant image"),
        ("animated", picture(image, save_all=True, append_images=[image.rotate(90)]), "holds 2 pictures"),
        ("wrong sum", whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:], "corrupt"),
        ("behind the end", whole + b"more" * 99, SMALL),
        ("no end", whole[:-12], "corrupt"),
        ("depth 3", png(scan_lines(BYTES), SIZE, SIZE, 3), "corrupt"),
        ("zero wide", png(scan_lines(BYTES), 0, SIZE, 8), "corrupt"),
        ("no lines", png(b"", SIZE, SIZE, 8), "corrupt"),
    ):
        yield both(kind, f"{name}.png", content, outcome)


def jpegs() -> Iterator[Variant]:
    """Kinds of JPEG."""
    turned = {
        1: BYTES,
        2: BYTES[:, ::-1],
        3: BYTES[::-1, ::-1],
        4: BYTES[::-1],
        5: BYTES.T,
        6: np.rot90(BYTES, -1),
        7: BYTES[::-1, ::-1].T,
        8: np.rot90(BYTES),
    }
    image = Image.fromarray(BYTES)
    for orientation, seen in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = picture(image, "JPEG", quality=97, exif=exif)
        yield Variant("JPEG", f"EXIF {orientation}.jpg", content, seen.astype(float), seen.astype(float), LOSSY)
    colour = image.convert("RGB")
    tinted = Image.merge("RGB", [image, image.rotate(90), image])
    for name, content, outcome in (
        ("RGB", picture(colour, "JPEG", quality=97), SMALL),
        ("colour", picture(tinted, "JPEG", quality=97), "colour image"),
        ("CMYK", picture(tinted.convert("CMYK"), "JPEG"), "type CMYK"),
        ("EXIF broken", picture(image, "JPEG", quality=97, exif=b"Exif\0\0MM\0*\0\0\0\xff" + bytes(range(99))), SMALL),
        ("behind the end", JPEG + b"more" * 99, SMALL),
        ("no end", JPEG[:-2], f"^$|{CUT}"),
        ("only the start", b"\xff\xd8\xff\xe0", "corrupt"),
    ):
        yield Variant("JPEG", f"{name}.jpg", content, outcome, outcome, LOSSY)


def names() -> Iterator[Variant]:
    """Good files under names that shells, tables and pages could break on."""
    for name in (
        "with spaces .dcm",
        "-leading dash.dcm",
        "--output.dcm",
        "quote'single.dcm",
        'quote"double.dcm',
        "new\nline.dcm",
        "tab\t.dcm",
        "$(touch injected).dcm",
        "`touch injected`;.dcm",
        "comma,semicolon;.dcm",
        "<b>&amp;.dcm",
        "ünïcødé 胸部.dcm",
        "=1+1.dcm",
        "x" * 251 + ".dcm",
        "no suffix",
        "invalid \udcff utf-8.dcm",
    ):
        yield both("name", name, FORMATS["explicit"], full(GREY))


def places() -> Iterator[Variant]:
    """What a folder may hold that is no file of an image."""
    for suffix in ("dcm", "png", "jpg"):
        yield both("place", f"empty.{suffix}", b"", "empty file")
        yield both("place", f"text.{suffix}", b"image,label\n" * 99, "not a DICOM, PNG or JPEG file")
    yield both("place", "web.dcm", b"<!DOCTYPE html><html>" * 30, "not a DICOM, PNG or JPEG file")
    yield both("place", "folder.dcm/inner.dcm", FORMATS["explicit"], full(GREY))
    yield both("place", "dangling.dcm", lambda path: path.symlink_to("nowhere"), "a link to no file")
    yield both("place", "loop.dcm", lambda path: path.symlink_to(path.name), "a link to no file")
    yield both("place", "pipe.dcm", os.mkfifo, "not a file, but a folder, pipe or device")
    yield both("place", "folder link.dcm", lambda path: path.symlink_to("."), "not a file, but a folder")
    yield both("place", "device.dcm", lambda path: path.symlink_to("/dev/zero"), "not a file, but a folder, pipe")
    yield both("place", "unreadable.dcm", lambda path: path.symlink_to("/proc/self/mem"), "Input/output error")

    def link(path: Path) -> None:
        (path.parent / "folder.dcm").mkdir(exist_ok=True)
        (path.parent / "folder.dcm/target.dcm").write_bytes(FORMATS["explicit"])
        path.symlink_to("folder.dcm/target.dcm")

    yield both("place", "link.dcm", link, full(GREY))

    def forbidden(path: Path) -> None:
        path.write_bytes(FORMATS["explicit"])
        path.chmod(0)

    yield both("place", "forbidden.dcm", forbidden, full(GREY) if os.geteuid() == 0 else "Permission denied")
