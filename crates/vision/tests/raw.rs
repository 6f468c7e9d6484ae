//! Pictures of cameras become frames of the right colours, and no bytes do harm.

// A test whose stage cannot be set may panic.
#![allow(clippy::unwrap_used)]

use std::io::Cursor;

use anemia_vision::{Frame, RawError, RawFormat, RawPicture, RawReader, YuvColour, YuvMatrix};
use image::codecs::jpeg::JpegEncoder;
use proptest::prelude::*;

/// Luma and chroma by the definitions of ITU-R BT.601, BT.709 and BT.2020.
fn yuv([r, g, b]: [u8; 3], colour: YuvColour) -> [u8; 3] {
    let (kr, kb) = match colour.matrix {
        YuvMatrix::Bt601 => (0.299, 0.114),
        YuvMatrix::Bt709 => (0.2126, 0.0722),
        YuvMatrix::Bt2020 => (0.2627, 0.0593),
    };
    let [r, g, b] = [r, g, b].map(|value| f64::from(value) / 255.0);
    let y = kr * r + (1.0 - kr - kb) * g + kb * b;
    let (u, v) = ((b - y) / (2.0 * (1.0 - kb)), (r - y) / (2.0 * (1.0 - kr)));
    let (low, luma, chroma) = if colour.full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
    [low + luma * y, 128.0 + chroma * u, 128.0 + chroma * v].map(|value| value.round() as u8)
}

/// A picture of one colour with rows of `stride` bytes, whose padding is full of rubbish.
fn picture(
    format: RawFormat,
    (width, height): (usize, usize),
    stride: usize,
    colour: YuvColour,
    rgb: [u8; 3],
) -> Vec<u8> {
    let [r, g, b] = rgb;
    let [y, u, v] = yuv(rgb, colour);
    let (pixels, rows): (&[&[u8]], usize) = match format {
        RawFormat::Yuyv => (&[&[y, u, y, v]], height),
        RawFormat::Nv12 => (&[&[y, y], &[u, v]], height),
        RawFormat::Rgb => (&[&[r, g, b, r, g, b]], height),
        RawFormat::Bgr => (&[&[b, g, r, b, g, r]], height),
        RawFormat::Bgrx => (&[&[b, g, r, 77, b, g, r, 78]], height),
        RawFormat::Grey => (&[&[r, r]], height),
        RawFormat::Mjpg => unreachable!("has no rows"),
    };
    let mut bytes = Vec::new();
    for (plane, pair) in pixels.iter().enumerate() {
        for _ in 0..if plane == 0 { rows } else { rows / 2 } {
            let mut row = pair.repeat(width / 2);
            row.resize(stride, 0xAB);
            bytes.extend(row);
        }
    }
    bytes
}

const FORMATS: [RawFormat; 6] =
    [RawFormat::Yuyv, RawFormat::Nv12, RawFormat::Rgb, RawFormat::Bgr, RawFormat::Bgrx, RawFormat::Grey];

