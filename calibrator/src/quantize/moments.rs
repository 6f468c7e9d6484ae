//! What the inputs of a convolution look like: means and covariances over all its output pixels of all pictures.

use anyhow::Result;
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use super::rounding::{Covariance, damped};
use crate::network::{Conv, Map};

/// Means and products of what a convolution sees, once as the float network has it and once as the quantized one.
pub struct Moments {
    /// Mean of each column entry of the float network, group after group.
    pub float_mean: Vec<f64>,
    /// The same of the quantized network.
    pub mean: Vec<f64>,
    /// Covariance of the quantized network's inputs.
    pub covariance: Covariance,
    /// Covariance of (float − quantized) with quantized inputs, for each group.
    drift: Vec<Mat<f64>>,
    /// Whether enough pixels were looked at for `drift`, which is 0 otherwise.
    is_enough: bool,
}

/// Sums over pictures, for one group.
struct Sums {
    pixels: f64,
    float: Vec<f64>,
    own: Vec<f64>,
    products: Mat<f64>,
    drift: Mat<f64>,
}

impl Moments {
    /// Measures the inputs of `conv`: `float[k]` and `own[k]` belong to one picture.
    pub fn of(conv: &Conv, float: &[&Map], own: &[&Map]) -> Self {
        let groups = conv.groups;
        let single =
            Conv { inputs: conv.inputs / groups, groups: 1, outputs: 1, weights: vec![], bias: vec![], ..*conv };
        let places = places(&single, float);
        let is_enough = (places[0].len() * float.len()) as f64 >= ENOUGH * conv.row() as f64;
        let measure = |float: &[&Map], own: &[&Map], channel| measure(&single, float, own, channel, &places, is_enough);
        let sums: Vec<Sums> = if groups == 1 {
            let parts = float.par_chunks(PICTURES_OF_A_PART).zip(own.par_chunks(PICTURES_OF_A_PART));
            let parts: Vec<Sums> = parts.map(|(float, own)| measure(float, own, None)).collect();
            parts.into_iter().reduce(Sums::plus).into_iter().collect()
        } else {
            (0..groups).into_par_iter().map(|channel| measure(float, own, Some(channel))).collect()
        };
        let mean = |of: fn(&Sums) -> &Vec<f64>| {
            sums.iter().flat_map(|sums| of(sums).iter().map(|sum| sum / sums.pixels)).collect::<Vec<f64>>()
        };
        let (float_mean, mean) = (mean(|sums| &sums.float), mean(|sums| &sums.own));
        let row = conv.row();
        let covariance = |sums: &Sums| {
            let mean = |at: usize| sums.own[at] / sums.pixels;
            Mat::from_fn(row, row, |i, j| sums.products[(i, j)] / sums.pixels - mean(i) * mean(j))
        };
        let drift = |sums: &Sums| {
            let moved = |at: usize| (sums.float[at] - sums.own[at]) / sums.pixels;
            Mat::from_fn(row, row, |i, j| sums.drift[(i, j)] / sums.pixels - moved(i) * sums.own[j] / sums.pixels)
        };
        let covariance = Covariance::new(sums.iter().map(covariance).collect());
        Self { float_mean, mean, covariance, drift: sums.iter().map(drift).collect(), is_enough }
    }

    /// By how much the mean of each output must be raised, when `rounded` stand for the `weights` of `conv` (Nagel et al.
    /// 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2).
    pub fn bias_correction(&self, conv: &Conv, rounded: &[f32]) -> Vec<f32> {
        let row = conv.row();
        let of = |output: usize| {
            let group = if conv.groups == 1 { 0 } else { output };
            let along = |weights: &[f32], mean: &[f64]| -> f64 {
                weights[output * row..][..row].iter().zip(&mean[group * row..]).map(|(w, m)| f64::from(*w) * m).sum()
            };
            (along(&conv.weights, &self.float_mean) - along(rounded, &self.mean)) as f32
        };
        (0..conv.outputs).map(of).collect()
    }

    /// The weights whose results for the quantized inputs come nearest to those of `conv` for the float inputs: least
    /// squares, as in GPTAQ (Li et al. 2025, "Efficient Finetuning-Free Quantization for Asymmetric Calibration").
    pub fn compensated(&self, conv: &Conv) -> Result<Vec<f32>> {
        let row = conv.row();
        let mut weights = conv.weights.clone();
        if !self.is_enough {
            return Ok(weights);
        }
        for (group, drift) in self.drift.iter().enumerate() {
            let solver = damped(self.covariance.of_output(group).clone(), DAMPING)?;
            let outputs = if conv.groups == 1 { 0..conv.outputs } else { group..group + 1 };
            let count = outputs.len();
            let own = &mut weights[outputs.start * row..outputs.end * row];
            // wanted: W · drift; solved with the covariance from the right.
            let matrix = Mat::from_fn(count, row, |i, j| f64::from(own[i * row + j]));
            let wanted = &matrix * drift;
            let change = solver.solve(wanted.transpose());
            for (at, weight) in own.iter_mut().enumerate() {
                *weight += change[(at % row, at / row)] as f32;
            }
        }
        Ok(weights)
    }
}

