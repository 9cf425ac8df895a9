import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kzoo.errors import KzooError
from kzoo.vision import ImagePreprocessing, preprocess
from tests.optional import require

PLAIN = ImagePreprocessing(height=4, width=6, mean=[0], std=[1])
GREY = ImagePreprocessing(height=4, width=6, channels=1, mean=[0], std=[1])


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_result_is_a_normalized_float_batch():
    settings = ImagePreprocessing(height=2, width=3, mean=[0.0, 0.5, 1.0], std=[1.0, 0.5, 0.25])
    pixels = preprocess([np.full((5, 5, 3), 255, np.uint8), np.zeros((2, 9), np.uint8)], settings)
    assert pixels.shape == (2, 2, 3, 3) and pixels.dtype == np.float32
    np.testing.assert_allclose(pixels[0, 0, 0], [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(pixels[1, 0, 0], [0, -1, -4], atol=1e-6)


def test_every_way_to_give_an_image(tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    image = Image.fromarray(random)
    file = tmp_path / "image.png"
    image.save(file)
    sources = [file, str(file), file.read_bytes(), io.BytesIO(file.read_bytes()), image, random]
    pixels = preprocess(sources, PLAIN)
    np.testing.assert_allclose(pixels, np.stack([random / 255] * len(sources)), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_modes_agree_on_mid_grey(mode, channels):
    level = 255 if mode == "1" else 153  # a level that the web palette has
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 6), level * 257, np.uint16))
    else:
        image = Image.new("RGB", (6, 4), (level,) * 3).convert(mode)
    assert image.mode == mode
    pixels = preprocess([image], PLAIN if channels == 3 else GREY)
    assert pixels.shape == (1, 4, 6, channels)
    np.testing.assert_allclose(pixels, level / 255, atol=0.005)


def test_sixteen_bit_png_from_a_file():
    ramp = np.linspace(0, 65535, 24).astype(np.uint16).reshape(4, 6)
    pixels = preprocess([encoded(Image.fromarray(ramp))], GREY)
    np.testing.assert_allclose(pixels[0, :, :, 0], ramp / 65535, atol=0.005)


def test_transparency_lies_on_white():
    image = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    palette = Image.new("P", (6, 4), 0)
    palette.info["transparency"] = 0
    pixels = preprocess([image, encoded(palette, transparency=0)], PLAIN)
    np.testing.assert_allclose(pixels, 1)


def test_camera_rotation_is_applied():
    image = Image.new("RGB", (4, 6), "black")
    image.paste("white", (0, 0, 4, 3))  # upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that the top of the scene is on the left
    pixels = preprocess([encoded(image, "JPEG", exif=exif, quality=100)], PLAIN)
    assert pixels[0, :, -2:].min() > 0.9 and pixels[0, :, :2].max() < 0.1


def test_first_frame_of_an_animation():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("white", "black")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert preprocess([content], PLAIN).min() > 0.99


def test_given_picture_is_left_alone():
    image = Image.new("RGB", (20, 20), "red")
    preprocess([image], PLAIN)
    assert image.size == (20, 20) and image.getpixel((0, 0)) == (255, 0, 0)


def photo(height, width):
    """An image with edges, gradients and noise."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    waves = 80 + 70 * np.sin(rows / 7)[..., None] * np.cos(columns / 11)[..., None]
    return (waves + noise + 40 * (rows + columns > 70)[..., None]).astype(np.uint8)


@pytest.mark.parametrize("size", [(97, 61), (61, 98), (50, 50), (23, 40)])
@pytest.mark.parametrize(
    ("processor", "size_field", "resize"),
    [
        ("CLIPImageProcessorPil", {"shortest_edge": 37}, 37),
        ("DeiTImageProcessorPil", {"height": 37, "width": 41}, [37, 41]),
    ],
)
def test_crops_as_the_original_library_does(size, processor, size_field, resize):
    require("torch")
    theirs = getattr(require("transformers"), processor)(
        size=size_field, crop_size={"height": 32, "width": 32}
    )
    image = photo(*size)
    expected = theirs(Image.fromarray(image), return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    settings = ImagePreprocessing(
        height=32,
        width=32,
        resize=resize,
        mean=theirs.image_mean,
        std=theirs.image_std,
        resample="bicubic",
    )
    settings = ImagePreprocessing.model_validate_json(settings.model_dump_json())
    np.testing.assert_allclose(preprocess([image], settings), expected, rtol=0, atol=1 / 255)


def test_the_middle_is_cut_out():
    image = np.zeros((4, 12), np.uint8)
    image[:, 4:8] = 255
    settings = ImagePreprocessing(height=4, width=4, channels=1, mean=[0], std=[1], resize=4)
    np.testing.assert_array_equal(preprocess([image], settings), np.ones((1, 4, 4, 1)))


def test_a_thread_of_an_image_is_refused_before_it_grows():
    settings = ImagePreprocessing(height=8, width=8, resize=8)
    with pytest.raises(KzooError, match=r"Image 0 has 5000 x 1 pixels: with a shorter side of 8.*Crop it"):
        preprocess([np.zeros((1, 5000), np.uint8)], settings, max_pixels=100_000)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.float32), "float32; expected uint8"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((4,), np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)"),
        (b"not an image", "is not an image file"),
        (b"", "is not an image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image file"),
        (17, "of type int"),
        (None, "of type NoneType"),
        (io.StringIO("text"), "cannot be read|not an image"),
        (Image.new("F", (4, 4)), "32 bits a pixel"),
    ],
)
def test_bad_images_are_named(image, message):
    with pytest.raises(KzooError, match=message) as caught:
        preprocess([np.zeros((4, 4), np.uint8), image], PLAIN)
    assert str(caught.value).startswith("Image 1")


def test_bad_files_are_named(tmp_path):
    with pytest.raises(KzooError, match=r"missing\.png.*no such file"):
        preprocess([tmp_path / "missing.png"], PLAIN)
    with pytest.raises(KzooError, match="cannot be read"):
        preprocess([tmp_path], PLAIN)
    with pytest.raises(KzooError, match="cannot be read"):
        preprocess(["x" * 5000], PLAIN)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_cut_file(kind, tmp_path):
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = encoded(Image.fromarray(random), kind)
    file = tmp_path / "cut"
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(KzooError, match=r"Image 0 \(.*cut\).*damaged or cut short"):
        preprocess([file], PLAIN)


@pytest.mark.parametrize("side", [9_000, 30_000])
def test_decompression_bomb_is_refused_before_decoding(side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(KzooError, match="64,000,000"):
        preprocess([bomb], PLAIN)


def test_pixel_limit_can_be_lowered():
    with pytest.raises(KzooError, match="10 x 10 pixels, more than 50"):
        preprocess([Image.new("L", (10, 10))], PLAIN, max_pixels=50)


@pytest.mark.parametrize(
    "images", [[], "path.png", b"bytes", np.zeros((4, 4), np.uint8), Image.new("L", (4, 4))]
)
def test_a_list_is_needed(images):
    with pytest.raises(KzooError, match="list"):
        preprocess(images, PLAIN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mean": [0.1, 0.2]},
        {"std": [0.0]},
        {"std": [1, 1, -1]},
        {"channels": 2},
        {"hight": 3},
        {"resize": 3},
        {"resize": [8, 3]},
        {"resize": [8]},
        {"resize": 0},
    ],
)
def test_contradictory_settings(wrong):
    with pytest.raises(ValidationError):
        ImagePreprocessing(**({"height": 4, "width": 4} | wrong))
