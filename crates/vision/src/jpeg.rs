//! JPEG, as files and cameras give it.

use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::RawError;
use crate::picture::PictureError;

/// What the segments of a picture say.
pub(crate) struct Segments {
    /// It brings its Huffman tables. Cameras leave out those that never change (MJPG).
    has_tables: bool,
}

/// Refuses what a decoder would silently repair: ink colours, which it converts without their profile, and a scan that
/// stops early, which it fills with grey.
pub(crate) fn check_jpeg(bytes: &[u8]) -> Result<Segments, PictureError> {
    let cut_short = || PictureError::Damaged("the file stops early".into());
    let mut segments = Segments { has_tables: false };
    let mut at = 2;
    loop {
        // Markers (ITU-T T.81, B.1.1): 0xFF, any number of times, the code, and for most of them a length. Whatever
        // stands between two segments is passed over, as every decoder does.
        let (&[first, code, high, low], rest) =
            bytes.get(at..).and_then(<[u8]>::split_first_chunk).ok_or_else(cut_short)?;
        if first != 0xFF || matches!(code, 0x00 | 0xFF) {
            at += 1;
            continue;
        }
        match code {
            // Without a length: TEM, RST0 to RST7, SOI.
            0x01 | 0xD0..=0xD8 => at += 2,
            // Frame headers, except the three codes in this range that are none: byte 7 counts the components.
            0xC0..=0xCF if !matches!(code, 0xC4 | 0xC8 | 0xCC) && rest.get(5) == Some(&4) => {
                return Err(PictureError::Cmyk);
            }
            // The scan: from here on, an end marker must come. In scan data, 0xFF is never followed by 0xD9.
            0xDA if rest.windows(2).any(|pair| pair == [0xFF, 0xD9]) => return Ok(segments),
            0xDA => return Err(cut_short()),
            _ => {
                segments.has_tables |= code == 0xC4;
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
            }
        }
    }
}

/// A segment that tells a decoder to bring the tables of Motion-JPEG itself (those of ITU-T T.81, K.3): APP0 as in AVI files.
const MOTION_JPEG: [u8; 18] = *b"\xFF\xE0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";

/// Decodes the picture of a camera into `rgb`; it must have the size that was agreed. `patched` is memory to work in.
pub(crate) fn read_motion_jpeg(
    bytes: &[u8],
    size: (usize, usize),
    patched: &mut Vec<u8>,
    rgb: &mut [u8],
) -> Result<(), RawError> {
    let damaged = |cause: String| RawError::Damaged { cause };
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return Err(damaged("it does not begin like a JPEG".into()));
    }
    let segments = check_jpeg(bytes).map_err(|error| match error {
        PictureError::Damaged(cause) => damaged(cause),
        other => damaged(other.to_string()),
    })?;
    let bytes = if segments.has_tables {
        bytes
    } else {
        patched.clear();
        patched.extend_from_slice(&bytes[..2]);
        patched.extend_from_slice(&MOTION_JPEG);
        patched.extend_from_slice(&bytes[2..]);
        patched
    };
    let options =
        DecoderOptions::default().jpeg_set_out_colorspace(ColorSpace::RGB).set_max_width(size.0).set_max_height(size.1);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| damaged(error.to_string()))?;
    let found = decoder.info().map_or((0, 0), |info| (info.width.into(), info.height.into()));
    if found != size {
        return Err(RawError::Size { expected: size, found });
    }
    decoder.decode_into(rgb).map_err(|error| damaged(error.to_string()))
}
