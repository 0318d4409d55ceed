"""The variants of the corpus that are bombs, pictures, names, or odd things in a folder."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from corpus import (
    BYTES,
    COLUMN,
    CUT,
    FORMATS,
    GREY,
    JPEG,
    LOSSY,
    PICTURES,
    SIZE,
    SMALL,
    SYNTAX,
    Variant,
    both,
    chunk,
    dataset,
    encapsulated,
    frame_of,
    full,
    interlaced,
    picture,
    png,
    saved,
    scan_lines,
    with_size,
)
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless


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
        yield both(kind, f"{name} size.dcm", changed, "the codestream contains 60000 x 60000 pixels")
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
        ("animated", picture(image, save_all=True, append_images=[image.rotate(90)]), "contains 2 pictures"),
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

    yield both("permission", "forbidden.dcm", forbidden, "Permission denied")


MAKERS = [bombs, pngs, jpegs, names, places]
