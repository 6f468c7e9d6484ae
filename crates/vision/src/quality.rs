//! Whether the tissue in a picture can be judged at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Frame, Roi};

/// What was measured on the pixels of the ROI, and only on them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quality {
    /// Area of the tissue in pixels of the original picture.
    pub tissue_px: u32,
    /// Root mean square of the Laplacian of the luma, as a share of the mean luma. 0 is featureless.
    ///
    /// The four neighbours are a 112th of the ROI's width away, as far as its height allows, at least one pixel: finer detail is lost in the
    /// cut-out, so it does not matter whether it is sharp.
    pub sharpness: f32,
    /// Mean luma, 0 (black) to 1 (white).
    pub exposure: f32,
    /// Share of pixels, 0 to 1, in which a channel is clipped (254 or 255), so that the colour is lost.
    pub clipped: f32,
    /// Share of pixels, 0 to 1, that are specular reflections: bright and without colour.
    pub glare: f32,
    /// Red of the mean colour, in its green: what grey light on pale tissue keeps above 1.
    pub red: f32,
    /// Blue of the mean colour, in its green: the colour of the light more than that of the tissue.
    pub blue: f32,
    /// How fast the tissue moves, in its widths a second; 0 for a single picture.
    pub motion: f32,
}

/// The limits of the quality gate. A picture that breaks one is rejected with the first reason in this order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateThresholds {
    /// Least area of tissue in pixels.
    pub min_tissue_px: u32,
    /// Least mean luma.
    pub min_exposure: f32,
    /// Greatest mean luma.
    pub max_exposure: f32,
    /// Greatest share of clipped pixels.
    pub max_clipped: f32,
    /// Greatest share of specular pixels.
    pub max_glare: f32,
    /// Greatest speed, in widths of the tissue a second.
    pub max_motion: f32,
    /// Least sharpness.
    pub min_sharpness: f32,
    /// Least and greatest red of the mean colour, in its green.
    pub red: [f32; 2],
    /// Least and greatest blue of the mean colour, in its green.
    pub blue: [f32; 2],
}

impl GateThresholds {
    /// A gate that lets everything through in which there is tissue.
    pub const OPEN: Self = Self {
        min_tissue_px: 0,
        min_exposure: 0.0,
        max_exposure: f32::INFINITY,
        max_clipped: f32::INFINITY,
        max_glare: f32::INFINITY,
        min_sharpness: 0.0,
        max_motion: f32::INFINITY,
        red: [0.0, f32::INFINITY],
        blue: [0.0, f32::INFINITY],
    };
}

/// Why a picture gets no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// No conjunctiva was found.
    NoConjunctiva,
    /// The visible tissue is too small.
    TooSmall,
    /// The tissue is too dark.
    TooDark,
    /// The tissue is too bright or its colour is clipped.
    TooBright,
    /// Reflections cover too much of the tissue.
    Glare,
    /// The tissue moves from frame to frame.
    Moving,
    /// The tissue is out of focus or moved.
    Blurred,
    /// The light has a colour in which the model cannot judge.
    ColourCast,
    /// More than one eye is in view.
    SeveralEyes,
    /// The eye is the wrong way round: so is the camera, or the patient.
    UpsideDown,
    /// The network gave no number, or one that is not finite.
    EngineFailed,
    /// The camera gave no picture at all.
    NoPicture,
}

impl Rejection {
    /// Every reason. Of two that are as frequent in an exam, the first here is told.
    pub const ALL: [Self; 12] = [
        Self::NoConjunctiva,
        Self::TooSmall,
        Self::TooDark,
        Self::TooBright,
        Self::Glare,
        Self::Moving,
        Self::Blurred,
        Self::ColourCast,
        Self::SeveralEyes,
        Self::UpsideDown,
        Self::EngineFailed,
        Self::NoPicture,
    ];

    /// The reason as it is written in JSON, and one line of what to do about it.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NoConjunctiva => ("no_conjunctiva", "pull the lower lid down and look up"),
            Self::TooSmall => ("too_small", "come closer to the camera"),
            Self::TooDark => ("too_dark", "more light is needed"),
            Self::TooBright => ("too_bright", "less light is needed"),
            Self::Glare => ("glare", "turn a little to move the reflection away"),
            Self::Blurred => ("blurred", "hold still, a little nearer or farther"),
            Self::Moving => ("moving", "hold still"),
            Self::ColourCast => ("colour_cast", "use white light, and set the camera's white balance"),
            Self::SeveralEyes => ("several_eyes", "only one eye in view, please"),
            Self::UpsideDown => ("upside_down", "turn the camera the right way up"),
            Self::EngineFailed => ("engine_failed", "the network gave no result; call the service"),
            Self::NoPicture => ("no_picture", "the camera gives no pictures; call the service"),
        }
    }
}

