//! What cameras give, turned into frames.

use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvError, YuvGrayImage, YuvRange, YuvStandardMatrix, bgr_to_rgb, bgra_to_rgb,
    yuv_nv12_to_rgb, yuv_nv16_to_rgb, yuv400_to_rgb,
};

use crate::Frame;
use crate::jpeg::read_motion_jpeg;

/// The largest side that a camera may have, in pixels.
const MAX_SIDE: usize = 8192;

/// How the pixels of a camera lie in memory. The names are those of V4L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RawFormat {
    /// Y0 U Y1 V for two pixels side by side.
    Yuyv,
    /// All Y, then in a second plane U V for every four pixels.
    Nv12,
    /// A JPEG for each picture.
    Mjpg,
    /// R G B.
    Rgb,
    /// B G R.
    Bgr,
    /// B G R and a byte that means nothing.
    Bgrx,
    /// Y only: it has no colour, and so no pallor. Good for aiming.
    Grey,
}

/// The matrix between RGB and luma and chroma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum YuvMatrix {
    /// ITU-R BT.601: most USB cameras.
    #[default]
    Bt601,
    /// ITU-R BT.709: most CSI cameras.
    Bt709,
    /// ITU-R BT.2020.
    Bt2020,
}

/// What the numbers of luma and chroma mean. Taken wrong, every colour is off, and colour is the signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct YuvColour {
    /// The matrix.
    pub matrix: YuvMatrix,
    /// 0 to 255 instead of 16 to 235.
    pub full_range: bool,
}

impl std::fmt::Display for YuvColour {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let matrix = match self.matrix {
            YuvMatrix::Bt601 => "BT.601",
            YuvMatrix::Bt709 => "BT.709",
            YuvMatrix::Bt2020 => "BT.2020",
        };
        write!(out, "{matrix} {}", if self.full_range { "full range" } else { "limited range" })
    }
}

/// One picture of a camera, where the driver or GStreamer put it.
#[derive(Clone, Copy, Debug)]
pub struct RawPicture<'a> {
    /// How its pixels lie.
    pub format: RawFormat,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// What luma and chroma mean; nothing for formats without.
    pub colour: YuvColour,
    /// The bytes of each plane, and the distance of two rows in bytes. Only [`RawFormat::Nv12`] has a second plane.
    pub planes: [(&'a [u8], usize); 2],
}

/// Why a picture of a camera cannot be used. The text is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// Fewer bytes than the size and the distance of the rows need.
    #[error("the picture has {found} bytes where {needed} are needed")]
    Short {
        /// Bytes that are there.
        found: usize,
        /// Bytes that must be there.
        needed: usize,
    },
    /// A size or a distance of rows that makes no picture.
    #[error("{width}×{height} pixels with rows of {stride} bytes are no picture")]
    Layout {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Distance of two rows in bytes.
        stride: usize,
    },
    /// A picture of another size than was agreed.
    #[error("the picture has {}×{} pixels instead of {}×{}", found.0, found.1, expected.0, expected.1)]
    Size {
        /// As agreed.
        expected: (usize, usize),
        /// As it came.
        found: (usize, usize),
    },
    /// The bytes make no sense.
    #[error("the picture is damaged: {cause}")]
    Damaged {
        /// What is wrong.
        cause: String,
    },
}

impl RawFormat {
    /// Bytes of a row of its first plane.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Yuyv => width * 2,
            Self::Nv12 | Self::Grey => width,
            Self::Rgb | Self::Bgr => width * 3,
            Self::Bgrx => width * 4,
            Self::Mjpg => 0,
        }
    }
}

impl<'a> RawPicture<'a> {
    /// A picture whose planes lie one after the other in `bytes`, as V4L2 gives them.
    pub fn packed(
        format: RawFormat,
        size: (usize, usize),
        stride: usize,
        colour: YuvColour,
        bytes: &'a [u8],
    ) -> Result<Self, RawError> {
        let (first, second) = match format {
            RawFormat::Nv12 => {
                let needed = stride.saturating_mul(size.1);
                bytes.split_at_checked(needed).ok_or(RawError::Short { found: bytes.len(), needed })?
            }
            _ => (bytes, &bytes[bytes.len()..]),
        };
        Ok(Self { format, size, colour, planes: [(first, stride), (second, stride)] })
    }

    /// Whether there are as many bytes as the conversion reads.
    fn check(&self) -> Result<(), RawError> {
        let (width, height) = self.size;
        let stride = self.planes[0].1;
        let layout = RawError::Layout { width, height, stride };
        let sides = 1..=MAX_SIDE;
        // Luma and chroma are shared by two pixels side by side, and in NV12 by two rows.
        let is_odd = match self.format {
            RawFormat::Yuyv => width % 2 != 0,
            RawFormat::Nv12 => width % 2 != 0 || height % 2 != 0,
            _ => false,
        };
        if !sides.contains(&width) || !sides.contains(&height) || is_odd {
            return Err(layout);
        }
        let row = self.format.row_bytes(width);
        let planes: &[_] = match self.format {
            RawFormat::Mjpg => &[],
            RawFormat::Nv12 => &[(self.planes[0], height), (self.planes[1], height / 2)],
            _ => &[(self.planes[0], height)],
        };
        for &((bytes, stride), rows) in planes {
            // Eight times is more than any padding.
            if stride < row || stride > 8 * row + 4096 {
                return Err(layout);
            }
            let needed = stride * (rows - 1) + row;
            if bytes.len() < needed {
                return Err(RawError::Short { found: bytes.len(), needed });
            }
        }
        Ok(())
    }
}

