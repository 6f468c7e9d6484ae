//! Which formats a camera offers, and which of them is nearest to a wish.

use std::{fmt, io};

use ::v4l::device::Device;
use ::v4l::frameinterval::FrameIntervalEnum;
use ::v4l::framesize::FrameSizeEnum;
use ::v4l::video::Capture;
use ::v4l::{FourCC, Fraction};
use anemia_vision::RawFormat;

/// What can be read, the best first: the less chroma is thrown away, the better is the colour.
const READABLE: [(RawFormat, &[u8; 4]); 6] = [
    (RawFormat::Rgb, b"RGB3"),
    (RawFormat::Bgr, b"BGR3"),
    (RawFormat::Yuyv, b"YUYV"),
    (RawFormat::Nv12, b"NV12"),
    (RawFormat::Mjpg, b"MJPG"),
    (RawFormat::Grey, b"GREY"),
];

/// The format of a code.
pub(super) fn of(code: FourCC) -> Option<RawFormat> {
    READABLE.iter().find(|(_, known)| **known == code.repr).map(|(format, _)| *format)
}

/// Its code in V4L2.
pub(super) fn fourcc(format: RawFormat) -> FourCC {
    FourCC::new(name_bytes(format))
}

/// Its name in V4L2.
pub(super) fn name(format: RawFormat) -> &'static str {
    std::str::from_utf8(name_bytes(format)).unwrap_or_default()
}

fn name_bytes(format: RawFormat) -> &'static [u8; 4] {
    // V4L2 has no format that is not in the table but BGRx, which only GStreamer gives.
    READABLE.iter().find(|(known, _)| *known == format).map_or(b"BGR4", |(_, name)| name)
}

/// All names that a camera offers, readable or not.
pub(super) fn names(device: &Device) -> io::Result<Vec<String>> {
    Ok(device.enum_formats()?.into_iter().map(|format| format.fourcc.to_string()).collect())
}

/// A format that can be read, a range of sizes, and the rates that the camera has there.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// The format.
    pub format: RawFormat,
    /// Least, greatest and step of the width in pixels.
    pub width: [u32; 3],
    /// The same of the height.
    pub height: [u32; 3],
    /// The greatest frame rate in Hz, where the camera tells one.
    pub rate_hz: Option<f64>,
}

impl Offer {
    /// The size in its range that is nearest to another one.
    pub fn nearest(&self, (width, height): (u32, u32)) -> (u32, u32) {
        let nearest = |[least, greatest, step]: [u32; 3], wish: u32| {
            let wish = wish.clamp(least, greatest.max(least));
            least + (wish - least) / step.max(1) * step.max(1)
        };
        (nearest(self.width, width), nearest(self.height, height))
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { format, width, height, rate_hz } = self;
        write!(out, "{} {}×{}", name(*format), width[1], height[1])?;
        if width[0] < width[1] || height[0] < height[1] {
            write!(out, ", down to {}×{}", width[0], height[0])?;
        }
        match rate_hz {
            Some(rate) => write!(out, ", up to {rate:.1} Hz"),
            None => Ok(()),
        }
    }
}

/// What a camera offers that can be read.
pub fn offers(device: &Device) -> io::Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for description in device.enum_formats()? {
        let Some(format) = of(description.fourcc) else { continue };
        let sizes = device.enum_framesizes(description.fourcc).unwrap_or_default();
        // Drivers of few words: they take a size and say what they made of it.
        if sizes.is_empty() {
            offers.push(Offer { format, width: [1, 8192, 1], height: [1, 8192, 1], rate_hz: None });
        }
        for size in sizes {
            let (width, height) = match size.size {
                FrameSizeEnum::Discrete(size) => ([size.width, size.width, 1], [size.height, size.height, 1]),
                FrameSizeEnum::Stepwise(range) => (
                    [range.min_width, range.max_width, range.step_width],
                    [range.min_height, range.max_height, range.step_height],
                ),
            };
            let rates = device.enum_frameintervals(description.fourcc, width[1], height[1]).unwrap_or_default();
            let rate_hz = rates.into_iter().filter_map(|rate| match rate.interval {
                FrameIntervalEnum::Discrete(interval) => hertz(interval),
                FrameIntervalEnum::Stepwise(range) => hertz(range.min),
            });
            offers.push(Offer { format, width, height, rate_hz: rate_hz.max_by(f64::total_cmp) });
        }
    }
    Ok(offers)
}

fn hertz(interval: Fraction) -> Option<f64> {
    let rate = f64::from(interval.denominator) / f64::from(interval.numerator);
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) format: Option<RawFormat>,
    pub(super) size: (u32, u32),
    pub(super) rate_hz: f64,
}

