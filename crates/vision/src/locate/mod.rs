//! Finding the palpebral conjunctiva in a frame.

mod cells;
mod colour;
mod map;

pub use colour::ColourLocator;
pub use map::MapReader;

use crate::{Frame, Roi};

/// Finds the conjunctiva.
pub trait Locator: Send {
    /// Writes the conjunctiva into `roi` and says whether there is one; `roi` is empty if not.
    ///
    /// A locator keeps its memory, so that a frame of a size that it has seen before allocates nothing.
    fn locate(&mut self, frame: &Frame, roi: &mut Roi) -> bool;
}

/// Takes the alpha plane of the picture as the mask, as in the cut-outs of CP-AnemiC.
///
/// Every pixel that is not fully transparent belongs to the tissue: docs/design/pixels.md says why.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlphaLocator;

impl Locator for AlphaLocator {
    fn locate(&mut self, frame: &Frame, roi: &mut Roi) -> bool {
        roi.reserve(frame.width() * frame.height());
        match frame.alpha() {
            Some(alpha) => {
                roi.set_from(0, 0, frame.width(), frame.height(), |x, y| alpha[y * frame.width() + x] != 0);
            }
            None => roi.clear(),
        }
        !roi.is_empty()
    }
}

/// Takes a fixed box, for a kiosk whose chin rest puts every eye in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoxLocator {
    /// Left edge in frame pixels.
    pub x: usize,
    /// Top edge in frame pixels.
    pub y: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
}

impl Locator for BoxLocator {
    fn locate(&mut self, frame: &Frame, roi: &mut Roi) -> bool {
        // A box that reaches over the edge of the frame is clipped to it.
        let right = self.x.saturating_add(self.width).min(frame.width());
        let bottom = self.y.saturating_add(self.height).min(frame.height());
        roi.set_from(self.x.min(right), self.y.min(bottom), right, bottom, |_, _| true);
        !roi.is_empty()
    }
}