/// Rows that are split at a time: their luma and chroma stay in the first cache.
const STRIP: usize = 4;

/// Turns the pictures of a camera into frames, always in the same memory.
#[derive(Debug, Default)]
pub struct RawReader {
    luma: Vec<u8>,
    chroma: Vec<u8>,
    jpeg: Vec<u8>,
}

impl RawReader {
    /// A reader.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a picture into `frame`. When it fails, the content of `frame` means nothing.
    pub fn read(&mut self, picture: &RawPicture<'_>, frame: &mut Frame) -> Result<(), RawError> {
        picture.check()?;
        let (width, height) = picture.size;
        let [(first, stride), (second, second_stride)] = picture.planes;
        frame.resize(width, height);
        let rgb = frame.rgb_mut();
        let rgb_stride = 3 * width as u32;
        let (matrix, range) = picture.colour.of_the_library();
        let (wide, high) = (width as u32, height as u32);
        let outcome = match picture.format {
            RawFormat::Yuyv => self.read_yuyv(first, stride, width, rgb, (matrix, range)),
            RawFormat::Nv12 => yuv_nv12_to_rgb(
                &YuvBiPlanarImage {
                    y_plane: first,
                    y_stride: stride as u32,
                    uv_plane: second,
                    uv_stride: second_stride as u32,
                    width: wide,
                    height: high,
                },
                rgb,
                rgb_stride,
                range,
                matrix,
                YuvConversionMode::Balanced,
            ),
            RawFormat::Grey => yuv400_to_rgb(
                // V4L2's GREY and GStreamer's GRAY8 are 0 to 255.
                &YuvGrayImage { y_plane: first, y_stride: stride as u32, width: wide, height: high },
                rgb,
                rgb_stride,
                YuvRange::Full,
                matrix,
            ),
            RawFormat::Bgr => bgr_to_rgb(first, stride as u32, rgb, rgb_stride, wide, high),
            RawFormat::Bgrx => bgra_to_rgb(first, stride as u32, rgb, rgb_stride, wide, high),
            RawFormat::Rgb => {
                for (from, to) in first.chunks(stride).zip(rgb.chunks_exact_mut(3 * width)) {
                    to.copy_from_slice(&from[..3 * width]);
                }
                Ok(())
            }
            RawFormat::Mjpg => return read_motion_jpeg(first, picture.size, &mut self.jpeg, rgb),
        };
        outcome.map_err(|error| RawError::Damaged { cause: error.to_string() })
    }

    /// Splits luma from chroma and goes on as for two planes: twice as fast as the library's own way for YUYV.
    fn read_yuyv(
        &mut self,
        bytes: &[u8],
        stride: usize,
        width: usize,
        rgb: &mut [u8],
        (matrix, range): (YuvStandardMatrix, YuvRange),
    ) -> Result<(), YuvError> {
        self.luma.resize(width * STRIP, 0);
        self.chroma.resize(width * STRIP, 0);
        for (from, to) in bytes.chunks(stride * STRIP).zip(rgb.chunks_mut(3 * width * STRIP)) {
            let rows = to.len() / (3 * width);
            let planes = self.luma.chunks_exact_mut(width).zip(self.chroma.chunks_exact_mut(width));
            for (row, (luma, chroma)) in from.chunks(stride).zip(planes).take(rows) {
                split(&row[..2 * width], luma, chroma);
            }
            let strip = YuvBiPlanarImage {
                y_plane: &self.luma[..rows * width],
                y_stride: width as u32,
                uv_plane: &self.chroma[..rows * width],
                uv_stride: width as u32,
                width: width as u32,
                height: rows as u32,
            };
            yuv_nv16_to_rgb(&strip, to, 3 * width as u32, range, matrix, YuvConversionMode::Balanced)?;
        }
        Ok(())
    }
}

/// Even bytes to `luma`, odd bytes to `chroma`.
fn split(bytes: &[u8], luma: &mut [u8], chroma: &mut [u8]) {
    const BLOCK: usize = 32;
    let (blocks, rest) = bytes.as_chunks::<{ 2 * BLOCK }>();
    let (luma_blocks, luma_rest) = luma.as_chunks_mut::<BLOCK>();
    let (chroma_blocks, chroma_rest) = chroma.as_chunks_mut::<BLOCK>();
    for ((bytes, luma), chroma) in blocks.iter().zip(luma_blocks).zip(chroma_blocks) {
        // Through 16-bit words, which the compiler turns into vectors; byte by byte it takes ten times as long.
        let mut words = [0_u16; BLOCK];
        for (word, pair) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u16::from_le_bytes(*pair);
        }
        for (luma, word) in luma.iter_mut().zip(words) {
            *luma = word as u8;
        }
        for (chroma, word) in chroma.iter_mut().zip(words) {
            *chroma = (word >> 8) as u8;
        }
    }
    for ((&[y, uv], luma), chroma) in rest.as_chunks().0.iter().zip(luma_rest).zip(chroma_rest) {
        (*luma, *chroma) = (y, uv);
    }
}

impl YuvColour {
    fn of_the_library(self) -> (YuvStandardMatrix, YuvRange) {
        let matrix = match self.matrix {
            YuvMatrix::Bt601 => YuvStandardMatrix::Bt601,
            YuvMatrix::Bt709 => YuvStandardMatrix::Bt709,
            YuvMatrix::Bt2020 => YuvStandardMatrix::Bt2020,
        };
        (matrix, if self.full_range { YuvRange::Full } else { YuvRange::Limited })
    }
}
