//! Pictures come from outside: each bad one gives its own clear line, and never a panic.
// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use anemia_vision::{Frame, PictureError, decode_picture, read_picture};
use image::{DynamicImage, ImageFormat};
use proptest::prelude::*;

fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn error_of(bytes: &[u8]) -> PictureError {
    decode_picture(bytes, &mut Frame::default()).expect_err("this picture must be refused")
}

/// The first bytes of a PNG that claims the given size.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = encoded(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// CRC-32 of PNG (ISO 3309), bit by bit: only headers are made with it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

#[test]
fn rgb_and_rgba_and_16_bit_and_jpeg_are_read() {
    let mut frame = Frame::default();
    let rgba = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(3, 2, image::Rgba([10, 20, 30, 40])));
    decode_picture(&encoded(&rgba, ImageFormat::Png), &mut frame).unwrap();
    assert_eq!((frame.width(), frame.height(), frame.pixel(2, 1)), (3, 2, [10, 20, 30]));
    assert_eq!(frame.alpha(), Some(&[40u8; 6][..]));

    let deep = DynamicImage::ImageRgb16(image::ImageBuffer::from_pixel(2, 2, image::Rgb([0xFFFF, 0x8000, 0])));
    decode_picture(&encoded(&deep, ImageFormat::Png), &mut frame).unwrap();
    assert_eq!((frame.pixel(0, 0), frame.alpha()), ([255, 128, 0], None));

    let jpeg = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(8, 8, image::Rgb([200, 60, 60])));
    decode_picture(&encoded(&jpeg, ImageFormat::Jpeg), &mut frame).unwrap();
    assert!(frame.pixel(4, 4)[0].abs_diff(200) < 6);

    decode_picture(&encoded(&DynamicImage::new_rgb8(1, 1), ImageFormat::Png), &mut frame).unwrap();
    assert_eq!((frame.width(), frame.height()), (1, 1));
}

#[test]
fn pictures_without_meaningful_colours_are_refused() {
    for grey in [DynamicImage::new_luma8(4, 4), DynamicImage::new_luma16(4, 4), DynamicImage::new_luma_a8(4, 4)] {
        assert!(matches!(error_of(&encoded(&grey, ImageFormat::Png)), PictureError::Grey));
    }
    let grey_jpeg = encoded(&DynamicImage::new_luma8(8, 8), ImageFormat::Jpeg);
    assert!(matches!(error_of(&grey_jpeg), PictureError::Grey));
    assert!(matches!(error_of(include_bytes!("fixtures/cmyk.jpg")), PictureError::Cmyk));
}

#[test]
fn damaged_empty_foreign_and_huge_files_are_refused_in_one_line() {
    let whole = encoded(&DynamicImage::new_rgb8(64, 64), ImageFormat::Png);
    let cut = error_of(&whole[..whole.len() / 2]);
    assert!(matches!(cut, PictureError::Damaged(_)), "{cut}");
    let jpeg = encoded(&DynamicImage::new_rgb8(64, 64), ImageFormat::Jpeg);
    for share in [5, 30, 60, 90, 99] {
        let cut = error_of(&jpeg[..jpeg.len() * share / 100]);
        assert!(matches!(cut, PictureError::Damaged(_)), "{share} %: {cut}");
    }
    assert!(matches!(error_of(b""), PictureError::Empty));
    assert!(matches!(error_of(b"GIF89a......"), PictureError::Format));
    assert!(matches!(error_of(b"hello, I am a text file"), PictureError::Format));
    let huge = error_of(&png_header(20_000, 20_000));
    assert!(matches!(huge, PictureError::TooLarge { width: 20_000, height: 20_000 }), "{huge}");
    let larger = error_of(&png_header(0x7FFF_FFFF, 0x7FFF_FFFF));
    assert!(!larger.to_string().contains('\n'), "{larger}");
    let missing = read_picture("/does/not/exist.png".as_ref(), &mut Frame::default()).unwrap_err();
    assert!(missing.to_string().starts_with("cannot read /does/not/exist.png"), "{missing}");
    let device = read_picture("/dev/zero".as_ref(), &mut Frame::default()).unwrap_err();
    assert!(device.to_string().contains("no regular file"), "{device}");
}

#[test]
fn a_phone_picture_is_turned_upright() {
    // A JPEG 16 wide and 8 high whose EXIF says "rotate by 90 degrees to see it upright" (orientation 6).
    let mut picture = image::RgbImage::from_pixel(16, 8, image::Rgb([200, 30, 30]));
    for x in 8..16 {
        for y in 0..8 {
            picture.put_pixel(x, y, image::Rgb([30, 30, 200]));
        }
    }
    let plain = encoded(&DynamicImage::ImageRgb8(picture), ImageFormat::Jpeg);
    let tiff = [b"MM\0*\0\0\0\x08\0\x01", &b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"[..]].concat();
    let segment = [b"Exif\0\0".as_slice(), &tiff].concat();
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xFF, 0xE1]);
    bytes.extend((segment.len() as u16 + 2).to_be_bytes());
    bytes.extend(&segment);
    bytes.extend(&plain[2..]);
    let mut frame = Frame::default();
    decode_picture(&bytes, &mut frame).unwrap();
    assert_eq!((frame.width(), frame.height()), (8, 16));
    assert!(frame.pixel(4, 2)[0] > 150 && frame.pixel(4, 13)[2] > 150, "left became top");
}

proptest! {
    /// Any bytes behind a valid start, and any damage to a valid file: an error or a picture, never a panic.
    #[test]
    fn any_bytes_are_survived(noise in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..2000, jpeg in any::<bool>()) {
        let format = if jpeg { ImageFormat::Jpeg } else { ImageFormat::Png };
        let mut bytes = encoded(&DynamicImage::new_rgb8(20, 20), format);
        let at = at % bytes.len();
        let end = (at + noise.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&noise[..end - at]);
        let mut frame = Frame::default();
        if decode_picture(&bytes, &mut frame).is_ok() {
            prop_assert_eq!(frame.rgb().len(), frame.width() * frame.height() * 3);
        }
        let _ = decode_picture(&noise, &mut frame);
    }
}
