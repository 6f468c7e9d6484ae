//! Everything between a picture and the numbers that a network reads.
//!
//! The trainer, the calibrator and the daemon prepare pixels only through this crate, so that a network sees on
//! the kiosk exactly what it was trained on. The steps, in order:
//!
//! 1. [`Frame`]: one picture, 8-bit sRGB, read from a file ([`read_picture`]) or from a camera ([`RawReader`]).
//! 2. [`Locator`]: finds the palpebral conjunctiva and describes it as a [`Roi`] (mask and box).
//! 3. [`Quality`]: measures whether the tissue can be judged at all.
//! 4. [`CutOut`]: ROI over black, cropped to its box, resized to the network's input, without its rim and smoothed as the
//!    network wants it.
//!
//! [`phantom`] renders eyes with a known mask and a known pallor, for demonstrations and tests.

mod cutout;
mod frame;
mod jpeg;
mod locate;
mod overlay;
pub mod phantom;
mod picture;
mod quality;
mod raw;
mod resample;
mod rim;
mod roi;
mod smooth;
mod squeeze;
mod track;
mod widest;

pub use cutout::{CutOut, InputSpec};
pub use frame::Frame;
pub use locate::{AlphaLocator, BoxLocator, ColourLocator, Locator, MapReader};
pub use overlay::{draw_outline, fade_outside};
pub use picture::{MAX_PIXELS, PictureError, decode_picture, read_cutout, read_picture, write_png, write_png_grey};
pub use quality::{GateThresholds, Quality, Rejection};
pub use raw::{RawError, RawFormat, RawPicture, RawReader, YuvColour, YuvMatrix};
pub use roi::Roi;
pub use smooth::BLACK;
pub use squeeze::Squeeze;
pub use track::{Followed, Tracker};
pub use widest::widest;