/// The offer that is nearest: first in size, then in rate, then the one with the most chroma.
pub(super) fn choose<'a>(offers: &'a [Offer], wish: &Wish) -> Option<&'a Offer> {
    let wanted = |offer: &&Offer| match wish.format {
        Some(format) => offer.format == format,
        // Without colour there is no pallor: never by itself.
        None => offer.format != RawFormat::Grey,
    };
    let distance = |offer: &Offer| {
        let (width, height) = offer.nearest(wish.size);
        let ratio = |found: u32, wish: u32| (f64::from(found.max(1)) / f64::from(wish.max(1))).ln().abs();
        let size = ratio(width, wish.size.0) + ratio(height, wish.size.1);
        // Cameras say 29.97 for 30.
        let slower = offer.rate_hz.map_or(0.0, |rate| (wish.rate_hz / rate).ln().max(0.0));
        let rank = READABLE.iter().position(|(format, _)| *format == offer.format);
        ((size * 100.0) as u32, (slower * 20.0) as u32, rank)
    };
    offers.iter().filter(wanted).min_by_key(|offer| distance(offer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(format: RawFormat, width: u32, height: u32, rate_hz: f64) -> Offer {
        Offer { format, width: [width, width, 1], height: [height, height, 1], rate_hz: Some(rate_hz) }
    }

    /// A usual USB camera: what does not fit through the cable comes slowly, or as JPEG.
    fn webcam() -> Vec<Offer> {
        vec![
            offer(RawFormat::Mjpg, 640, 480, 30.0),
            offer(RawFormat::Mjpg, 1280, 720, 29.97),
            offer(RawFormat::Mjpg, 1920, 1080, 30.0),
            offer(RawFormat::Yuyv, 640, 480, 30.0),
            offer(RawFormat::Yuyv, 1280, 720, 10.0),
            offer(RawFormat::Grey, 1280, 720, 60.0),
        ]
    }

    fn chosen(offers: &[Offer], format: Option<RawFormat>, size: (u32, u32), rate_hz: f64) -> (RawFormat, (u32, u32)) {
        let offer = choose(offers, &Wish { format, size, rate_hz }).unwrap();
        (offer.format, offer.nearest(size))
    }

    #[test]
    fn size_comes_first_then_rate_then_chroma() {
        let offers = webcam();
        assert_eq!(chosen(&offers, None, (1280, 720), 30.0), (RawFormat::Mjpg, (1280, 720)), "YUYV is too slow");
        assert_eq!(chosen(&offers, None, (1280, 720), 10.0), (RawFormat::Yuyv, (1280, 720)), "YUYV is fast enough");
        assert_eq!(chosen(&offers, None, (640, 480), 30.0), (RawFormat::Yuyv, (640, 480)));
        assert_eq!(chosen(&offers, None, (1300, 700), 30.0), (RawFormat::Mjpg, (1280, 720)), "the nearest");
        assert_eq!(chosen(&offers, Some(RawFormat::Yuyv), (1920, 1080), 30.0), (RawFormat::Yuyv, (1280, 720)));
        assert_eq!(chosen(&offers, Some(RawFormat::Grey), (1280, 720), 30.0).0, RawFormat::Grey, "only when asked for");
    }

    #[test]
    fn a_camera_that_offers_nothing_readable_is_none() {
        let wish = Wish { format: None, size: (640, 480), rate_hz: 30.0 };
        assert_eq!(choose(&[], &wish), None);
        assert_eq!(choose(&[offer(RawFormat::Grey, 640, 480, 30.0)], &wish), None);
    }

    #[test]
    fn a_range_of_sizes_is_met_on_its_grid() {
        let range = Offer { format: RawFormat::Yuyv, width: [48, 4096, 16], height: [32, 2160, 8], rate_hz: None };
        assert_eq!(range.nearest((1280, 720)), (1280, 720));
        assert_eq!(range.nearest((1281, 723)), (1280, 720));
        assert_eq!(range.nearest((10, 9999)), (48, 2160));
        let strange = Offer { width: [9, 3, 0], ..range };
        assert_eq!(strange.nearest((1280, 720)).0, 9, "a driver's nonsense does no harm");
    }

    #[test]
    fn names_are_those_of_v4l2() {
        for (format, code) in READABLE {
            assert_eq!(of(FourCC::new(code)), Some(format));
            assert_eq!(fourcc(format).repr, *code);
        }
        assert_eq!(of(FourCC::new(b"H264")), None);
    }
}
