//! Reading pictures that came from outside, and writing our own.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::error::{ImageError, LimitErrorKind};
use image::{ColorType, DynamicImage, ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::jpeg::check_jpeg;
use crate::{AlphaLocator, Frame, Locator, Roi};

/// The most pixels that a picture may have: 64 Mpx. Memory is taken only after the header was checked against this.
pub const MAX_PIXELS: u64 = 64 << 20;
/// The longest side that a picture may have: what works on it needs memory for whole rows and columns.
const MAX_SIDE: u32 = 1 << 15;
/// The longest file that is read: four bytes for each of these pixels.
const MAX_BYTES: u64 = MAX_PIXELS * 4;

/// Why a picture cannot be used. The text is one line and says what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The file holds no bytes.
    #[error("the file is empty; expected a PNG or JPEG picture")]
    Empty,
    /// Neither PNG nor JPEG.
    #[error("not a PNG or JPEG picture; convert it to one of them")]
    Format,
    /// The header promises more pixels than [`MAX_PIXELS`], or more than 32,768 along a side.
    #[error(
        "{width}×{height} pixels are too many; at most {} Mpx are accepted, and {MAX_SIDE} along a side",
        MAX_PIXELS >> 20
    )]
    TooLarge {
        /// Width that the header gives.
        width: u32,
        /// Height that the header gives.
        height: u32,
    },
    /// The picture has no colour, and colour is what is measured.
    #[error("a grey picture has no colour to judge; expected RGB or RGBA")]
    Grey,
    /// Ink colours, whose meaning depends on a printing profile.
    #[error("a CMYK picture has no defined screen colours; convert it to RGB")]
    Cmyk,
    /// A cut-out is needed, and nothing marks the tissue.
    #[error("it has no alpha, which marks the conjunctiva")]
    NoAlpha,
    /// A cut-out without tissue.
    #[error("all of it is transparent; expected a cut-out, of which the conjunctiva is not")]
    Transparent,
    /// The bytes stop early or make no sense.
    #[error("the picture is damaged or cut short: {0}")]
    Damaged(String),
}

/// Reads a cut-out: a picture whose alpha is the tissue, which becomes `roi`.
pub fn read_cutout(path: &Path, frame: &mut Frame, roi: &mut Roi) -> Result<(), PictureError> {
    read_picture(path, frame)?;
    match AlphaLocator.locate(frame, roi) {
        true => Ok(()),
        false if frame.alpha().is_some() => Err(PictureError::Transparent),
        false => Err(PictureError::NoAlpha),
    }
}

/// Reads a PNG or JPEG file as an upright frame. See [`decode_picture`].
pub fn read_picture(path: &Path, frame: &mut Frame) -> Result<(), PictureError> {
    let unreadable = |cause| PictureError::Read { path: path.to_owned(), cause };
    let found = path.metadata().map_err(unreadable)?;
    // A pipe would block for ever, and a device never ends.
    if !found.is_file() || found.len() > MAX_BYTES {
        return Err(unreadable(std::io::Error::other("it is no regular file, or too long for a picture")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    decode_picture(&bytes, frame)
}

/// Decodes the bytes of a PNG or JPEG file into `frame`.
///
/// 16-bit channels are reduced to 8, palettes are resolved, the EXIF orientation is applied, and alpha is kept
/// where the file has it. Grey and CMYK pictures are refused, because their colours mean nothing here.
pub fn decode_picture(bytes: &[u8], frame: &mut Frame) -> Result<(), PictureError> {
    if bytes.is_empty() {
        return Err(PictureError::Empty);
    }
    let format = image::guess_format(bytes).map_err(|_| PictureError::Format)?;
    if !matches!(format, ImageFormat::Png | ImageFormat::Jpeg) {
        return Err(PictureError::Format);
    }
    if format == ImageFormat::Jpeg {
        check_jpeg(bytes)?;
    }
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_PIXELS * 8 + (64 << 20));
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS || width.max(height) > MAX_SIDE {
        return Err(PictureError::TooLarge { width, height });
    }
    match decoder.original_color_type() {
        ExtendedColorType::L1
        | ExtendedColorType::L2
        | ExtendedColorType::L4
        | ExtendedColorType::L8
        | ExtendedColorType::L16
        | ExtendedColorType::La8
        | ExtendedColorType::La16 => return Err(PictureError::Grey),
        _ => {}
    }
    if matches!(decoder.color_type(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16) {
        return Err(PictureError::Grey);
    }
    // A broken orientation tag is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if picture.color().has_alpha() {
        frame.set_rgba(width, height, picture.into_rgba8().as_raw());
    } else {
        frame.set_rgb(width, height, picture.into_rgb8().as_raw());
    }
    Ok(())
}

fn damaged(error: ImageError) -> PictureError {
    match &error {
        ImageError::Limits(limit) if limit.kind() == LimitErrorKind::InsufficientMemory => {
            PictureError::Damaged("it asks for more memory than its size allows".into())
        }
        _ => PictureError::Damaged(error.to_string()),
    }
}

/// Writes packed RGB bytes as a PNG file, aside and then renamed, so that a reader never sees half a picture.
pub fn write_png(path: &Path, width: usize, height: usize, rgb: &[u8]) -> std::io::Result<()> {
    write(path, width, height, rgb, ExtendedColorType::Rgb8)
}

/// Writes packed grey bytes, such as a mask, as a PNG file in the same careful way.
pub fn write_png_grey(path: &Path, width: usize, height: usize, grey: &[u8]) -> std::io::Result<()> {
    write(path, width, height, grey, ExtendedColorType::L8)
}

fn write(path: &Path, width: usize, height: usize, bytes: &[u8], colour: ExtendedColorType) -> std::io::Result<()> {
    let aside = path.with_extension("png.partial");
    image::save_buffer_with_format(&aside, bytes, width as u32, height as u32, colour, ImageFormat::Png)
        .map_err(std::io::Error::other)?;
    std::fs::rename(&aside, path)
}
