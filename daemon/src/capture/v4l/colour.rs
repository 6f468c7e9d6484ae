//! What a camera says about the meaning of its luma and chroma. The crate `v4l` leaves out the matrix.

use std::io;
use std::mem;

use ::v4l::buffer::Type;
use ::v4l::device::Device;
use ::v4l::v4l_sys as sys;
use ::v4l::v4l2;
use anemia_vision::{YuvColour, YuvMatrix};

/// The colour of the format that is set.
#[allow(unsafe_code)]
pub(super) fn of(device: &Device) -> io::Result<YuvColour> {
    // SAFETY: it is a plain C structure of integers and unions of them, for which zero is a value.
    let mut format: sys::v4l2_format = unsafe { mem::zeroed() };
    format.type_ = Type::VideoCapture as u32;
    // SAFETY: VIDIOC_G_FMT reads and writes one `v4l2_format`, which is ours, and nothing keeps the pointer; of the union, the
    // member `pix` is the one that belongs to this type of buffer, and both members of the union in it are one integer.
    let (colour_space, matrix, range) = unsafe {
        v4l2::ioctl(device.handle().fd(), v4l2::vidioc::VIDIOC_G_FMT, (&raw mut format).cast())?;
        let pixels = format.fmt.pix;
        (pixels.colorspace, pixels.__bindgen_anon_1.ycbcr_enc, pixels.quantization)
    };
    Ok(meaning(colour_space, matrix, range))
}

/// As V4L2_MAP_YCBCR_ENC_DEFAULT and V4L2_MAP_QUANTIZATION_DEFAULT of the kernel's `videodev2.h` say it.
fn meaning(colour_space: u32, matrix: u32, range: u32) -> YuvColour {
    let by_space = match colour_space {
        sys::v4l2_colorspace_V4L2_COLORSPACE_REC709 | sys::v4l2_colorspace_V4L2_COLORSPACE_DCI_P3 => YuvMatrix::Bt709,
        sys::v4l2_colorspace_V4L2_COLORSPACE_BT2020 => YuvMatrix::Bt2020,
        _ => YuvMatrix::Bt601,
    };
    let matrix = match matrix {
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_601 | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV601 => YuvMatrix::Bt601,
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709 | sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_XV709 => YuvMatrix::Bt709,
        sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_BT2020 => YuvMatrix::Bt2020,
        _ => by_space,
    };
    let full_range = match range {
        sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE => true,
        sys::v4l2_quantization_V4L2_QUANTIZATION_LIM_RANGE => false,
        _ => colour_space == sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG,
    };
    YuvColour { matrix, full_range }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_follows_from_the_colour_space() {
        let bt601 = YuvColour::default();
        // A USB camera: sRGB, and nothing else is said.
        assert_eq!(meaning(sys::v4l2_colorspace_V4L2_COLORSPACE_SRGB, 0, 0), bt601);
        let bt709 = YuvColour { matrix: YuvMatrix::Bt709, full_range: false };
        assert_eq!(meaning(sys::v4l2_colorspace_V4L2_COLORSPACE_REC709, 0, 0), bt709);
        assert_eq!(
            meaning(sys::v4l2_colorspace_V4L2_COLORSPACE_SRGB, sys::v4l2_ycbcr_encoding_V4L2_YCBCR_ENC_709, 0),
            bt709
        );
        assert!(meaning(sys::v4l2_colorspace_V4L2_COLORSPACE_JPEG, 0, 0).full_range);
        let full = sys::v4l2_quantization_V4L2_QUANTIZATION_FULL_RANGE;
        assert!(meaning(sys::v4l2_colorspace_V4L2_COLORSPACE_SRGB, 0, full).full_range);
    }
}
