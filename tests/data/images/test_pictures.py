"""Every encoding of a picture is read to what a viewer shows, or refused by its name."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import save_bmp, save_png, save_tiff, save_tiff_parts, turned
from numpy.typing import NDArray
from PIL import Image

from mucald.data.images.pictures import RefusedError, open_picture, read_picture
from mucald.data.images.readers import read_image
from mucald.errors import DataError

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
COLOUR = np.stack([RAMP, RAMP[::-1], 255 - RAMP], axis=-1)
DEEP = RAMP.astype(np.uint16) * 16
WINDOWED = np.clip(
    np.rint(
        (RAMP - np.percentile(RAMP, 0.5)) * (255 / (np.percentile(RAMP, 99.5) - np.percentile(RAMP, 0.5)))
    ),
    0,
    255,
)


def near(image: NDArray[Any], expected: NDArray[Any], tolerance: int = 1) -> bool:
    """Whether grey pixels (H x W x 3) are those expected up to rounding."""
    return bool((np.abs(image.astype(int) - expected[..., None].astype(int)) <= tolerance).all())


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_a_picture_is_turned_as_viewers_turn_it(ending: str, number: int, tmp_path: Path) -> None:
    """Each turn by its definition in the EXIF standard: where the stored first row and column lie."""
    shown = np.zeros((16, 24), np.uint8)
    shown[:8, :8], shown[:8, 16:], shown[8:, :8] = 240, 160, 80
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: shown.T[::-1],
        7: shown[::-1, ::-1].T,
        8: shown.T[:, ::-1],
    }[number]
    options = {
        "jpg": {"quality": 100},
        "webp": {"lossless": True},
        "tif": {"compression": "tiff_lzw"},
        "png": {},
    }[ending]
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=turned(number), **options)
    assert near(read_picture(path), shown, tolerance=3)
    assert ("turned" in open_picture(path).encoding) == (number > 1)


def test_grey_of_sixteen_bits_is_windowed_in_any_byte_order_and_sign(tmp_path: Path) -> None:
    Image.fromarray(DEEP).save(tmp_path / "png.png")
    save_tiff(tmp_path / "little.tif", DEEP, 1)
    save_tiff(tmp_path / "big.tif", DEEP.astype(">u2"), 1)
    save_tiff(tmp_path / "signed.tif", DEEP.astype("<i2") - 1000, 1, format=2)
    save_tiff(tmp_path / "signed_bytes.tif", RAMP.astype(np.int16).astype("i1"), 1, format=2)
    save_tiff(tmp_path / "float.tif", RAMP.astype("<f4") / 7, 1, format=3)
    save_tiff(tmp_path / "long.tif", RAMP.astype("<i4") * 70000, 1, format=2)
    save_tiff(tmp_path / "unsigned_long.tif", RAMP.astype("<u4") * 16_000_000, 1, format=1)
    Image.fromarray(DEEP).save(tmp_path / "packed.tif", compression="tiff_lzw")
    paths = sorted(tmp_path.iterdir())
    for path in paths:
        expected = WINDOWED
        if path.stem == "signed_bytes":
            values = RAMP.astype(np.int16).astype(np.int8).astype(float)
            low, high = np.percentile(values, (0.5, 99.5))
            expected = np.clip(np.rint((values - low) / (high - low) * 255), 0, 255)
        assert near(read_picture(path), expected), path.name
    assert len(paths) == 9


@pytest.mark.parametrize(
    ("depth", "rows"),
    [
        (8, 255 - RAMP),
        (16, (65535 - DEEP).astype(np.uint16)),
        (32, (1 - RAMP / 255).astype("<f4")),
    ],
)
def test_white_is_zero_in_any_depth(depth: int, rows: NDArray[Any], tmp_path: Path) -> None:
    kind = {"format": 3} if depth == 32 else {}
    path = save_tiff(tmp_path / "a.tif", rows, 0, **kind)
    assert near(read_picture(path), RAMP if depth == 8 else WINDOWED)
    assert "white is zero" in open_picture(path).encoding


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_are_shown_from_black_to_white(depth: int, tmp_path: Path) -> None:
    rows = RAMP % 2**depth
    path = save_png(tmp_path / "a.png", rows, depth, 0)
    picture = open_picture(path)
    assert near(read_picture(path), rows * (255 // (2**depth - 1)), 0)
    assert picture.codes is not None
    assert np.array_equal(picture.codes, rows)


def test_a_palette_gives_its_colours_whatever_their_order(tmp_path: Path) -> None:
    for seed in range(3):
        colours = np.random.default_rng(seed).permutation(256).astype(np.uint8)
        table = np.repeat(colours[:, None], 3, axis=1).tobytes()
        path = save_png(tmp_path / "a.png", np.argsort(colours)[RAMP], 8, 3, PLTE=table)
        assert near(read_picture(path), RAMP, 0)
    Image.fromarray(COLOUR).quantize(32).save(tmp_path / "b.png")
    expected = np.asarray(Image.open(tmp_path / "b.png").convert("RGB"))
    assert np.array_equal(read_picture(tmp_path / "b.png"), expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_an_opaque_alpha_channel_is_left_out(ending: str, mode: str, tmp_path: Path) -> None:
    picture = Image.fromarray(RAMP).convert(mode)
    picture.save(tmp_path / f"a.{ending}", **({"lossless": True} if ending == "webp" else {}))
    assert near(read_picture(tmp_path / f"a.{ending}"), RAMP, 0)
    picture.putpixel((2, 3), (*picture.getpixel((2, 3))[:-1], 254))
    picture.save(tmp_path / f"b.{ending}", **({"lossless": True} if ending == "webp" else {}))
    with pytest.raises(RefusedError, match=f"b.{ending}: has an alpha channel that is not opaque"):
        read_picture(tmp_path / f"b.{ending}")


def refused(folder: Path) -> dict[str, Path]:
    """Pictures of which Pillow would keep a part, or whose colours depend on more than the file."""
    deep_colour = np.stack([DEEP] * 3, axis=-1)
    first, second = Image.fromarray(RAMP), Image.fromarray(RAMP[::-1].copy())
    made = {
        "more than one channel of 16 bits": save_png(folder / "a.png", deep_colour, 16, 2),
        "one channel of 16 bits": save_tiff(folder / "b.tif", deep_colour, 2),
        "than one channel of 16": save_png(folder / "c.png", deep_colour[..., :2], 16, 4),
        "holds 2 pages": folder / "d.tif",
        "2 pages": folder / "e.webp",
        "holds CMYK": folder / "f.jpg",
        "CMYK pixels": folder / "g.tif",
        "holds LAB pixels": folder / "h.tif",
        "holds YCbCr": folder / "i.tif",
        "4 channels, of which 1 have no meaning": save_tiff(
            folder / "j.tif", np.concatenate([COLOUR, RAMP[..., None]], axis=-1), 2, extra=0
        ),
        "2 channels, of which 1 have no meaning": save_tiff(
            folder / "k.tif", np.stack([RAMP, RAMP], axis=-1), 1, extra=0
        ),
        "an alpha channel that is not opaque": save_png(
            folder / "l.png", RAMP // 5 % 4, 2, 3, PLTE=bytes(range(12)), tRNS=b"\xff\x00"
        ),
        "alpha channel that is not opaque": save_png(folder / "m.png", RAMP, 8, 0, tRNS=b"\x00\x05"),
        "holds values that are not finite": save_tiff(
            folder / "n.tif", np.where(RAMP == 5, np.nan, RAMP).astype("<f4"), 1, format=3
        ),
        "an uncompressed TIFF stored on its side": folder / "p.tif",
        "a TIFF of CCITT runs in words": folder / "q.tif",
        "a TIFF of 64 bits, floating point, black is zero": save_tiff(
            folder / "o.tif", RAMP.astype("<f8"), 1, format=3
        ),
    }
    first.save(folder / "d.tif", save_all=True, append_images=[second])
    first.convert("RGB").save(
        folder / "e.webp", save_all=True, append_images=[second.convert("RGB")], duration=1
    )
    first.convert("CMYK").save(folder / "f.jpg")
    first.convert("CMYK").save(folder / "g.tif")
    save_tiff(folder / "h.tif", COLOUR, 8)
    first.convert("YCbCr").save(folder / "i.tif")
    first.save(folder / "p.tif", exif=turned(6))
    first.convert("1").save(folder / "q.tif", compression="tiff_raw_16")
    return made


def test_what_has_no_one_meaning_is_refused_by_its_name(tmp_path: Path) -> None:
    for words, path in refused(tmp_path).items():
        with pytest.raises(DataError, match=words) as caught:
            read_image((path,))
        assert str(path) in str(caught.value)
        assert path.name not in caught.value.public


def test_a_file_of_another_format_is_told_by_its_content_not_its_name(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.jpg", format="PNG")
    assert np.array_equal(read_picture(tmp_path / "a.jpg"), COLOUR)
    Image.fromarray(RAMP).save(tmp_path / "b.png", format="GIF")
    with pytest.raises(DataError, match=r"b.png: holds GIF, whatever its name says; save it as PNG"):
        read_image((tmp_path / "b.png",))


NOT_READ = {
    "16 bits, signed integers, white is zero": ("<i2", 0, 2),
    "8 bits, signed integers, white is zero": ("i1", 0, 2),
    "32 bits, unsigned integers, white is zero": ("<u4", 0, 1),
    "64 bits, floating point, black is zero": ("<f8", 1, 3),
    "16 bits, unsigned integers, palette": ("<u2", 3, 1),
    "8 bits, unsigned integers, transparency mask": ("u1", 4, 1),
    "64 bits, unsigned integers, black is zero": (">u8", 1, 1),
    "32 bits, numbers of type 4, black is zero": ("<u4", 1, 4),
}


@pytest.mark.parametrize("words", NOT_READ)
def test_a_tiff_that_pillow_lacks_is_named_by_bits_numbers_and_colours(words: str, tmp_path: Path) -> None:
    kind, photometric, numbers = NOT_READ[words]
    path = save_tiff(tmp_path / "a.tif", RAMP.astype(kind), photometric, format=numbers)
    with pytest.raises(DataError, match=f"a.tif: is a TIFF of {words}, which is not read; save it") as caught:
        read_image((path,))
    assert "copy" not in str(caught.value)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a.tif: cannot be read .*; copy or export it again"):
        read_image((path,))


BEGINNINGS = {
    "NIfTI": bytes(344) + b"n+1\0" + bytes(200),
    "gzip": b"\x1f\x8b\x08" + bytes(200),
    "DICOM": bytes(128) + b"DICM" + bytes(200),
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(200),
    "HEIC or AVIF": b"\0\0\0\x18ftypheic" + bytes(200),
    "NRRD": b"NRRD0004\n" + bytes(200),
    "PDF": b"%PDF-1.7\n" + bytes(200),
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(200),
    "a web page": b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>Please log in</body></html>" + bytes(200),
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "ZIP": b"PK\x03\x04" + bytes(200),
}


@pytest.mark.parametrize("found", BEGINNINGS)
def test_another_format_is_told_by_how_the_file_begins(found: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(BEGINNINGS[found])
    with pytest.raises(DataError, match=f"a.png: holds {found}"):
        read_image((tmp_path / "a.png",))
    if found not in ("NIfTI", "gzip"):
        (tmp_path / "a.nii").write_bytes(BEGINNINGS[found])
        with pytest.raises(DataError, match=f"a.nii: holds {found}, whatever its name says"):
            read_image((tmp_path / "a.nii",))


@pytest.mark.parametrize("name", ["a.png", "a.nii", "a.nii.gz"])
def test_what_is_no_regular_file_is_refused_before_it_is_opened(name: str, tmp_path: Path) -> None:
    """To open a pipe waits until someone writes."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for target, words in (
        ("pipe", "is a pipe, socket or device"),
        ("folder", "is a folder"),
        ("loop", r"cannot be read \(Too many levels of symbolic links\)$"),
        ("gone", "does not exist"),
    ):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(DataError, match=f"{name}: (it )?{words}"):
            read_image((tmp_path / name,))
        if name == "a.png" and target in ("pipe", "folder"):
            with pytest.raises(RefusedError, match=words):
                read_picture(tmp_path / name)
        (tmp_path / name).unlink()