#[test]
fn every_format_gives_the_colour_that_was_put_in() {
    let (mut reader, mut frame) = (RawReader::new(), Frame::default());
    for format in FORMATS {
        for matrix in [YuvMatrix::Bt601, YuvMatrix::Bt709, YuvMatrix::Bt2020] {
            for full_range in [false, true] {
                for padding in [0, 24] {
                    let (size, colour) = ((94, 38), YuvColour { matrix, full_range });
                    let stride = format.row_bytes(size.0) + padding;
                    for rgb in [[200, 90, 100], [30, 60, 20], [240, 250, 235], [128, 128, 128]] {
                        let bytes = picture(format, size, stride, colour, rgb);
                        let raw = RawPicture::packed(format, size, stride, colour, &bytes).unwrap();
                        reader.read(&raw, &mut frame).unwrap();
                        assert_eq!((frame.width(), frame.height()), size);
                        let expected = if format == RawFormat::Grey { [rgb[0]; 3] } else { rgb };
                        for (found, expected) in frame.rgb().iter().zip(expected.iter().cycle()) {
                            assert!(
                                found.abs_diff(*expected) <= 3,
                                "{format:?} {colour}: {rgb:?} became {:?}",
                                frame.pixel(0, 0)
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn pixels_keep_their_places() {
    let size = (64, 16);
    let mut bytes = vec![0; size.0 * 2 * size.1];
    for (index, byte) in bytes.iter_mut().enumerate() {
        // Grey that grows by 3 from column to column and by 1 from row to row.
        *byte = if index % 2 == 0 { (16 + 3 * (index / 2 % size.0) + index / 2 / size.0) as u8 } else { 128 };
    }
    let colour = YuvColour { full_range: true, ..YuvColour::default() };
    let (mut frame, mut reader) = (Frame::default(), RawReader::new());
    reader.read(&RawPicture::packed(RawFormat::Yuyv, size, size.0 * 2, colour, &bytes).unwrap(), &mut frame).unwrap();
    for y in 0..size.1 {
        for x in 0..size.0 {
            assert!(frame.pixel(x, y)[0].abs_diff((16 + 3 * x + y) as u8) <= 1, "{x},{y}: {:?}", frame.pixel(x, y));
        }
    }
}

/// A JPEG of a soft pattern, with 4:2:0 chroma or as the encoder likes.
fn jpeg(width: u32, height: u32) -> (Vec<u8>, image::RgbImage) {
    let picture =
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([(90 + x / 2) as u8, (60 + y / 2) as u8, 80]));
    let mut bytes = Vec::new();
    picture.write_with_encoder(JpegEncoder::new_with_quality(Cursor::new(&mut bytes), 95)).unwrap();
    (bytes, picture)
}

/// Leaves the Huffman tables out, as cameras do.
fn without_tables(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (bytes[..2].to_vec(), 2);
    loop {
        let length = 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        match bytes[at + 1] {
            0xC4 => {}
            0xDA => {
                out.extend_from_slice(&bytes[at..]);
                return out;
            }
            _ => out.extend_from_slice(&bytes[at..at + length]),
        }
        at += length;
    }
}

fn read_jpeg(bytes: &[u8], size: (usize, usize)) -> Result<Frame, RawError> {
    let mut frame = Frame::default();
    let raw = RawPicture::packed(RawFormat::Mjpg, size, 0, YuvColour::default(), bytes)?;
    RawReader::new().read(&raw, &mut frame).map(|()| frame)
}

#[test]
fn motion_jpeg_is_read_with_and_without_its_tables() {
    let (bytes, picture) = jpeg(160, 96);
    let whole = read_jpeg(&bytes, (160, 96)).unwrap();
    for (found, expected) in whole.rgb().iter().zip(picture.as_raw()) {
        assert!(found.abs_diff(*expected) < 8);
    }
    let bare = without_tables(&bytes);
    assert!(bare.len() < bytes.len() - 400, "the tables were there");
    assert_eq!(read_jpeg(&bare, (160, 96)).unwrap(), whole);
    let mut padded = bytes.clone();
    padded.resize(bytes.len() + 1000, 0);
    assert_eq!(read_jpeg(&padded, (160, 96)).unwrap(), whole, "drivers pad");
}

#[test]
fn a_motion_jpeg_that_is_cut_short_or_of_another_size_is_refused() {
    let (bytes, _) = jpeg(160, 96);
    let half = read_jpeg(&bytes[..bytes.len() / 2], (160, 96)).unwrap_err();
    assert_eq!(half.to_string(), "the picture is damaged: the file stops early");
    let other = read_jpeg(&bytes, (320, 240)).unwrap_err();
    assert_eq!(other.to_string(), "the picture has 160×96 pixels instead of 320×240");
    assert!(read_jpeg(b"GIF89a", (160, 96)).is_err());
    assert!(read_jpeg(b"", (160, 96)).is_err());
}

#[test]
fn a_picture_with_too_few_bytes_says_how_many_it_needs() {
    let raw = RawPicture::packed(RawFormat::Yuyv, (640, 480), 1280, YuvColour::default(), &[0; 1000]).unwrap();
    let error = RawReader::new().read(&raw, &mut Frame::default()).unwrap_err();
    assert_eq!(error.to_string(), "the picture has 1000 bytes where 614400 are needed");
    let raw = RawPicture::packed(RawFormat::Yuyv, (640, 480), 640, YuvColour::default(), &[0; 700_000]).unwrap();
    let error = RawReader::new().read(&raw, &mut Frame::default()).unwrap_err();
    assert_eq!(error.to_string(), "640×480 pixels with rows of 640 bytes are no picture");
}

proptest! {
    #[test]
    fn no_bytes_do_harm(
        format in 0..7_usize,
        width in 0..200_usize,
        height in 0..50_usize,
        stride in 0..1000_usize,
        mut bytes in prop::collection::vec(any::<u8>(), 0..20_000),
        like_jpeg in any::<bool>(),
    ) {
        let format = FORMATS.get(format).copied().unwrap_or(RawFormat::Mjpg);
        if like_jpeg && bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[0xFF, 0xD8]);
        }
        let mut frame = Frame::default();
        if let Ok(raw) = RawPicture::packed(format, (width, height), stride, YuvColour::default(), &bytes)
            && RawReader::new().read(&raw, &mut frame).is_ok()
        {
            prop_assert_eq!((frame.width(), frame.height()), (width, height));
        }
    }

    #[test]
    fn a_jpeg_with_a_wrong_byte_does_no_harm(at in 2..2000_usize, byte in any::<u8>()) {
        let (mut bytes, _) = jpeg(64, 48);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(frame) = read_jpeg(&bytes, (64, 48)) {
            prop_assert_eq!(frame.rgb().len(), 64 * 48 * 3);
        }
    }
}
