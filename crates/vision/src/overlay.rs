//! Drawing what was found onto a picture, for people.

use crate::{Frame, Roi};

/// Draws the outline of the ROI, `thickness` pixels wide, into the frame.
pub fn draw_outline(frame: &mut Frame, roi: &Roi, colour: [u8; 3], thickness: usize) {
    let reach = thickness.max(1) as isize;
    let (width, height) = (frame.width(), frame.height());
    let inside = |x: isize, y: isize| x >= 0 && y >= 0 && roi.contains(x as usize, y as usize);
    for y in roi.y().saturating_sub(thickness)..(roi.y() + roi.height() + thickness).min(height) {
        for x in roi.x().saturating_sub(thickness)..(roi.x() + roi.width() + thickness).min(width) {
            let (column, row) = (x as isize, y as isize);
            let touches = (1..=reach).any(|step| {
                inside(column - step, row)
                    || inside(column + step, row)
                    || inside(column, row - step)
                    || inside(column, row + step)
            });
            if touches && !inside(column, row) {
                let at = (y * width + x) * 3;
                frame.rgb_mut()[at..at + 3].copy_from_slice(&colour);
            }
        }
    }
}

/// Darkens everything outside the ROI to half, so that the tissue stands out.
pub fn fade_outside(frame: &mut Frame, roi: &Roi) {
    let width = frame.width();
    for (at, pixel) in frame.rgb_mut().chunks_exact_mut(3).enumerate() {
        if !roi.contains(at % width, at / width) {
            pixel.iter_mut().for_each(|channel| *channel /= 2);
        }
    }
}