/// Pixels for each weight of a row that a compensation needs; from fewer it would learn the calibration pictures by heart.
const ENOUGH: f64 = 8.0;
/// Pixels that are looked at, over all pictures: more would change nothing but the time.
const SAMPLES_PER_WEIGHT: usize = 24;
const LEAST_SAMPLES: usize = 8_192;
/// Pixels, over pictures, whose products are added in 32 bits.
const PIXELS_OF_A_PRODUCT: usize = 512;
/// Pictures whose sums are made by one thread. Not a share of the threads: sums in another order would give another file.
const PICTURES_OF_A_PART: usize = 64;
/// Beyond every picture.
const OUTSIDE: usize = usize::MAX;
/// Keeps the compensation small where inputs hardly vary, as a share of the mean variance.
const DAMPING: f64 = 0.02;

impl Sums {
    fn plus(mut self, other: Self) -> Self {
        self.pixels += other.pixels;
        self.float.iter_mut().zip(&other.float).for_each(|(a, b)| *a += b);
        self.own.iter_mut().zip(&other.own).for_each(|(a, b)| *a += b);
        self.products += &other.products;
        self.drift += &other.drift;
        self
    }
}

/// For each weight of a channel, where each output pixel that is looked at finds what this weight meets; outside of the picture
/// is `OUTSIDE`.
fn places(single: &Conv, maps: &[&Map]) -> Vec<Vec<usize>> {
    let [_, height, width] = maps.first().map_or([0; 3], |map| map.shape);
    let (out_width, pixels) = (single.out(width), single.out(height) * single.out(width));
    // Odd, so that no column of the picture is always or never taken.
    let every = (pixels * maps.len() / (SAMPLES_PER_WEIGHT * single.row()).max(LEAST_SAMPLES)).max(1) | 1;
    let of_weight = |weight: usize| {
        let place = |at: usize| {
            let [v, u] = [at / out_width, at % out_width].map(|at| at * single.stride);
            let v = (v + weight / single.kernel).wrapping_sub(single.pad);
            let u = (u + weight % single.kernel).wrapping_sub(single.pad);
            if v < height && u < width { v * width + u } else { OUTSIDE }
        };
        (0..pixels).step_by(every).map(place).collect()
    };
    (0..single.kernel * single.kernel).map(of_weight).collect()
}

/// What the `places` of pictures see, as a matrix by rows, one for each weight.
fn sampled(single: &Conv, maps: &[&Map], channel: Option<usize>, places: &[Vec<usize>]) -> Vec<f32> {
    let mut columns = Vec::with_capacity(single.inputs * maps.len() * places.len() * places[0].len());
    let first = channel.unwrap_or(0);
    for channel in first..first + single.inputs {
        for places in places {
            for map in maps {
                let values = &map.values[channel * map.pixels()..][..map.pixels()];
                columns.extend(places.iter().map(|&at| values.get(at).copied().unwrap_or(0.0)));
            }
        }
    }
    columns
}

fn measure(
    single: &Conv,
    float: &[&Map],
    own: &[&Map],
    channel: Option<usize>,
    places: &[Vec<usize>],
    is_enough: bool,
) -> Sums {
    let row = single.row();
    let mut sums = Sums {
        pixels: 0.0,
        float: vec![0.0; row],
        own: vec![0.0; row],
        products: Mat::zeros(row, row),
        drift: Mat::zeros(row, row),
    };
    let mut product = vec![0f32; row * row];
    // Several small pictures in one product, and not so many that 32 bits lose anything.
    let together = (PIXELS_OF_A_PRODUCT / places[0].len().max(1)).max(1);
    for (float, own) in float.chunks(together).zip(own.chunks(together)) {
        let is_same = std::ptr::eq(float, own);
        let own_columns = sampled(single, own, channel, places);
        let float_columns = if is_same { own_columns.clone() } else { sampled(single, float, channel, places) };
        let pixels = own_columns.len() / row;
        sums.pixels += pixels as f64;
        let add = |sums: &mut [f64], columns: &[f32]| {
            for (sum, column) in sums.iter_mut().zip(columns.chunks_exact(pixels)) {
                // In lanes, which the compiler can add at once.
                let mut lanes = [0f32; 8];
                let (chunks, rest) = column.as_chunks::<8>();
                chunks.iter().for_each(|chunk| lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x));
                *sum += f64::from(lanes.iter().chain(rest).sum::<f32>());
            }
        };
        add(&mut sums.own, &own_columns);
        add(&mut sums.float, &float_columns);
        let right = MatRef::from_row_major_slice(&own_columns, row, pixels);
        let mut multiply = |left: &[f32], into: &mut Mat<f64>, structure: BlockStructure| {
            let left = MatRef::from_row_major_slice(left, row, pixels);
            let out = MatMut::from_column_major_slice_mut(&mut product, row, row);
            let whole = BlockStructure::Rectangular;
            matmul(out, structure, Accum::Replace, left, whole, right.transpose(), whole, 1.0, Par::Seq);
            for (column, product) in into.col_iter_mut().zip(product.chunks_exact(row)) {
                column.iter_mut().zip(product).for_each(|(sum, more)| *sum += f64::from(*more));
            }
        };
        // The other half is the same.
        multiply(&own_columns, &mut sums.products, BlockStructure::TriangularLower);
        if !is_same && is_enough {
            let moved: Vec<f32> = float_columns.iter().zip(own_columns.iter()).map(|(a, b)| a - b).collect();
            multiply(&moved, &mut sums.drift, BlockStructure::Rectangular);
        }
    }
    sums.products = Mat::from_fn(row, row, |i, j| sums.products[(i.max(j), i.min(j))]);
    sums
}
