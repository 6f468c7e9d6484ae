//! What was found, drawn onto a picture for people: mask, box, figures and verdict; and sheets of many such pictures.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use anemia_bundle::{OperatingPoint, Verdict};
use anemia_vision::{Frame, Roi, Squeeze, draw_outline, fade_outside, write_png};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::{FONT_6X10, FONT_10X20};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

use crate::pipeline::{Analysis, probability};

/// Height of a line of text at scale 1, in pixels.
const LINE: i32 = 21;
/// Width of the picture for which text has scale 1.
const SCALE_WIDTH: usize = 500;

/// Draws what was found into the picture itself.
pub fn draw(frame: &mut Frame, roi: &Roi, analysis: &Analysis, point: &OperatingPoint) {
    let (verdict, _) = analysis.verdict(point);
    let colour = colour_of(verdict);
    let scale = (frame.width() / SCALE_WIDTH).max(1);
    let bytes = [colour.r(), colour.g(), colour.b()];
    if !roi.is_empty() {
        fade_outside(frame, roi);
        draw_outline(frame, roi, bytes, scale);
        let (corner, size) =
            (Point::new(roi.x() as i32, roi.y() as i32), Size::new(roi.width() as u32, roi.height() as u32));
        let line = PrimitiveStyle::with_stroke(colour, scale as u32);
        let Ok(()) = Rectangle::new(corner, size).into_styled(line).draw(&mut Canvas { frame, scale: 1 });
    }
    let quality = analysis.quality;
    let lines = [
        headline(analysis, verdict),
        format!(
            "tissue {} px, exposure {:.2}, sharpness {:.3}",
            quality.tissue_px, quality.exposure, quality.sharpness
        ),
        format!(
            "clipped {:.1} %, glare {:.1} %, red {:.2}, blue {:.2}",
            quality.clipped * 100.0,
            quality.glare * 100.0,
            quality.red,
            quality.blue
        ),
    ];
    // Without tissue, there are no figures of it.
    let lines = if quality.tissue_px == 0 { &lines[..1] } else { &lines[..] };
    let mut canvas = Canvas { frame, scale };
    let size = canvas.size();
    let top = size.height as i32 - LINE * lines.len() as i32 - 4;
    canvas.darken(top);
    for (number, line) in lines.iter().enumerate() {
        let style = MonoTextStyle::new(&FONT_10X20, if number == 0 { colour } else { Rgb888::WHITE });
        let at = Point::new(4, top + 2 + LINE * number as i32);
        let Ok(_) = Text::with_baseline(line, at, style, Baseline::Top).draw(&mut canvas);
    }
}

fn headline(analysis: &Analysis, verdict: Verdict) -> String {
    match analysis.outcome {
        Ok(logit) => format!("{verdict}, probability {:.3}", probability(logit)),
        Err(reason) => format!("{verdict}: {reason}"),
    }
}

/// As on a traffic light; grey where nothing was judged.
fn colour_of(verdict: Verdict) -> Rgb888 {
    match verdict {
        Verdict::Anemic => Rgb888::new(255, 90, 80),
        Verdict::NonAnemic => Rgb888::new(90, 220, 110),
        Verdict::Indeterminate => Rgb888::new(245, 190, 60),
        Verdict::Retake => Rgb888::new(190, 190, 190),
    }
}

/// A picture that is drawn on, in dots of `scale` × `scale` pixels.
struct Canvas<'a> {
    frame: &'a mut Frame,
    scale: usize,
}

impl Canvas<'_> {
    /// Makes everything from a row of dots on darker, so that text can be read on it.
    fn darken(&mut self, top: i32) {
        let start = top.max(0) as usize * self.scale * self.frame.width() * 3;
        self.frame.rgb_mut().iter_mut().skip(start).for_each(|byte| *byte /= 4);
    }
}

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new((self.frame.width() / self.scale) as u32, (self.frame.height() / self.scale) as u32)
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let (scale, width, height) = (self.scale, self.frame.width(), self.frame.height());
        for Pixel(Point { x, y }, colour) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { continue };
            for y in y * scale..((y + 1) * scale).min(height) {
                for x in x * scale..((x + 1) * scale).min(width) {
                    let at = (y * width + x) * 3;
                    self.frame.rgb_mut()[at..at + 3].copy_from_slice(&[colour.r(), colour.g(), colour.b()]);
                }
            }
        }
        Ok(())
    }
}