impl std::fmt::Display for Rejection {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.words().0)
    }
}

impl Quality {
    /// Measures the pixels of `roi` in `frame`, in one pass and without allocating.
    pub fn measure(frame: &Frame, roi: &Roi) -> Self {
        if roi.is_empty() {
            return Self::default();
        }
        let (mut sums, mut clipped, mut glare) = ([0u64; 3], 0u32, 0u32);
        let (mut edge_sum, mut edges) = (0u64, 0u32);
        // A thin ROI has no pixel with neighbours that far above and below.
        let step = (roi.width() / 112).min(roi.height().saturating_sub(1) / 2).max(1);
        let stride = frame.width() * 3;
        // Of a large ROI, every second pixel of that distance is looked at, in both directions.
        let pace = step.div_ceil(2);
        let mut measured = 0u32;
        for row in (0..roi.height()).step_by(pace) {
            let mask = roi.row(row);
            let start = (roi.y() + row) * stride + roi.x() * 3;
            let pixels = &frame.rgb()[start..][..roi.width() * 3];
            let framed = (row >= step && row + step < roi.height()).then(|| {
                let rgb = frame.rgb();
                (&rgb[start - step * stride..], &rgb[start + step * stride..], roi.row(row - step), roi.row(row + step))
            });
            for (column, pixel) in pixels.chunks_exact(3).enumerate().step_by(pace) {
                if mask[column] == 0 {
                    continue;
                }
                measured += 1;
                let here = luma(pixel);
                (0..3).for_each(|channel| sums[channel] += u64::from(pixel[channel]));
                let (least, greatest) = (pixel[0].min(pixel[1]).min(pixel[2]), pixel[0].max(pixel[1]).max(pixel[2]));
                clipped += u32::from(greatest >= 254);
                glare += u32::from(is_specular(least, greatest));
                // The edge of the mask is not an edge of the tissue: only pixels with all four neighbours count.
                if let Some((above, below, mask_above, mask_below)) = framed
                    && column >= step
                    && column + step < roi.width()
                    && mask[column - step] & mask[column + step] & mask_above[column] & mask_below[column] != 0
                {
                    let neighbours = luma(&pixels[(column - step) * 3..])
                        + luma(&pixels[(column + step) * 3..])
                        + luma(&above[column * 3..])
                        + luma(&below[column * 3..]);
                    let laplacian = i64::from(neighbours) - 4 * i64::from(here);
                    edge_sum += (laplacian * laplacian) as u64;
                    edges += 1;
                }
            }
        }
        // A tissue so thin that no row of it was looked at counts as black.
        let area = measured.max(1) as f32;
        let [red, green, blue] = sums.map(|sum| sum as f32 / area);
        let mean = 77.0 * red + 150.0 * green + 29.0 * blue;
        Self {
            tissue_px: roi.area() as u32,
            sharpness: (edge_sum as f32 / edges.max(1) as f32).sqrt() / mean.max(1.0),
            exposure: mean / (256.0 * 255.0),
            clipped: clipped as f32 / area,
            glare: glare as f32 / area,
            red: red / green.max(1.0),
            blue: blue / green.max(1.0),
            motion: 0.0,
        }
    }

    /// The first limit that is broken, or `None` when the tissue can be judged.
    pub fn rejection(&self, limits: &GateThresholds) -> Option<Rejection> {
        let checks = [
            (self.tissue_px == 0, Rejection::NoConjunctiva),
            (self.tissue_px < limits.min_tissue_px, Rejection::TooSmall),
            (self.exposure < limits.min_exposure, Rejection::TooDark),
            (self.exposure > limits.max_exposure || self.clipped > limits.max_clipped, Rejection::TooBright),
            (self.glare > limits.max_glare, Rejection::Glare),
            (self.motion > limits.max_motion, Rejection::Moving),
            (self.sharpness < limits.min_sharpness, Rejection::Blurred),
            (!within(self.red, limits.red) || !within(self.blue, limits.blue), Rejection::ColourCast),
        ];
        checks.into_iter().find(|(broken, _)| *broken).map(|(_, reason)| reason)
    }
}

fn within(value: f32, [least, greatest]: [f32; 2]) -> bool {
    (least..=greatest).contains(&value)
}

/// Least value of every channel of a reflection.
pub(crate) const SPECULAR: u8 = 200;

/// Whether a pixel with that least and greatest channel is a reflection of the lamp: bright and without colour.
pub(crate) fn is_specular(least: u8, greatest: u8) -> bool {
    least >= SPECULAR && greatest - least <= 40
}

/// Luma of BT.601 with weights of 1/256, 0 to 255·256.
fn luma(pixel: &[u8]) -> u32 {
    77 * u32::from(pixel[0]) + 150 * u32::from(pixel[1]) + 29 * u32::from(pixel[2])
}