@pytest.mark.parametrize(
    ("words", "pages"),
    [
        ("ImageJ=1.54f\nimages=3\nslices=3\n", 3),
        ('{"shape": [3, 6, 8], "truncated": true}', 3),
        ("ImageJ=1.54f\nimages=1\n", 1),
        ('{"axes": "ZYX", "shape": [3, 6, 8]}', 3),
        ('{"shape": [6, 8]}', 1),
        ('{"axes": "YX", "shape": [6, 8]}', 1),
        ("images=3", 1),
    ],
)
def test_pages_that_a_description_alone_tells_are_counted(words: str, pages: int, tmp_path: Path) -> None:
    """ImageJ and tifffile write a directory for the first page of a stack alone."""
    Image.fromarray(RAMP).save(tmp_path / "a.tif", description=words)
    if pages == 1:
        assert near(read_picture(tmp_path / "a.tif"), RAMP, 0)
        return
    with pytest.raises(RefusedError, match=r"a.tif: holds 3 pages"):
        read_picture(tmp_path / "a.tif")


def test_a_jpeg_of_more_bits_is_named(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content.replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc1\x00\x0b\x0c"))
    with pytest.raises(DataError, match=r"a.jpg: is a JPEG of 12 bits, which is not read"):
        read_image((tmp_path / "a.jpg",))


def test_too_many_pixels_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a.png: has more pixels than a picture may have"):
        read_image((tmp_path / "a.png",))


@pytest.mark.filterwarnings("error")
def test_a_large_picture_is_read_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    assert near(read_picture(tmp_path / "a.png"), RAMP, 0)


@pytest.mark.parametrize("ending", ["bmp", "webp", "tif", "png"])
def test_lossless_colours_are_unchanged(ending: str, tmp_path: Path) -> None:
    options = {"lossless": True} if ending == "webp" else {}
    Image.fromarray(COLOUR).save(tmp_path / f"a.{ending}", **options)
    assert np.array_equal(read_picture(tmp_path / f"a.{ending}"), COLOUR)
    assert not open_picture(tmp_path / f"a.{ending}").lossy


def test_what_compression_changes_is_known_as_lossy(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR)
    picture.save(tmp_path / "a.jpg")
    picture.save(tmp_path / "b.webp", quality=80)
    picture.save(tmp_path / "c.tif", compression="jpeg")
    picture.save(tmp_path / "d.png", format="JPEG")
    assert all(open_picture(path).lossy for path in sorted(tmp_path.iterdir()))


BLACK_AND_WHITE = [(0, 0, 0), (255, 255, 255)]
SIXTEEN = [(value,) * 3 for value in range(16)]


@pytest.mark.parametrize(
    ("bits", "colours", "read"),
    [
        (8, BLACK_AND_WHITE, False),
        (4, BLACK_AND_WHITE, False),
        (1, BLACK_AND_WHITE, True),
        (1, BLACK_AND_WHITE[::-1], True),
        (8, BLACK_AND_WHITE[::-1], True),
        (8, [*BLACK_AND_WHITE, (0, 0, 0)], True),
        (4, SIXTEEN, False),
        (4, SIXTEEN[::-1], True),
        (8, [(value,) * 3 for value in range(256)], True),
        (8, [(value,) * 3 for value in range(100)], True),
    ],
)
def test_a_bmp_of_few_greys_is_read_by_its_own_bits(bits, colours, read, tmp_path):
    """Pillow unpacks two colours as bits and greys as bytes, whatever the header tells."""
    numbers = RAMP.astype(int) // 5 % len(colours[:2] if len(colours) == 3 else colours)
    path = save_bmp(tmp_path / "a.bmp", numbers, bits, colours)
    if read:
        assert near(read_picture(path), np.array(colours)[numbers][..., 0], 0)
        return
    with pytest.raises(DataError, match=f"a.bmp: is a BMP of {bits} bits with few greys, which is not read"):
        read_image((path,))


PLANES = np.moveaxis(COLOUR, -1, 0)
SIZE = {256: [8], 257: [6], 262: [2]}


def planes(kind: str, count: int) -> list[bytes]:
    values = np.concatenate([PLANES, np.full_like(PLANES[:1], 255)])[:count]
    return [plane.astype(kind).tobytes() for plane in values]


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("tiled", [False, True])
def test_a_plane_per_channel_of_sixteen_bits_is_refused(kind, count, tiled, tmp_path):
    tags = SIZE | {258: [16] * count, 277: [count], 284: [2]}
    tags |= {262: [1]} if count == 2 else {338: [2]} if count == 4 else {}
    parts = planes(kind, count)
    if tiled:
        tags |= {322: [16], 323: [16]}
        parts = [part.ljust(512, b"\0") for part in parts]
    path = save_tiff_parts(tmp_path / "a.tif", parts, tags, kind[0])
    with pytest.raises(DataError, match=r"a.tif: (holds more than one channel of 16 bits|is a TIFF of 16)"):
        read_image((path,))


@pytest.mark.parametrize("count", [3, 4])
def test_a_plane_per_channel_of_eight_bits_is_read(count, tmp_path):
    tags = SIZE | {258: [8] * count, 277: [count], 284: [2]} | ({338: [2]} if count == 4 else {})
    path = save_tiff_parts(tmp_path / "a.tif", planes("u1", count), tags)
    assert np.array_equal(read_picture(path), COLOUR)


def test_integers_of_32_bits_are_unsigned_unless_told_otherwise(tmp_path):
    """The default of TIFF 6.0."""
    values = RAMP.astype("<u4") * 17_000_000
    path = save_tiff(tmp_path / "a.tif", values, 1)
    assert np.array_equal(open_picture(path).values, values)
    assert near(read_picture(path), WINDOWED)


GREY_TAGS = {256: [8], 257: [6], 258: [8], 262: [1], 277: [1], 278: [6]}
ROWS = RAMP.tobytes()
DAMAGED: dict[str, tuple[list[bytes], dict[int, list[int]]]] = {
    "has 1 parts, but its size needs 2": ([ROWS[:24]], {278: [3]}),
    "has 3 parts, but its size needs 2": ([ROWS[:24], ROWS[24:], ROWS[24:]], {278: [3]}),
    "has 1 parts, but its size needs 4": ([bytes(256)], {322: [16], 323: [16], 256: [20], 257: [20]}),
    "a part holds 24 bytes, but its rows are 48": ([ROWS[:24]], {}),
    "a part holds 144 bytes, but its rows are 48": ([ROWS * 3], {}),
    "a part holds 8 bytes, but its rows are 16": ([ROWS[:32], ROWS[32:40]], {278: [4]}),
    "holds 2 pages": ([ROWS * 2], {32997: [2]}),
    "holds 3 pages": ([ROWS], {33629: [0, 0, 0]}),
}


@pytest.mark.parametrize("words", DAMAGED)
def test_a_tiff_that_lacks_rows_or_has_more_is_refused(words, tmp_path):
    parts, tags = DAMAGED[words]
    path = save_tiff_parts(tmp_path / "a.tif", parts, GREY_TAGS | tags)
    with pytest.raises(DataError, match=rf"a.tif: (is a damaged TIFF: )?(it )?{words}"):
        read_image((path,))


@pytest.mark.parametrize(
    ("parts", "tags"),
    [
        ([ROWS], {}),
        ([ROWS + b"\0"], {}),
        ([ROWS[:32], ROWS[32:]], {278: [4]}),
        ([ROWS[:32], ROWS[32:].ljust(32, b"\0")], {278: [4]}),
        ([ROWS], {278: [2**32 - 1]}),
        ([np.pad(RAMP, ((0, 10), (0, 8))).tobytes()], {322: [16], 323: [16]}),
    ],
)
def test_strips_and_tiles_that_hold_all_rows_are_read(parts, tags, tmp_path):
    path = save_tiff_parts(tmp_path / "a.tif", parts, GREY_TAGS | tags)
    assert near(read_picture(path), RAMP, 0)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_a_tiff_that_does_not_tell_which_colour_zero_is_is_refused(bits, tmp_path):
    """The tag is required; Pillow takes white for 0, which inverts a mask."""
    rows = np.packbits(RAMP > 99, axis=1) if bits == 1 else RAMP.astype(f"<u{bits // 8}")
    tags = {tag: value for tag, value in GREY_TAGS.items() if tag != 262} | {258: [bits]}
    path = save_tiff_parts(tmp_path / "a.tif", [rows.tobytes()], tags)
    with pytest.raises(DataError, match=r"a.tif: is a TIFF that does not tell if 0 is black or white"):
        read_image((path,))


def test_a_palette_that_lacks_colours_is_refused(tmp_path):
    """Pillow shows the missing ones black."""
    ids = (RAMP > 99).astype(np.uint8) * 7
    made = {
        "has no palette": save_png(tmp_path / "a.png", ids, 8, 3),
        "holds the number 7, but its palette has 2 colours": save_png(
            tmp_path / "b.png", ids, 8, 3, PLTE=bytes([0, 0, 0, 255, 255, 255])
        ),
        "the number 7, but its palette has 3": save_bmp(tmp_path / "c.bmp", ids, 8, [(9, 8, 7)] * 3),
        "has a palette of 8 bits per colour": save_tiff_parts(
            tmp_path / "d.tif", [ids.tobytes()], GREY_TAGS | {262: [3], 320: list(range(256)) * 3}
        ),
    }
    for words, path in made.items():
        with pytest.raises(DataError, match=f"{path.name}: .*{words}"):
            read_image((path,))
    tags = GREY_TAGS | {262: [3], 320: [value * 257 for value in range(256)] * 3}
    assert near(read_picture(save_tiff_parts(tmp_path / "e.tif", [ROWS], tags)), RAMP, 0)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("strip_size", [64, 65536])
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "I;16", "F"])
def test_tiff_in_strips_of_any_compression_is_read_whole(mode, strip_size, compression, tmp_path):
    large = np.kron(COLOUR, np.ones((5, 7, 1), np.uint8))
    picture = Image.fromarray(large)
    if mode in ("I;16", "F"):
        picture = Image.fromarray(large[..., 0].astype(np.uint16 if mode == "I;16" else np.float32) * 9)
    else:
        picture = picture.quantize(17) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.tif", compression=compression, strip_size=strip_size)
    shown = picture.convert({"P": "RGB", "1": "L"}.get(mode, mode))
    assert np.array_equal(open_picture(tmp_path / "a.tif").values, np.asarray(shown))