/// Pictures across a contact sheet, and down at most.
const COLUMNS: usize = 5;
const ROWS: usize = 12;
/// Size of a picture on it, and of the two lines below.
const THUMB: [usize; 2] = [320, 240];
const CAPTION: usize = 26;

/// Contact sheets: every picture of a folder at a glance, 60 to a sheet.
pub struct Sheets {
    folder: PathBuf,
    squeeze: Squeeze,
    cells: Vec<Frame>,
    written: usize,
}

impl Sheets {
    /// Sheets that are written into `folder` as `contact-sheet-1.png` and so on.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), squeeze: Squeeze::new(), cells: Vec::new(), written: 0 }
    }

    /// Adds a picture in which what was found is drawn already.
    pub fn add(
        &mut self,
        name: &str,
        overlay: &Frame,
        analysis: &Analysis,
        point: &OperatingPoint,
    ) -> std::io::Result<()> {
        let [most_wide, most_high] = THUMB;
        let share = (most_wide as f32 / overlay.width() as f32).min(most_high as f32 / overlay.height() as f32);
        let fit = |size: usize, most: usize| ((size as f32 * share).round() as usize).clamp(1, most);
        let (width, height) = (fit(overlay.width(), most_wide), fit(overlay.height(), most_high));
        let thumb = self.squeeze.squeeze(overlay, width, height);
        let mut cell = Frame::new(most_wide, most_high + CAPTION);
        let (left, top) = ((most_wide - width) / 2, (most_high - height) / 2);
        paste(thumb, width, cell.rgb_mut(), most_wide, [left, top]);
        let (verdict, _) = analysis.verdict(point);
        let mut canvas = Canvas { frame: &mut cell, scale: 1 };
        // The end of a long name tells more than its beginning.
        let letters: Vec<char> = name.chars().collect();
        let name: String = letters[letters.len().saturating_sub(most_wide / 6 - 1)..].iter().collect();
        for (number, (line, colour)) in
            [(name, Rgb888::WHITE), (headline(analysis, verdict), colour_of(verdict))].into_iter().enumerate()
        {
            let at = Point::new(3, (most_high + 2 + 12 * number) as i32);
            let style = MonoTextStyle::new(&FONT_6X10, colour);
            let Ok(_) = Text::with_baseline(&line, at, style, Baseline::Top).draw(&mut canvas);
        }
        self.cells.push(cell);
        if self.cells.len() == COLUMNS * ROWS { self.write() } else { Ok(()) }
    }

    /// Writes the last sheet.
    pub fn finish(mut self) -> std::io::Result<()> {
        if self.cells.is_empty() { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> std::io::Result<()> {
        let (wide, high) = (THUMB[0], THUMB[1] + CAPTION);
        let columns = self.cells.len().min(COLUMNS);
        let (width, height) = (columns * wide, self.cells.len().div_ceil(columns) * high);
        let mut sheet = vec![0; width * height * 3];
        for (number, cell) in self.cells.drain(..).enumerate() {
            let (left, top) = (number % columns * wide, number / columns * high);
            paste(cell.rgb(), wide, &mut sheet, width, [left, top]);
        }
        self.written += 1;
        write_png(&self.folder.join(format!("contact-sheet-{}.png", self.written)), width, height, &sheet)
    }
}

/// Copies a picture of `width` pixels a row into one of `onto_width`, where it fits.
fn paste(picture: &[u8], width: usize, onto: &mut [u8], onto_width: usize, [left, top]: [usize; 2]) {
    for (row, pixels) in picture.chunks_exact(width * 3).enumerate() {
        let at = ((top + row) * onto_width + left) * 3;
        onto[at..at + width * 3].copy_from_slice(pixels);
    }
}
